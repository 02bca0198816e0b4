"""Sets of texts that begin alike: each beginning goes through the network once.

The token sequences are sorted, and each distinct prefix of them is a node of a tree (a trie). A node is fed to the
network once, from its parent's state, and answers for all its children. Here three hypotheses of five tokens take 10
steps instead of 15, for an end symbol is never fed:

    start --- the --- cat --- sat --- down --- .
                 |       `--- ran --- off ---- .
                 `--- bat --- ran --- off ---- .

All nodes at one depth are the rows of a few calls, of however many sets they are: what stands together in a call does
not matter, and texts of different sets that begin alike share their beginnings, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from keraslm.errors import KeraslmError
from keraslm.scoring.measures import LineScore
from keraslm.scoring.scorer import Scorer
from keraslm.scoring.session import Session
from keraslm.scoring.state import State
from keraslm.text.encoders import Ids

_CELLS = 1 << 21  # largest rows x steps x vocabulary of one call: 8 MiB of logits, which a cache can hold
_ROWS = 512  # of one call
_LONE = 128  # rows for which a call of their own pays that leaves out the distributions; a call costs some 10 rows
_TOKENS = 1 << 18  # largest sequences x longest of them of one tree
_STATES = 1 << 24  # largest numbers of the states of one depth: 64 MiB for h, and 64 for c
_TEXTS = 1 << 12  # that are read ahead
_CHARACTERS = 1 << 20  # of them, at most, but for the last set

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def score_sets(scorer: Scorer, sets: Iterable[Sequence[str]], window: int = _TEXTS) -> Iterator[list[LineScore]]:
    """Score sets of texts that begin alike: the hypotheses of an utterance, the sentences of a minimal pair.

    Each text stands alone, from a zero state, its end symbol included; the numbers are those of `Scorer.score_lines`
    but for rounding. The first sets are answered before many are read, and memory depends on a window, not on how many
    sets there are.

    Args:
        scorer: with the model.
        sets: of any sizes; an empty one is answered by an empty list.
        window: texts that are read ahead and scored together, give or take a set.

    Returns:
        one list a set, one score a text, both in order. Ranks and entropies are not found.

    Example:
        >>> good, bad = next(keraslm.score_sets(scorer, [["the cat sits", "the cat sit"]]))
        >>> good.logprob > bad.logprob
        True
    """
    for block in _windows(sets, window):
        texts = [text for texts in block for text in texts]
        ids = scorer.tokenizer.encode_lines(texts) if texts else []
        scores = zip(texts, ids, score_sequences(scorer.session, ids), strict=True)
        lines = (LineScore(text, own, found, own == scorer.session.info.unk_id) for text, own, found in scores)
        yield from (list(islice(lines, len(texts))) for texts in block)


def score_sequences(session: Session, sequences: Sequence[Ids]) -> list[Floats]:
    """Log-probability of each token of each sequence, the first from the end symbol and a zero state.

    Args:
        session: an open model file.
        sequences: of token ids, at least one each, shape `(tokens,)`; one that is there twice costs nothing more.

    Returns:
        natural logarithms, float64 `(tokens,)` each, in the order of the sequences.
    """
    order = sorted(range(len(sequences)), key=lambda number: sequences[number].astype(">u4").tobytes())
    limit = _STATES // session.state_size
    scores: list[Floats] = [np.empty(0)] * len(sequences)
    for part in _parts(order, [len(ids) for ids in sequences], limit):
        tree = Tree.of([sequences[number] for number in part])
        logprobs = _walk(session, tree)
        for number, edges in zip(part, tree.edges_of_rows, strict=True):
            scores[number] = logprobs[edges[: len(sequences[number])]]
    return scores


@dataclass(frozen=True)
class Tree:
    """Sorted sequences as a tree. Letters: `E` edges, `D` depths, `S` sequences.

    An edge is a token behind a prefix; edges are numbered depth by depth. A node is fed if an edge leaves it; the nodes
    that are fed at a depth are numbered from 0, in the order of the edges that lead to them.

    Attributes:
        tokens: of each edge, `(E,)`.
        sources: the edge that leads to where each edge begins, `(E,)`; -1 for the start.
        nodes: which of the nodes that are fed at its depth each edge leaves, `(E,)`.
        starts: the first edge of each depth, and E at the end, `(D + 1,)`.
        widths: nodes that are fed at each depth, `(D,)`.
        edges_of_rows: the edges along each sequence, `(S, D)`; meaningless behind its end.

    Example:
        >>> tree = Tree.of([np.array([2, 3]), np.array([2, 5])])
        >>> tree.tokens.tolist(), tree.sources.tolist(), tree.starts.tolist()
        ([2, 3, 5], [-1, 0, 0], [0, 1, 3])
    """

    tokens: Indices
    sources: Indices
    nodes: Indices
    starts: Indices
    widths: Indices
    edges_of_rows: Indices

    @classmethod
    def of(cls, sequences: Sequence[Ids]) -> Tree:
        """The tree of sequences that are sorted, a shorter one before those that it begins."""
        lengths = np.array([len(ids) for ids in sequences])
        table = np.full((len(sequences), lengths.max()), -1, np.int64)  # [S, D]
        table[np.arange(table.shape[1]) < lengths[:, None]] = np.concatenate(sequences)
        changed = np.ones(table.shape, bool)
        changed[1:] = np.logical_or.accumulate(table[1:] != table[:-1], axis=1)
        first = (changed & (table >= 0)).T  # [D, S]: where an edge is met for the first time
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
        """Depths from this one on at which every node that is fed at this one goes on, and by one edge."""
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
        steps = max(1, min(tree.straight(depth), _CELLS // (len(first) * session.logits_per_token)))
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
    """Log-probabilities of the edges at one depth, `(edges,)`, where some nodes have several.

    Args:
        inputs: of each node, `(N,)`.
        nodes: that each edge leaves.
        tokens: of each edge.
        state: of N rows, before the inputs.
    """
    if session.adaptive:  # whole distributions take more than a row for each edge
        found, state = _targets(session, inputs[nodes][:, None], tokens[:, None], state.select(nodes))
        return found[:, 0], state.select(np.flatnonzero(np.diff(nodes, prepend=-1)))
    several = np.bincount(nodes) > 1  # [N]
    if len(several) - several.sum() < _LONE:
        several[:] = True
    forks, inner = np.flatnonzero(several), several[nodes]
    logprobs = np.empty(len(tokens))
    number = np.cumsum(several) - 1  # of each fork
    logprobs[inner], after = _distributions(
        session, inputs[forks], number[nodes[inner]], tokens[inner], state.select(forks)
    )
    lone = np.flatnonzero(~several)
    if len(lone):  # nothing but a number each has to leave the graph
        found, others = _targets(session, inputs[lone][:, None], tokens[~inner][:, None], state.select(lone))
        logprobs[~inner] = found[:, 0]
        after = after.join([after, others]).select(np.argsort(np.concatenate([forks, lone])))
    return logprobs, after


def _targets(session: Session, inputs: Indices, targets: Indices, state: State) -> tuple[Floats, State]:
    """Log-probability of one token a step, `(N, T)`, in calls of rows that the cache holds."""
    found, states = [], []
    for part in _slices(session, *inputs.shape):
        logprobs, after = session.target_logprobs(inputs[part], targets[part], state.select(part))
        found.append(logprobs)
        states.append(after)
    return np.concatenate(found).astype(np.float64), states[0].join(states)


def _distributions(
    session: Session, inputs: Indices, nodes: Indices, tokens: Indices, state: State
) -> tuple[Floats, State]:
    """Log-probabilities of several tokens a row, `(edges,)`: of `tokens` after the rows `nodes`."""
    found, states = [], []
    for part in _slices(session, len(inputs), 1):
        log_probs, after = session.run(inputs[part, None], state.select(part))  # [n, 1, V]
        edges = slice(*np.searchsorted(nodes, [part.start, part.stop]))
        found.append(log_probs[nodes[edges] - part.start, 0, tokens[edges]])
        states.append(after)
    return np.concatenate(found).astype(np.float64), states[0].join(states)


def _slices(session: Session, rows: int, steps: int) -> Iterator[slice]:
    size = max(1, min(_ROWS, _CELLS // (steps * session.logits_per_token)))
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


def _windows(sets: Iterable[Sequence[str]], limit: int) -> Iterator[list[Sequence[str]]]:
    """Sets in windows of about `limit` texts, small ones at first. When their source fails, those before come first."""
    window: list[Sequence[str]] = []
    size, texts, characters = 1, 0, 0
    try:
        for each in sets:
            window.append(each)
            texts += len(each)
            characters += sum(map(len, each))
            if texts >= limit or len(window) >= size or characters > _CHARACTERS:
                yield window
                window, texts, characters, size = [], 0, 0, size * 16
    except KeraslmError:
        if window:
            yield window
        raise
    if window:
        yield window
