"""Sets of texts with common beginnings: each beginning goes through the network once.

Each distinct prefix of the sorted token sequences is a node of a tree (a trie). A node is fed to the network once, from
its parent's state, and predicts all its children. Here three hypotheses of five tokens take 10 steps instead of 15, as
an end symbol is never fed:

    start --- the --- cat --- sat --- down --- .
                 |       `--- ran --- off ---- .
                 `--- bat --- ran --- off ---- .

All nodes at one depth are the rows of a few calls, so texts of different sets share their beginnings too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, tee
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm import arguments
from keraslm.config import CONTEXTS
from keraslm.ngram.mixed import MixedScorer
from keraslm.scoring.batching import LINES_AHEAD, blocks
from keraslm.scoring.conditional import SEPARATOR, Joined, after_prefix, without_end
from keraslm.scoring.measures import Floats, LineScore
from keraslm.scoring.scorer import Scorer, load
from keraslm.scoring.session import Session
from keraslm.scoring.state import State
from keraslm.scoring.texts import Ends, Text, prefix_and_text
from keraslm.text.context import cut_contexts
from keraslm.text.encoders import Ids
from keraslm.text.pieces import one_line

MAX_LOGITS = 1 << 21  # largest rows x steps x vocabulary of one call: 8 MiB of logits, which fit into a cache
_ROWS = 512  # of one call
_LONE = 128  # rows for which a separate call without distributions pays; a call costs about 10 rows
_TOKENS = 1 << 18  # largest sequences x longest of them of one tree
_STATES = 1 << 24  # largest numbers of the states of one depth: 64 MiB for h, and 64 for c

Indices = NDArray[np.int64]
Model = Scorer | MixedScorer | str | Path | Sequence[str | Path]


def opened(model: Model, provider: str = "auto") -> Scorer | MixedScorer:
    return model if isinstance(model, Scorer | MixedScorer) else load(model, provider)


def score_sets(
    scorer: Scorer | MixedScorer,
    sets: Iterable[Sequence[Text]],
    texts_ahead: int = LINES_AHEAD,
    *,
    eos: bool = True,
    separator: str = SEPARATOR,
    context: str = "sentence",
) -> Iterator[list[LineScore]]:
    """Score sets of texts with common beginnings: the hypotheses of an utterance, the sentences of a minimal pair.

    Each text is scored alone, or after its prefix, from a zero state. The numbers are those of `Scorer.score` and
    `Scorer.score_lines`, except for rounding.

    Args:
        scorer: of a model, or its mixture with an n-gram model. A mixture whose tokenizer cuts words into parts needs
            complete distributions, and computes common beginnings once per text.
        sets: of any size; the result for an empty set is an empty list. A text is one line, or a pair of a prefix,
            which may have several lines, and a line.
        texts_ahead: number of texts that are read ahead and scored together; the last set may exceed it.
        eos: score the end symbol after each text.
        separator: between prefix and text, unless white space is there already.
        context: how far the state is carried within a prefix and its text: `"sentence"`, `"paragraph"` or `"document"`.

    Yields:
        One list per set with one score per text, in order, without ranks and entropies.

    Example:
        >>> good, bad = next(keraslm.score_sets(scorer, [["the cat sits", "the cat sit"]]))
        >>> good.logprob > bad.logprob
        True
        >>> good, bad = next(keraslm.score_sets(scorer, [[("the cat", "sits"), ("the cat", "sit")]], eos=False))
        >>> good.text, good.given
        ('sits', 'the cat ')
    """
    arguments.instance(scorer, Scorer | MixedScorer, "scorer", "a Scorer")
    arguments.choice(context, "context", CONTEXTS)
    ahead = arguments.integer(texts_ahead, "texts_ahead", 1)
    ends = Ends(eos=eos, separator=separator)
    items = arguments.each(sets, "sets", "lists of strings, or of pairs of a prefix and a text")
    joined = (tuple(_joined(own, place, ends.separator)) for own, place in items)
    if isinstance(scorer, Scorer):
        return _score_sets(scorer, joined, ahead, ends, context)
    return _mixed_sets(scorer, joined, ahead, ends, context)


def _mixed_sets(
    scorer: MixedScorer, sets: Iterable[tuple[Joined, ...]], texts_ahead: int, ends: Ends, context: str
) -> Iterator[list[LineScore]]:
    """Mix complete lines, because the n-gram model needs their beginnings; then leave out prefixes and ends."""
    kept, read = tee(sets)
    found: Iterator[LineScore]
    if scorer.boundary is None:
        whole = (tuple(replace(joined, given=0, start=0) for joined in own) for own in read)
        lines = _score_sets(scorer.scorer, whole, texts_ahead, replace(ends, eos=True), context)
        found = (scorer.mix(line) for own in lines for line in own)
    else:
        texts = (joined for own in read for joined in own)
        found = _last_lines(scorer, texts, texts_ahead, context)
    for own in kept:
        results = [after_prefix(next(found), scorer.tokenizer, joined.given, joined.start) for joined in own]
        yield results if ends.eos else [without_end(line) for line in results]


def _last_lines(scorer: MixedScorer, texts: Iterable[Joined], texts_ahead: int, context: str) -> Iterator[LineScore]:
    """The scores of the last line of each text."""
    kept, read = tee(texts)
    lines = scorer.score_lines(
        chain.from_iterable(chain(joined.lines, [None]) for joined in read), context, lines_ahead=texts_ahead
    )
    for joined in kept:
        *_, last = islice(lines, len(joined.lines))
        yield last


def _joined(texts: Any, place: str, separator: str) -> Iterator[Joined]:
    for each, where in arguments.each(texts, place, "strings, or pairs of a prefix and a text"):
        prefix, text = prefix_and_text(each, where)
        yield Joined.of(prefix, one_line(text, where), separator)


def _score_sets(
    scorer: Scorer, sets: Iterable[tuple[Joined, ...]], texts_ahead: int, ends: Ends, context: str
) -> Iterator[list[LineScore]]:
    end = scorer.session.info.eos_id
    for block in blocks(sets, texts_ahead, 16, lambda own: [line for joined in own for line in joined.lines]):
        texts = [joined for own in block for joined in own]
        encoded = iter(scorer.tokenizer.encode_lines([line for joined in texts for line in joined.lines]))
        ids = [[next(encoded) for _ in joined.lines] for joined in texts]
        if not ends.eos:  # nothing has to be fed to predict it
            ids = [[*before, last[:-1]] for *before, last in ids]
        cut = [cut_contexts(np.concatenate(lines), end, end, context) for lines in ids]
        parts = [[part for part in own if len(part)] for own in cut]  # several where the state is reset
        found = iter(score_sequences(scorer.session, [part for own in parts for part in own]))
        scores = (np.concatenate([np.empty(0), *(next(found) for _ in own)]) for own in parts)
        results = (_result(scorer, *each, ends.eos) for each in zip(texts, ids, scores, strict=True))
        yield from (list(islice(results, len(own))) for own in block)


def _result(scorer: Scorer, joined: Joined, lines: Sequence[Ids], scores: Floats, eos: bool) -> LineScore:
    """The scores of a text from those of the tokens of all its lines, `(tokens,)`."""
    ids = lines[-1]
    own = scores[len(scores) - len(ids) :]
    line = LineScore(joined.lines[-1], ids, own, ids == scorer.session.info.unk_id, eos=eos)
    return after_prefix(line, scorer.tokenizer, joined.given, joined.start)


def score_sequences(session: Session, sequences: Sequence[Ids]) -> list[Floats]:
    """Log-probability of each token of each sequence, float64 `(tokens,)`; the first after a zero state and `<eos>`."""
    order = sorted(range(len(sequences)), key=lambda number: sequences[number].astype(">u4").tobytes())
    scores: list[Floats] = [np.empty(0)] * len(sequences)
    for part in _parts(order, [len(ids) for ids in sequences], _STATES // session.state_size):
        tree = Tree.of([sequences[number] for number in part])
        logprobs = _walk(session, tree)
        for number, edges in zip(part, tree.edges_of_rows, strict=True):
            scores[number] = logprobs[edges[: len(sequences[number])]]
    return scores


@dataclass(frozen=True)
class Tree:
    """Sorted sequences as a tree. Dimensions: `E` edges, `D` depths, `S` sequences.

    An edge is a token after a prefix; edges are numbered depth by depth. A node is fed if an edge leaves it; the fed
    nodes of each depth are numbered from 0, in the order of the edges that lead to them.
    """

    tokens: Indices  # of each edge, (E,)
    sources: Indices  # edge before each edge, (E,); -1 at the start
    nodes: Indices  # number of the node that each edge leaves, (E,)
    starts: Indices  # first edge of each depth, and E at the end, (D + 1,)
    widths: Indices  # number of fed nodes at each depth, (D,)
    edges_of_rows: Indices  # edges along each sequence, (S, D); meaningless after its end

    @classmethod
    def of(cls, sequences: Sequence[Ids]) -> Tree:
        """The tree of sorted sequences; a prefix sorts before the sequences that it begins."""
        lengths = np.array([len(ids) for ids in sequences])
        table = np.full((len(sequences), lengths.max()), -1, np.int64)  # [S, D]
        table[np.arange(table.shape[1]) < lengths[:, None]] = np.concatenate(sequences)
        changed = np.ones(table.shape, bool)
        changed[1:] = np.logical_or.accumulate(table[1:] != table[:-1], axis=1)
        first = (changed & (table >= 0)).T  # [D, S]: where an edge occurs for the first time
        edges = np.cumsum(first).reshape(first.shape) - 1
        depths, rows = np.nonzero(first)
        sources = np.where(depths > 0, edges[depths - 1, rows], -1)
        starts = np.searchsorted(depths, np.arange(len(first) + 1))
        other = np.ones(len(sources), bool)
        other[1:] = (sources[1:] != sources[:-1]) | (depths[1:] != depths[:-1])
        nodes = np.cumsum(other)
        nodes -= nodes[starts[depths]]
        return cls(table[rows, depths], sources, nodes, starts, nodes[starts[1:] - 1] + 1, edges.T)

    def straight(self, depth: int) -> int:
        """Number of depths from this one on at which exactly one edge leaves each node of this depth."""
        width = self.widths[depth]
        same = (self.widths[depth:] == width) & (np.diff(self.starts[depth:]) == width)
        return len(same) if same.all() else int(same.argmin())


def _walk(session: Session, tree: Tree) -> Floats:
    """Log-probability of each edge, `(E,)`."""
    logprobs = np.empty(len(tree.tokens))
    state, inputs, depth = session.zero_state(1), np.array([session.info.bos_id]), 0
    while depth < len(tree.widths):
        begin, end = tree.starts[depth], tree.starts[depth + 1]
        nodes = tree.nodes[begin:end]
        first = np.flatnonzero(np.diff(nodes, prepend=-1))  # the first edge of each node
        if depth:
            sources = tree.sources[begin:end][first]
            state, inputs = state.select(tree.nodes[sources]), tree.tokens[sources]
        steps = max(1, min(tree.straight(depth), MAX_LOGITS // (len(first) * session.logits_per_token)))
        part = slice(begin, tree.starts[depth + steps])
        tokens = tree.tokens[part]
        if len(nodes) == len(first):
            targets = tokens.reshape(steps, -1)
            found, state = _targets(session, np.concatenate([inputs[None], targets[:-1]]).T, targets.T, state)
            logprobs[part] = found.T.ravel()
        else:
            logprobs[part], state = _branching(session, inputs, nodes, tokens, state)
        depth += steps
    return logprobs


def _branching(
    session: Session, inputs: Indices, nodes: Indices, tokens: Indices, state: State
) -> tuple[Floats, State]:
    """Log-probability of each edge, `(edges,)`: its token after the input of its node; inputs `(N,)`."""
    if session.adaptive:  # a distribution costs more than one row per edge
        found, state = _targets(session, inputs[nodes][:, None], tokens[:, None], state.select(nodes))
        return found[:, 0], state.select(np.flatnonzero(np.diff(nodes, prepend=-1)))
    several = np.bincount(nodes) > 1  # [N]
    if len(several) - several.sum() < _LONE:
        several[:] = True
    forks, inner = np.flatnonzero(several), several[nodes]
    logprobs = np.empty(len(tokens))
    numbers = (np.cumsum(several) - 1)[nodes[inner]]  # of the forks that the edges leave
    logprobs[inner], after = _distributions(session, inputs[forks], numbers, tokens[inner], state.select(forks))
    lone = np.flatnonzero(~several)
    if len(lone):  # only one number per node has to leave the graph
        found, others = _targets(session, inputs[lone][:, None], tokens[~inner][:, None], state.select(lone))
        logprobs[~inner] = found[:, 0]
        after = after.join([after, others]).select(np.argsort(np.concatenate([forks, lone])))
    return logprobs, after


def _targets(session: Session, inputs: Indices, targets: Indices, state: State) -> tuple[Floats, State]:
    """Log-probability of one token per step, `(N, T)`."""
    parts = _slices(session, *inputs.shape)
    called = [session.target_logprobs(inputs[part], targets[part], state.select(part)) for part in parts]
    found, states = zip(*called, strict=True)
    return np.concatenate(found).astype(np.float64), states[0].join(states)


def _distributions(
    session: Session, inputs: Indices, nodes: Indices, tokens: Indices, state: State
) -> tuple[Floats, State]:
    """Log-probabilities of several tokens per row, `(edges,)`: `tokens` after the rows `nodes`."""
    found, states = [], []
    for part in _slices(session, len(inputs), 1):
        log_probs, after = session.run(inputs[part, None], state.select(part))  # [n, 1, V]
        edges = slice(*np.searchsorted(nodes, [part.start, part.stop]))
        found.append(log_probs[nodes[edges] - part.start, 0, tokens[edges]])
        states.append(after)
    return np.concatenate(found).astype(np.float64), states[0].join(states)


def _slices(session: Session, rows: int, steps: int) -> Iterator[slice]:
    size = max(1, min(_ROWS, MAX_LOGITS // (steps * session.logits_per_token)))
    yield from (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def _parts(order: Sequence[int], lengths: Sequence[int], limit: int) -> Iterator[list[int]]:
    """Sorted sequences in parts that one tree can hold."""
    part: list[int] = []
    longest = 0
    for number in order:
        longest = max(longest, lengths[number])
        if part and ((len(part) + 1) * longest > _TOKENS or len(part) >= limit):
            yield part
            part, longest = [], lengths[number]
        part.append(number)
    if part:
        yield part
