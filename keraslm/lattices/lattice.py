"""Word lattices as values: nodes in topological order, arcs with a word and the scores of the first pass.

    0 --the-- 1 --cat-- 2 ---- 4      four words in two paths; the arcs into the last node, 4, end the sentence
               `--bat-- 3 ---´

Dimensions: `N` nodes, `A` arcs. Scores are natural logarithms; larger is better.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from keraslm.errors import TextError, shown
from keraslm.scoring.measures import Floats

K = TypeVar("K")
V = TypeVar("V")
Indices = NDArray[np.int64]
_LARGEST = 1e30  # of the numbers in files; HTK writes -1e10 for the logarithm of 0

Source = Literal["slf", "compact", "lattice"]  # HTK's format, and Kaldi's two

NULL = ""  # the word of an arc without one: !NULL in HTK's files, <eps> in Kaldi's
FILLERS = frozenset({NULL, "!NULL", "<eps>", "!SENT_START", "!SENT_END", "!ENTER", "!EXIT", "<s>", "</s>"})


@dataclass(frozen=True)
class Arc:
    """An arc as it is in a file: the numbers of its nodes, its word and scores; `where` is file and line.

    `fields` is what only the file format knows: alignments, transition ids.
    """

    start: int
    end: int
    word: str = NULL
    acoustic: float = 0.0
    old: float = 0.0
    fields: str = ""
    where: str = "lattice"


@dataclass(frozen=True)
class Header:
    """The utterance, the weights that a lattice was made with, and what only the file format knows."""

    utterance: str
    lm_scale: float = 1.0
    acoustic_scale: float = 1.0
    word_penalty: float = 0.0
    source: Source = "slf"
    fields: str = ""


@dataclass(frozen=True, eq=False)
class Lattice:
    """A word lattice. Node 0 is the start, node N - 1 the end; every node is on a path from one to the other.

    Every path ends with an arc into the last node. It is not a word but the end of the sentence, and its scores are
    those that the file gives to the end.
    """

    header: Header
    starts: Indices  # node of each arc, increasing, (A,)
    ends: Indices  # node after each arc, (A,)
    words: tuple[str, ...]  # (A,)
    acoustic: Floats  # (A,)
    old: Floats  # score of the language model of the first pass, (A,)
    levels: Indices  # largest number of arcs before each node, increasing, (N,)
    node_fields: tuple[str, ...]  # (N,)
    arc_fields: tuple[str, ...] = field(repr=False)  # (A,)

    @property
    def utterance(self) -> str:
        return self.header.utterance

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.levels)

    def arcs_of(self, node: int) -> range:
        """The arcs that leave a node."""
        return range(*np.searchsorted(self.starts, [node, node + 1]).tolist())


def sorted_lattice(
    header: Header, nodes: Mapping[int, str], arcs: Sequence[Arc], fields: Mapping[int, str] | None = None
) -> Lattice:
    """The lattice of nodes and arcs in any order.

    Args:
        nodes: file and line of each node; the first one is the start, the last one the end.
        fields: of nodes.

    Raises:
        TextError: a cycle, no path from the start to the end, or a node on no such path.
    """
    levels = _levels(nodes, arcs)
    _check_paths(nodes, arcs)
    order = sorted(nodes, key=levels.__getitem__)
    place = {node: number for number, node in enumerate(order)}
    arcs = sorted(arcs, key=lambda arc: place[arc.start])
    return Lattice(
        header,
        np.array([place[arc.start] for arc in arcs], np.int64),
        np.array([place[arc.end] for arc in arcs], np.int64),
        tuple(arc.word for arc in arcs),
        np.array([arc.acoustic for arc in arcs]),
        np.array([arc.old for arc in arcs]),
        np.array([levels[node] for node in order], np.int64),
        tuple((fields or {}).get(node, "") for node in order),
        tuple(arc.fields for arc in arcs),
    )


def _levels(nodes: Iterable[int], arcs: Sequence[Arc]) -> dict[int, int]:
    """Largest number of arcs on a way to each node; a `TextError` if there is a cycle."""
    levels, waiting = dict.fromkeys(nodes, 0), Counter(arc.end for arc in arcs)
    ready, after = [node for node in levels if not waiting[node]], _grouped((arc.start, arc) for arc in arcs)
    for node in ready:  # grows
        for arc in after.get(node, ()):
            levels[arc.end] = max(levels[arc.end], levels[node] + 1)
            waiting[arc.end] -= 1
            if not waiting[arc.end]:
                ready.append(arc.end)
    if len(ready) < len(levels):
        left = levels.keys() - ready
        before = {arc.end: arc for arc in arcs if arc.start in left and arc.end in left}
        node, passed = min(before), set[int]()
        while node not in passed:
            passed.add(node)
            node = before[node].start
        arc = before[node]
        raise TextError(f"{arc.where}: the arc from {arc.start} to {node} is in a cycle; a lattice has none.")
    return levels


def _check_paths(nodes: Mapping[int, str], arcs: Sequence[Arc]) -> None:
    names = list(nodes)
    first, last = names[0], names[-1]
    forward = _reached(first, _grouped((arc.start, arc.end) for arc in arcs))
    backward = _reached(last, _grouped((arc.end, arc.start) for arc in arcs))
    if last not in forward:
        raise TextError(f"{nodes[first]}: no path leads from node {first}, the start, to an end.")
    for node, where in nodes.items():
        if node not in forward or node not in backward:
            missing = f"the start to node {node}" if node not in forward else f"node {node} to an end"
            raise TextError(f"{where}: no path leads from {missing}.")


def _reached(node: int, after: Mapping[int, Sequence[int]]) -> set[int]:
    found, waiting = {node}, [node]
    while waiting:
        new = {*after.get(waiting.pop(), ())} - found
        found |= new
        waiting += new
    return found


def _grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    groups: dict[K, list[V]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def once(lattices: Iterable[Lattice]) -> Iterator[Lattice]:
    """The lattices; a `TextError` if two have the same utterance."""
    seen: set[str] = set()
    for lattice in lattices:
        if lattice.utterance in seen:
            raise TextError(f"Utterance {shown(lattice.utterance)} comes a second time; each lattice needs its own.")
        seen.add(lattice.utterance)
        yield lattice


def number(text: str, where: str) -> float:
    """A number in a file; a `TextError` if there is none, or one so large that sums are not finite."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= _LARGEST:
        raise TextError(f"{where}: {shown(text)} is not a finite number of at most {_LARGEST:g}.")
    return value


def count(text: str, where: str) -> int:
    """An integer of 0 or more in a file; a `TextError` if there is none."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise TextError(f"{where}: {shown(text)} is not an integer of 0 or more.")
    return int(text)
