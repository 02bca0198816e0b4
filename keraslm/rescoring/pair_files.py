"""Files of minimal pairs, for the methods of BLiMP (Warstadt et al. 2020).

    method       compares                                          fields of JSON Lines, or columns of a table
    sentence     two sentences                                     sentence_good, sentence_bad
    one-prefix   two words, or other texts, after the same prefix  prefix, word_good, word_bad
    two-prefix   one word, or any other text, after two prefixes   prefix_good, prefix_bad, word

JSON Lines may have the names of BLiMP instead, such as `one_prefix_word_good`, and its labels. The first line of a file
determines its format.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from keraslm.errors import TextError, shown
from keraslm.text.files import TextFile
from keraslm.text.pieces import one_line
from keraslm.text.rows import cells_of, json_object

METHODS = {
    "sentence": ("sentence_good", "sentence_bad"),
    "one-prefix": ("prefix", "word_good", "word_bad"),
    "two-prefix": ("prefix_good", "prefix_bad", "word"),
}
_FLAGS = {"sentence": "simple_LM_method", "one-prefix": "one_prefix_method", "two-prefix": "two_prefix_method"}
UNKNOWN = "-"  # field, term or UID of a pair that has none


@dataclass(frozen=True)
class Pair:
    """Two texts to compare, each after its prefix, and the labels of BLiMP; `number` is the pairID or the line."""

    good: str
    bad: str
    field: str = UNKNOWN
    term: str = UNKNOWN
    uid: str = UNKNOWN
    number: str = UNKNOWN
    prefix_good: str = ""
    prefix_bad: str = ""


class PairReader:
    """The pairs of files to which a method applies, in order; a `TextError` names a line that is not a pair.

    Attributes:
        left_out: number of pairs that are left out, in the latest pass: according to a flag in their row, such as
            BLiMP's `"one_prefix_method": false`, the method does not apply to them.
    """

    def __init__(self, files: Iterable[TextFile], method: str = "sentence"):
        self.left_out = 0
        self._files = [*files]
        self._method = method

    def __iter__(self) -> Iterator[Pair]:
        self.left_out = 0
        for pair in chain.from_iterable(map(self._pairs, self._files)):
            if pair is None:
                self.left_out += 1
            else:
                yield pair

    def _pairs(self, file: TextFile) -> Iterator[Pair | None]:
        as_json, names = False, METHODS[self._method]
        for number, line in enumerate(file, 1):
            where, cells = f"{file.name}:{number}", cells_of(line, "tsv")
            if number == 1:
                as_json = line.lstrip().startswith("{")
                if tuple(cells) == names:
                    continue
            if as_json:
                yield _of_json(line, where, number, self._method)
            elif len(cells) == len(names):
                yield pair_of(cells, self._method, where, (UNKNOWN, UNKNOWN, UNKNOWN, str(number)))
            else:
                columns = ", tab, ".join(" ".join(reversed(name.split("_"))) for name in names)
                count = {2: "two", 3: "three"}[len(names)]
                raise TextError(f"{where}: {len(cells)} columns, but {count} are expected: {columns}.")


def _of_json(line: str, where: str, number: int, method: str) -> Pair | None:
    record = json_object(line, where)
    if record.get(_FLAGS[method]) is False:
        return None
    texts = []
    for name in METHODS[method]:
        text = record.get(f"{method.replace('-', '_')}_{name}", record.get(name))
        if not isinstance(text, str):
            needed = "" if method == "sentence" else f", which the method {method} needs"
            raise TextError(f'{where}: no "{name}" with a string{needed}.')
        texts.append(one_line(text, where))
    defaults = {"field": UNKNOWN, "linguistics_term": UNKNOWN, "UID": UNKNOWN, "pairID": number}
    labels = [record.get(name, default) for name, default in defaults.items()]
    cells = (" ".join((label if isinstance(label, str) else shown(label)).split()) for label in labels)
    return pair_of(texts, method, where, tuple(cells))


def pair_of(texts: Sequence[str], method: str, where: str, labels: Sequence[str] = ()) -> Pair:
    """The pair of the texts that a method compares, in the order of `METHODS`; labels: field, term, UID, number."""
    for name, text in zip(METHODS[method], texts, strict=True):
        if name.startswith("word") and not text:
            raise TextError(f"{where}: the {name} is empty. It needs at least one character.")
    if method == "sentence":
        return Pair(*texts, *labels)
    if method == "one-prefix":
        prefix, good, bad = texts
        return replace(Pair(good, bad, *labels), prefix_good=prefix, prefix_bad=prefix)
    prefix_good, prefix_bad, word = texts
    return replace(Pair(word, word, *labels), prefix_good=prefix_good, prefix_bad=prefix_bad)
