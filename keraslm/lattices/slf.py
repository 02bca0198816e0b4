r"""HTK's Standard Lattice Format (HTK Book, chapter "HTK Standard Lattice Format"), one lattice per file.

    VERSION=1.0
    UTTERANCE=u1
    lmscale=12.0  wdpenalty=-5.0  acscale=1.0
    N=4  L=4
    I=0  t=0.00  W=!NULL
    I=1  t=0.31  W=the
    ...
    J=0  S=0  E=1  a=-310.5  l=-2.3

Field names may be long (`WORD`, `START`, `acoustic`) or short. A word belongs to a link, or to the node at its end; the
word of the first node is not used. A value may be in quotes; `\"` is a quotation mark and `\303\251` two bytes of a
character. `#` starts a comment. Scores have the logarithm of `base` (0: they are probabilities), and so has
`wdpenalty`; a base of 1 is HTK's name for e. The scores `n=` and `r=` are kept, but not counted.

If all links into the last node have no word, such as `!NULL` or `</s>`, they end the sentence. Otherwise a link without
a word is added. Sublattices and backward lattices are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

from keraslm.errors import TextError, shown
from keraslm.lattices.lattice import FILLERS, NULL, Arc, Header, Lattice, count, number, sorted_lattice
from keraslm.lattices.rescored import RescoredLattice
from keraslm.text.files import TextFile
from keraslm.text.paths import PACKED, STDIN
from keraslm.text.pieces import one_line

_NULL = "!NULL"
_SPACE = " \t\v\f\r"
_FIELD = re.compile(
    rf"""(?P<name>[A-Za-z0-9_]+)=(?P<value>"(?:\\.|[^"\\])*"(?=[{_SPACE}]|$)|'(?:\\.|[^'\\])*'(?=[{_SPACE}]|$)"""
    rf"""|(?:\\.|[^{_SPACE}\\])+)[{_SPACE}]*"""
)
_ESCAPE = re.compile(r"((?:\\[0-7]{3})+)|\\(.)")
_LONG = {"NODES": "N", "LINKS": "L", "VERSION": "V", "UTTERANCE": "U", "SUBLAT": "S"}
_LONG |= {"START": "S", "END": "E", "WORD": "W", "acoustic": "a", "language": "l", "ngram": "n"}
_WEIGHTS = ("lmscale", "acscale", "wdpenalty")
_WRITTEN = {*_WEIGHTS, "V", "U", "S", "N", "L", "base", "start", "end", "dir", "lmname"}  # header fields not copied
_OF_KALDI = ' A lattice of Kaldi needs `format="kaldi"`.'

Fields = dict[str, str]  # raw values by short name


def read_slf(file: TextFile) -> Lattice:
    """The lattice of a file; a `TextError` names the line that is malformed."""
    return _Reader(file).lattice()


class _Reader:
    def __init__(self, file: TextFile):
        self.file, self.name = file, file.name
        self.header: Fields = {}
        self.header_line = 1
        self.nodes: dict[int, tuple[Fields, str]] = {}  # fields, and file and line
        self.links: list[tuple[Fields, str]] = []

    def lattice(self) -> Lattice:
        self._read_lines()
        where = f"{self.name}:{self.header_line}"
        for name, found, plural in (("N", len(self.nodes), "nodes"), ("L", len(self.links), "links")):
            if name not in self.header:
                advice = "" if self.header else _OF_KALDI
                raise TextError(f"{where}: no {name}=, the number of {plural}, before the nodes.{advice}")
            if count(self.header[name], where) != found:
                raise TextError(f"{where}: {name}={self.header[name]}, but the file has {found} {plural}.")
        if not self.nodes:
            raise TextError(f"{where}: a lattice without nodes.")
        header = self._header(where)
        arcs = [self._arc(*link) for link in self.links]
        start, end = self._end("start", {arc.end for arc in arcs}), self._end("end", {arc.start for arc in arcs})
        places = {start: self.nodes[start][1]} | {node: place for node, (_, place) in self.nodes.items() if node != end}
        places[end] = self.nodes[end][1]
        fields = {node: self._rest(own, ("I", "W")) for node, (own, _) in self.nodes.items()}
        into = [arc for arc in arcs if arc.end == end]
        if not into or any(arc.word not in FILLERS for arc in into):
            last = max(self.nodes) + 1
            arcs.append(Arc(end, last, where=places[end]))
            places[last], fields[last] = places[end], fields[end]
        return sorted_lattice(header, places, arcs, fields)

    def _read_lines(self) -> None:
        for line_number, line in enumerate(self.file, 1):
            where = f"{self.name}:{line_number}"
            fields = _fields(line, where, "" if self.header else _OF_KALDI)
            if not fields:
                if line.strip() == ".":
                    break
                continue
            kind = next(iter(fields))
            if kind == "I":
                node = count(fields["I"], where)
                if node in self.nodes:
                    raise TextError(f"{where}: node {node} comes a second time.")
                self.nodes[node] = fields, where
            elif kind == "J":
                self.links.append((fields, where))
            elif self.nodes or self.links:
                raise TextError(f"{where}: {kind}= after the first node; a line with I= or J= is expected.")
            else:
                self.header |= fields
                self.header_line = line_number

    def _header(self, where: str) -> Header:
        own = self.header
        if "S" in own or any("L" in fields for fields, _ in self.nodes.values()):
            raise TextError(f"{where}: the lattice has sublattices (SUBLAT=). Expand them with HTK beforehand.")
        if own.get("dir", "f") != "f":
            raise TextError(f"{where}: dir={own['dir']}; only forward lattices, dir=f, are read.")
        base = number(own.get("base", "1"), where)
        if base < 0:
            raise TextError(f"{where}: base={own['base']}, but a base is above 0, or 0 for probabilities.")
        self.factor = math.log(base) if base not in (0, 1) else float(base)
        lm_scale, acoustic_scale, penalty = (
            number(own.get(name, default), where) for name, default in zip(_WEIGHTS, "110", strict=True)
        )
        utterance = self._value(own["U"], where) if "U" in own else _stem(self.file)
        penalty *= self.factor or 1.0
        return Header(utterance, lm_scale, acoustic_scale, penalty, "slf", self._rest(own, _WRITTEN))

    def _arc(self, fields: Fields, where: str) -> Arc:
        start, end = self._node(fields, "S", where), self._node(fields, "E", where)
        word = self._value(fields.get("W", self.nodes[end][0].get("W", _NULL)), where)
        acoustic, old = (self._score(fields[name], where) if name in fields else 0.0 for name in ("a", "l"))
        kept = {name: f"{self._score(fields[name], where):.9g}" for name in ("n", "r") if name in fields}
        rest = self._rest(fields | kept, ("J", "S", "E", "W", "a", "l"))
        return Arc(start, end, NULL if word == _NULL else word, acoustic, old, rest, where)

    def _node(self, fields: Fields, name: str, where: str) -> int:
        if name not in fields:
            raise TextError(f"{where}: a link without {name}=, the node at its {'start' if name == 'S' else 'end'}.")
        node = count(fields[name], where)
        if node not in self.nodes:
            raise TextError(f"{where}: {name}={node}, but there is no node I={node}.")
        return node

    def _end(self, name: str, others: set[int]) -> int:
        """The node that the header names as `start` or `end`, or the only one without links into or out of it."""
        where = f"{self.name}:{self.header_line}"
        if name in self.header:
            node = count(self.header[name], where)
            if node not in self.nodes:
                raise TextError(f"{where}: {name}={node}, but there is no node I={node}.")
            return node
        found = [node for node in self.nodes if node not in others]
        if len(found) != 1:
            links = "into" if name == "start" else "out of"
            own = f"nodes {', '.join(map(str, found[:4]))}" if found else "no node"
            raise TextError(f"{where}: {own} without links {links} it; name the {name} of the lattice with {name}=.")
        return found[0]

    def _score(self, raw: str, where: str) -> float:
        value = number(raw, where)
        if self.factor:
            return value * self.factor
        if value <= 0:
            raise TextError(f"{where}: {raw} is not a probability above 0, as base=0 says.")
        return math.log(value)

    def _value(self, raw: str, where: str) -> str:
        """A value without its quotes and escapes."""
        inner = raw[1:-1] if len(raw) > 1 and raw[0] == raw[-1] and raw[0] in "\"'" else raw

        def plain(found: re.Match[str]) -> str:
            octal, character = found.groups()
            if octal is None:
                return character
            try:
                return bytes(int(code, 8) & 255 for code in octal[1:].split("\\")).decode(self.file.encoding)
            except UnicodeDecodeError as error:
                raise TextError(f"{where}: {shown(raw)} is not valid {self.file.encoding} ({error.reason}).") from error

        return one_line(_ESCAPE.sub(plain, inner), where)

    @staticmethod
    def _rest(fields: Fields, omitted: tuple[str, ...] | set[str]) -> str:
        return " ".join(f"{name}={raw}" for name, raw in fields.items() if name not in omitted)


def _fields(line: str, where: str, advice: str) -> Fields:
    """The fields of a line by short name, in order, with raw values."""
    found: Fields = {}
    place = len(line) - len(line.lstrip(_SPACE))
    while place < len(line) and line[place] != "#" and line[place:].strip(_SPACE) != ".":
        match = _FIELD.match(line, place)
        if not match:
            raise TextError(f"{where}: {shown(line[place:].split(' ')[0])} is not a field such as W=word.{advice}")
        name = _LONG.get(match["name"], match["name"])
        if name in found:
            raise TextError(f"{where}: the field {name}= comes a second time in its line.")
        found[name] = match["value"]
        place = match.end()
    return found


def _stem(file: TextFile) -> str:
    path = Path("stdin" if file.path == STDIN else file.path)
    return (path.with_suffix("") if path.suffix in PACKED else path).stem


def slf_rows(rescored: RescoredLattice) -> Iterator[str]:
    """The lines of a file with the expanded lattice: `a=` acoustic and `l=` new LM scores, natural logarithms."""
    lattice, weights = rescored.lattice, rescored.weights
    own = lattice.header.source == "slf"
    yield "VERSION=1.0"
    yield f"UTTERANCE={_written(lattice.utterance)}"
    values = (weights.lm_scale, weights.acoustic_scale, weights.word_penalty)
    yield " ".join(f"{name}={value:.9g}" for name, value in zip(_WEIGHTS, values, strict=True))
    if own and lattice.header.fields:
        yield lattice.header.fields
    yield f"start=0 end={len(lattice) - 1}"
    yield f"N={len(lattice)} L={len(lattice.words)}"
    for node, fields in enumerate(lattice.node_fields):
        yield " ".join([f"I={node}", *([fields] if own and fields else [])])
    for arc, (word, fields) in enumerate(zip(lattice.words, lattice.arc_fields, strict=True)):
        link = f"J={arc} S={lattice.starts[arc]} E={lattice.ends[arc]} W={_written(word)}"
        scores = f"a={lattice.acoustic[arc]:.9g} l={rescored.lm_scores[arc]:.9g}"
        yield " ".join([link, scores, *([fields] if own and fields else [])])


def _written(word: str) -> str:
    """A word with its white space, backslashes and first quotation mark escaped."""
    return re.sub(r"""[\\\s]|^["']""", lambda found: "\\" + found[0], word) or _NULL
