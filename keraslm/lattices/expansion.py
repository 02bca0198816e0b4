"""The search through a lattice: partial hypotheses move from node to node, each with the state of its text.

All hypotheses at nodes of one level, between which there is no path, go through the network together. At a node, those
whose last words have the same tokens are joined: the one with the largest total goes on, with its state, and the others
become arcs to the same node of the expanded lattice, in which a node is split by its last words:

    0 --the-- 1 --cat-- 2 --sat-- 3         0 --the-- 1 --cat-- 2 cat --sat-- 3 cat sat
               `--bat--´                               `--bat-- 2 bat --sat-- 3 bat sat

The scores are exact if the model looks back no further than the words that are compared. Otherwise those after a joint
are approximations, computed from the state of its best hypothesis.
Reference: Liu, Wang, Chen, Gales and Woodland 2014, "Efficient lattice rescoring using recurrent neural network
language models", n-gram based history clustering. TheanoLM joins hypotheses in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np

from keraslm import arguments
from keraslm.errors import UsageError
from keraslm.lattices.histories import Histories, History
from keraslm.lattices.lattice import NULL, Lattice
from keraslm.lattices.rescored import KnownWeights, RescoredLattice, count_spoken
from keraslm.scoring.session import Session
from keraslm.scoring.words import Tokens, WordEncoder

RECOMBINE = 4  # words: as far as a 5-gram model looks back
MAX_HYPOTHESES = 100
_MOST = 1 << 17  # largest number of hypotheses at one level; they need about a gigabyte


@dataclass(frozen=True)
class Search:
    """Which hypotheses are joined or dropped.

    Attributes:
        recombine: number of last words in which joined hypotheses agree; 0 joins equal texts only, which is exact.
        beam: drop hypotheses whose total is more than this below the best one at their node; None drops none.
        max_hypotheses: largest number of hypotheses per node; 0 means no limit.
    """

    recombine: int = RECOMBINE
    beam: float | None = None
    max_hypotheses: int = MAX_HYPOTHESES

    def __post_init__(self) -> None:
        arguments.integer(self.recombine, "recombine", 0)
        arguments.integer(self.max_hypotheses, "max_hypotheses", 0)
        if self.beam is not None and not arguments.number(self.beam, "beam") >= 0:
            raise UsageError(f"`beam` is {self.beam:g}, but must be 0 or more.")


@dataclass(eq=False, slots=True)
class _Split:
    """A node of a lattice after certain words, with the best text up to here and all arcs that lead here."""

    node: int
    words: tuple[Tokens, ...]  # the last ones
    total: float
    history: History  # deleted once the arcs after it are scored
    arcs: list[tuple[_Split, int, float]] = field(default_factory=list)  # from, arc, log-probability
    number: int = -1  # in the expanded lattice


class Expansion:
    """Scores the paths of a lattice with a model; `run` returns the expanded lattice."""

    def __init__(
        self,
        lattice: Lattice,
        session: Session,
        encode: WordEncoder,
        weights: KnownWeights,
        search: Search,
        fillers: frozenset[str],
    ):
        self.lattice, self.encode, self.weights, self.search = lattice, encode, weights, search
        self.last, self.end = len(lattice) - 1, (session.info.eos_id,)
        ends = lattice.ends == self.last
        self.spoken = [
            NULL if at_end or word in fillers else word for word, at_end in zip(lattice.words, ends, strict=True)
        ]
        self.counts = np.array([count_spoken(word) for word in self.spoken], float)
        words = {*self.spoken} - {NULL}
        self.histories = Histories(
            session, (token for word in words for inside in (False, True) for token in encode(word, inside))
        )
        self.splits: list[dict[tuple[Tokens, ...], _Split]] = [{} for _ in range(len(lattice))]
        self.splits[0][()] = _Split(0, (), 0.0, self.histories.start)

    def run(self) -> RescoredLattice:
        kept: list[_Split] = []
        for _, nodes in groupby(range(self.last), key=self.lattice.levels.__getitem__):
            level = [split for node in nodes for split in self._kept(node)]
            if len(level) > _MOST:
                raise UsageError(
                    f"Lattice {self.lattice.utterance} has more than {_MOST} hypotheses side by side. Set `recombine`, "
                    "`beam` or `max_hypotheses`."
                )
            self._move(level)
            kept += level
        return self._expanded([*kept, *self.splits[self.last].values()])

    def _kept(self, node: int) -> list[_Split]:
        """The hypotheses at a node within the limits, the largest total first."""
        found = sorted(self.splits[node].values(), key=lambda split: -split.total)
        self.splits[node] = {}
        if self.search.beam is not None:
            lowest = found[0].total - self.search.beam
            found = [split for split in found if split.total >= lowest]
        return found[: self.search.max_hypotheses or None]

    def _move(self, splits: Sequence[_Split]) -> None:
        """Score all arcs that leave hypotheses, and add the hypotheses after them."""
        pairs = [(split, arc) for split in splits for arc in self.lattice.arcs_of(split.node)]
        tokens = [self._tokens(split, arc) for split, arc in pairs]
        scored = self.histories.extend([(split.history, own) for (split, _), own in zip(pairs, tokens, strict=True)])
        arcs, lm = [arc for _, arc in pairs], np.array([logprob for logprob, _ in scored])
        own = self.lattice
        totals = self.weights.totals(own.acoustic[arcs], own.old[arcs], lm, self.counts[arcs]).tolist()
        for (split, arc), added, total, (logprob, history) in zip(pairs, tokens, totals, scored, strict=True):
            self._join(split, arc, added, split.total + total, logprob, history)
        for split in splits:
            del split.history  # and the states that no other hypothesis needs

    def _tokens(self, split: _Split, arc: int) -> Tokens:
        if self.lattice.ends[arc] == self.last:
            return self.end
        return self.encode(self.spoken[arc], len(split.words) > 0) if self.spoken[arc] else ()

    def _join(self, before: _Split, arc: int, tokens: Tokens, total: float, logprob: float, history: History) -> None:
        node = int(self.lattice.ends[arc])
        words = before.words
        if node == self.last:
            words = ()
        elif self.spoken[arc]:
            words = (*words, tokens)[-self.search.recombine :]  # all of them if 0
        split = self.splits[node].setdefault(words, _Split(node, words, total, history))
        if total > split.total:
            split.total, split.history = total, history
        split.arcs.append((before, arc, logprob))

    def _expanded(self, splits: Sequence[_Split]) -> RescoredLattice:
        """The expanded lattice of the hypotheses that lead to the end, the last of them."""
        waiting = [splits[-1]]
        waiting[0].number = 0
        while waiting:
            for before, _, _ in waiting.pop().arcs:
                if before.number < 0:
                    before.number = 0
                    waiting.append(before)
        alive = [split for split in splits if split.number == 0]
        for number, split in enumerate(alive):
            split.number = number
        rows = [(before.number, split.number, arc, lm) for split in alive for before, arc, lm in split.arcs]
        starts, ends, arcs, logprobs = zip(*sorted(rows, key=lambda row: row[:3]), strict=True)
        nodes, own, chosen = [split.node for split in alive], self.lattice, list(arcs)
        expanded = replace(
            own,
            starts=np.array(starts, np.int64),
            ends=np.array(ends, np.int64),
            words=tuple(own.words[arc] for arc in arcs),
            acoustic=own.acoustic[chosen],
            old=own.old[chosen],
            levels=own.levels[nodes],
            node_fields=tuple(own.node_fields[node] for node in nodes),
            arc_fields=tuple(own.arc_fields[arc] for arc in arcs),
        )
        return RescoredLattice(expanded, np.array(logprobs), tuple(self.spoken[arc] for arc in arcs), self.weights)
