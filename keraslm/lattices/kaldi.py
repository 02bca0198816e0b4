"""Kaldi's lattices as text: an archive of many, as `lattice-copy ark:1.lats ark,t:-` writes it.

    utt-1                                           utt-1
    0  1  the  2.3,310.5,12_12_15                   0  1  12  the    2.3,310.5
    1  2  cat  5.1,280.0,8_8                        1  2  0   <eps>
    2  0.7,0,                                       2  0.7,0
    (a blank line)                                  (a blank line)

On the left is a CompactLattice: states, word, then graph cost, acoustic cost and transition ids. On the right is a
Lattice: states, input label, word, graph and acoustic cost. A weight of zero may be left out. A line with one state and
perhaps a weight is a final state. The first line begins at the start. Words are symbols, as `int2sym.pl` makes them, or
the integers of a `words.txt`.

Costs are negated scores: the score of the old language model is minus the graph cost, which in Kaldi also contains
transition and pronunciation probabilities.
Reference: https://github.com/kaldi-asr/kaldi (`src/lat/kaldi-lattice.cc`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from keraslm.errors import TextError, shown
from keraslm.lattices.lattice import NULL, Arc, Header, Lattice, count, number, sorted_lattice
from keraslm.lattices.rescored import RescoredLattice
from keraslm.text.files import TextFile

_EPSILON = "<eps>"
_WEIGHT = re.compile(r"([^,]+),([^,]+)(?:,([0-9_]*))?")
_SEPARATORS = re.compile("[ \t\v\f\r]+")


@dataclass(frozen=True)
class Words:
    """The integers of words in Kaldi's files; without a table, words are symbols."""

    by_id: Mapping[str, str]
    by_word: Mapping[str, str]
    name: str = "words.txt"

    def read(self, label: str, where: str) -> str:
        """The word of a label."""
        if self.by_id and label not in self.by_id:
            raise TextError(f"{where}: word {shown(label)} is no integer of {self.name}.")
        word = self.by_id.get(label, label)
        return NULL if word == _EPSILON else word

    def written(self, word: str) -> str:
        """The label of a word."""
        label = word or _EPSILON
        if self.by_word and label not in self.by_word:
            raise TextError(f"Word {shown(label)} is not in {self.name}.")
        if _SEPARATORS.search(label):
            raise TextError(
                f"Word {shown(label)} has white space, which Kaldi's format cannot hold; write SLF instead."
            )
        return self.by_word.get(label, label)


SYMBOLS = Words({}, {})


def read_words(file: TextFile) -> Words:
    """The table of a `words.txt`: a word and its integer per line."""
    by_id: dict[str, str] = {}
    by_word: dict[str, str] = {}
    for line_number, line in enumerate(file, 1):
        where, cells = f"{file.name}:{line_number}", _cells(line)
        if len(cells) != 2:
            raise TextError(f"{where}: {len(cells)} columns, but a word and its integer are expected.")
        word, label = cells[0], str(count(cells[1], where))
        if word in by_word or label in by_id:
            raise TextError(f"{where}: {shown(word if word in by_word else label)} comes a second time.")
        by_id[label], by_word[word] = word, label
    if not by_id:
        raise TextError(f"{file.name}: no words.")
    return Words(by_id, by_word, file.name)


def read_kaldi(file: TextFile, words: Words = SYMBOLS) -> Iterator[Lattice]:
    """The lattices of an archive, in order; a `TextError` names the line that is malformed."""
    key, rows = "", list[tuple[list[str], str]]()
    for line_number, line in enumerate(file, 1):
        cells, where = _cells(line), f"{file.name}:{line_number}"
        if not key:
            if len(cells) > 1:
                raise TextError(f"{where}: {len(cells)} columns, but a line with the key of a lattice is expected.")
            key, begun = "".join(cells), where
            if key.startswith(("VERSION=", "V=", "UTTERANCE=", "U=")):
                raise TextError(f'{where}: {shown(key)} begins a lattice of HTK; read it with `format="slf"`.')
        elif cells:
            rows.append((cells, where))
        else:
            yield _lattice(key, rows, words, begun)
            key, rows = "", []
    if key:
        yield _lattice(key, rows, words, begun)


def _lattice(key: str, rows: Sequence[tuple[list[str], str]], words: Words, begun: str) -> Lattice:
    if not rows:
        raise TextError(f"{begun}: lattice {key} has no states.")
    compact = _is_compact([cells for cells, _ in rows])
    nodes: dict[int, str] = {}
    arcs: list[Arc] = []
    finals: list[Arc] = []
    for cells, where in rows:
        start = count(cells[0], where)
        nodes.setdefault(start, where)
        if len(cells) < 3:
            if any(start == arc.start for arc in finals):
                raise TextError(f"{where}: state {start} is final a second time.")
            acoustic, old, ids = _weight("".join(cells[1:]), where)
            finals.append(Arc(start, -1, NULL, acoustic, old, ids, where))
            continue
        if len(cells) not in ((3, 4) if compact else (4, 5)):
            form = "from, to, word, weight" if compact else "from, to, input label, word, weight"
            raise TextError(f"{where}: {len(cells)} columns, but an arc of this lattice is: {form}.")
        if not (compact or cells[2].isdecimal()):
            raise TextError(f"{where}: {shown(cells[2])} is not an input label, an integer, or a weight is missing.")
        end, place = count(cells[1], where), 2 if compact else 3  # of the word
        nodes.setdefault(end, where)
        acoustic, old, ids = _weight("".join(cells[place + 1 :]), where)
        word = words.read(cells[place], where)
        arcs.append(Arc(start, end, word, acoustic, old, ids if compact else cells[2], where))
    if not finals:
        raise TextError(f"{begun}: lattice {key} has no final state.")
    last = max(nodes) + 1
    arcs += [replace(arc, end=last) for arc in finals]
    return sorted_lattice(Header(key, source="compact" if compact else "lattice"), nodes | {last: begun}, arcs)


def _is_compact(rows: Sequence[list[str]]) -> bool:
    """Whether a lattice is a CompactLattice: four columns are `from to word weight` there, or two labels elsewhere."""
    widths = {len(cells) for cells in rows}
    return 5 not in widths and (3 in widths or all(_WEIGHT.fullmatch(cells[3]) for cells in rows if len(cells) == 4))


def _weight(text: str, where: str) -> tuple[float, float, str]:
    """Acoustic score, score of the old language model, and transition ids of a weight."""
    if not text:
        return 0.0, 0.0, ""
    found = _WEIGHT.fullmatch(text)
    if not found:
        raise TextError(
            f"{where}: {shown(text)} is not a weight: graph cost, acoustic cost and perhaps transition ids."
        )
    graph, acoustic, ids = found.groups()
    return 0.0 - number(acoustic, where), 0.0 - number(graph, where), ids or ""


def _cells(line: str) -> list[str]:
    return [cell for cell in _SEPARATORS.split(line) if cell]


def kaldi_rows(rescored: RescoredLattice, words: Words = SYMBOLS) -> Iterator[str]:
    """The lines of an archive with the expanded lattice: graph costs are negated new LM scores.

    A lattice that was read as a Lattice is written as one; all others are a CompactLattice.
    """
    lattice, last = rescored.lattice, len(rescored.lattice) - 1
    own = lattice.header.source
    if _SEPARATORS.search(lattice.utterance):
        raise TextError(f"Utterance {shown(lattice.utterance)} has white space, which a key of Kaldi cannot have.")
    yield lattice.utterance
    new, final = last, {-1}
    for arc, word in enumerate(lattice.words):
        start, end = int(lattice.starts[arc]), int(lattice.ends[arc])
        fields = "" if own == "slf" else lattice.arc_fields[arc]
        costs = f"{0.0 - rescored.lm_scores[arc]:.9g},{0.0 - lattice.acoustic[arc]:.9g}"
        weight = costs if own == "lattice" else f"{costs},{fields}"
        if end == last and start not in final:  # a state has one final weight
            final.add(start)
            yield f"{start}\t{weight}"
            continue
        if end == last:
            end, word, new = new, NULL, new + 1
            yield f"{end}"
        labels = [*([fields or "0"] if own == "lattice" else []), words.written(word)]
        yield "\t".join([str(start), str(end), *labels, weight])
    yield ""
