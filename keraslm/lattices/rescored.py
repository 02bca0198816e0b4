"""Expanded lattices with the scores of a model, and their best paths.

    total = acoustic scale * acoustic + LM scale * LM score + word penalty * words
    LM score = (1 - mix) * old + mix * log-probability of the model, its end included

All four are sums over the arcs of a path. `old` is the score of the language model of the first pass. `words` is the
number of words between white space, without fillers.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from keraslm import arguments
from keraslm.errors import UsageError
from keraslm.lattices.lattice import Lattice
from keraslm.scoring.measures import Floats, times
from keraslm.text.pieces import split_words


@dataclass(frozen=True)
class Weights:
    """How the scores of a lattice are combined; None means the value in the header of the lattice."""

    lm_scale: float | None = None
    acoustic_scale: float | None = None
    word_penalty: float | None = None
    mix: float = 1.0

    def __post_init__(self) -> None:
        for name in ("lm_scale", "acoustic_scale", "word_penalty", "mix"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(arguments.number(value, name)):
                raise UsageError(f"`{name}` is {value}, but must be a finite number.")
        if not 0 <= self.mix <= 1:
            raise UsageError(f"`mix` is {self.mix:g}, but must be between 0 and 1.")

    def of(self, lattice: Lattice) -> KnownWeights:
        own = lattice.header
        return KnownWeights(
            own.lm_scale if self.lm_scale is None else self.lm_scale,
            own.acoustic_scale if self.acoustic_scale is None else self.acoustic_scale,
            own.word_penalty if self.word_penalty is None else self.word_penalty,
            self.mix,
        )


@dataclass(frozen=True)
class KnownWeights:
    """The weights of one lattice."""

    lm_scale: float
    acoustic_scale: float
    word_penalty: float
    mix: float

    def lm_scores(self, old: Floats, lm: Floats) -> Floats:
        """LM scores of arcs; an impossible word, of log-probability -inf, does not count if the mix is 0."""
        return (1 - self.mix) * old + times(self.mix, lm)

    def totals(self, acoustic: Floats, old: Floats, lm: Floats, words: Floats) -> Floats:
        """Totals of arcs, all `(A,)`."""
        weighted = times(self.lm_scale, self.lm_scores(old, lm))
        return self.acoustic_scale * acoustic + weighted + self.word_penalty * words


@dataclass(frozen=True)
class LatticePath:
    """A text and the sums of the scores along its path, natural logarithms; `old` is that of the first pass."""

    text: str
    acoustic: float
    old: float
    logprob: float
    total: float


@dataclass(frozen=True, eq=False)
class RescoredLattice:
    """The lattice of an utterance with its nodes split by history, and the model's log-probability on each arc.

    Attributes:
        lattice: the expanded lattice; the arcs into its last node end the sentence.
        logprobs: of the words of the arcs; 0 for fillers, that of the end symbol for the last arcs; `(A,)`.
        spoken: the words as they are scored: empty for fillers and ends, `(A,)`.
        weights: of the totals.
    """

    lattice: Lattice
    logprobs: Floats
    spoken: tuple[str, ...]
    weights: KnownWeights

    @property
    def utterance(self) -> str:
        return self.lattice.utterance

    @cached_property
    def lm_scores(self) -> Floats:
        """The model's log-probabilities, mixed with the old scores, `(A,)`."""
        return self.weights.lm_scores(self.lattice.old, self.logprobs)

    @cached_property
    def totals(self) -> Floats:
        """Total of each arc, `(A,)`."""
        lattice, words = self.lattice, np.array([count_spoken(word) for word in self.spoken], float)
        return self.weights.totals(lattice.acoustic, lattice.old, self.logprobs, words)

    @cached_property
    def best(self) -> LatticePath:
        """The path with the largest total."""
        return self.nbest(1)[0]

    def nbest(self, count: int) -> list[LatticePath]:
        """The texts with the largest totals, at most `count`, best first; a text has the total of its best path."""
        arguments.integer(count, "count", 1)
        return list(itertools.islice(self._texts(), count))

    def _texts(self) -> Iterator[LatticePath]:
        """All texts, best first: A* search, with the best total from each node to the end."""
        lattice, rest, last = self.lattice, self._rests(), len(self.lattice) - 1
        # Texts are numbers: that of a text and one more word is looked up, so that equal texts are found at once.
        numbers: dict[tuple[int, str], int] = {}
        queue: list[tuple[float, int, float, int, int, tuple[int, ...]]] = [(-rest[0], 0, 0.0, 0, 0, ())]
        seen, serial = set[tuple[int, int]](), itertools.count(1)
        while queue:
            _, _, total, node, text, arcs = heapq.heappop(queue)
            if (node, text) in seen:
                continue
            seen.add((node, text))
            if node == last:
                yield self._path(list(arcs), total)
            for arc in lattice.arcs_of(node):
                after, word = int(lattice.ends[arc]), self.spoken[arc]
                longer = numbers.setdefault((text, word), len(numbers) + 1) if word else text
                if (after, longer) not in seen:
                    sofar = total + float(self.totals[arc])
                    heapq.heappush(queue, (-(sofar + rest[after]), next(serial), sofar, after, longer, (*arcs, arc)))

    def _rests(self) -> list[float]:
        """Largest total of the paths from each node to the end, `(N,)`."""
        lattice, rest = self.lattice, [-math.inf] * len(self.lattice)
        rest[-1] = 0.0
        starts, ends, totals = lattice.starts.tolist(), lattice.ends.tolist(), self.totals.tolist()
        for arc in reversed(range(len(starts))):
            rest[starts[arc]] = max(rest[starts[arc]], totals[arc] + rest[ends[arc]])
        return rest

    def _path(self, arcs: list[int], total: float) -> LatticePath:
        text = " ".join(word for word in (self.spoken[arc] for arc in arcs) if word)
        acoustic, old = float(self.lattice.acoustic[arcs].sum()), float(self.lattice.old[arcs].sum())
        return LatticePath(text, acoustic, old, float(self.logprobs[arcs].sum()), total)


def count_spoken(word: str) -> int:
    """Number of words of an arc, which may have white space in its word."""
    return len(split_words(word))
