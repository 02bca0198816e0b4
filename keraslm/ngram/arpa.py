r"""Reads ARPA files, the text format of back-off models.

    \data\
    ngram 1=4
    ngram 2=2

    \1-grams:
    -99     <s>     -0.30103        log10 probability, word, log10 back-off weight; a missing weight is 0
    -0.5    </s>
    -0.4    the     -0.2
    -0.6    cat

    \2-grams:
    -0.1    <s> the
    -0.2    the cat

    \end\

Fields are separated by tabs or blanks. What stands before `\data\` and after `\end\` is skipped, as in SRILM, and -99
is the logarithm of 0. The beginning of each n-gram, without its last word, must be listed too, as KenLM requires.
Reference: SRILM, `man/man5/ngram-format.5`.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from keraslm.errors import TextError
from keraslm.ngram.model import BEGIN, END, FAR, NOWHERE, Indices, Level, nats, number_of_ids
from keraslm.text.files import TextFile

_LONGEST = 80  # characters of the file in a message
DATA, FINISH = b"\\data\\", b"\\end\\"
_COUNT = re.compile(rb"ngram\s+(\d{1,9})\s*=\s*(\d{1,18})")

Lines = Iterator[tuple[int, bytes]]  # number and content


class _Numbers(dict[bytes, int]):
    """Ids of words, in the order in which they are first looked up."""

    def __missing__(self, word: bytes) -> int:
        self[word] = number = len(self)
        return number


@dataclass(frozen=True)
class _Section:
    """The rows of one section, as columns."""

    words: array[int] = field(default_factory=lambda: array("i"))  # ids, all words of a row after each other
    logprobs: array[float] = field(default_factory=lambda: array("d"))  # log10
    backoffs: array[float] = field(default_factory=lambda: array("d"))  # log10
    lines: array[int] = field(default_factory=lambda: array("q"))  # number of the line of each row


def read_arpa(file: TextFile) -> tuple[dict[str, int], list[Level]]:
    """The id of each word of an ARPA file, and its n-grams: one level per number of words.

    Raises:
        TextError: the file cannot be read or is no ARPA file, with file and line.
    """
    return _Reader(file).read()


class _Reader:
    """Reads one file; every fault is reported with the name of the file and the number of a line."""

    def __init__(self, file: TextFile):
        self._name = file.name
        self._lines = _lines(file)
        self._numbers = _Numbers()

    def read(self) -> tuple[dict[str, int], list[Level]]:
        counts = self._read_counts()
        number_of, sections = self._numbers.__getitem__, []
        for order, count in enumerate(counts, 1):
            sections.append(self._read_section(order, count, len(counts), number_of))
            if order == 1:
                number_of = dict(self._numbers).__getitem__  # fails for a word that has no number
        levels: list[Level] = []
        words = self._words(sections[0])
        for order, section in enumerate(sections, 1):
            levels.append(self._level(order, section, levels, number_of_ids(words)))
        for name in (BEGIN, END):
            if name not in words:
                raise TextError(f"{self._name}: no 1-gram {name}. An n-gram model of sentences has {BEGIN} and {END}.")
        return words, levels

    def _read_counts(self) -> list[int]:
        """The number of 1-grams, 2-grams, ...; reads up to the line that begins the 1-grams."""
        if not any(line.strip() == DATA for _, line in self._lines):
            raise TextError(f"{self._name}: no ARPA file of an n-gram model: no line is {DATA.decode()}.")
        counts: list[int] = []
        for number, line in self._lines:
            line = line.strip()
            if line == b"\\1-grams:" and counts:
                return counts
            found = _COUNT.fullmatch(line)
            if found and int(found[1]) == len(counts) + 1:
                counts.append(int(found[2]))
            elif line:
                wanted = f"'ngram {len(counts) + 1}=' and a number" + (" or '\\1-grams:'" if counts else "")
                raise self._fault(number, f"{_text(line)} instead of {wanted}")
        raise self._cut_short()

    def _read_section(self, order: int, count: int, last: int, number_of: Callable[[bytes], int]) -> _Section:
        """The n-grams up to the line that begins the next section, or ends the file."""
        section = _Section()
        ids, logprobs = section.words, section.logprobs
        for number, line in self._lines:
            cells = line.split()
            if order + 1 <= len(cells) <= order + 2:
                try:
                    ids.extend(map(number_of, cells[1 : order + 1]))
                    logprobs.append(float(cells[0]))
                    section.backoffs.append(float(cells[order + 1]) if len(cells) == order + 2 else 0.0)
                except KeyError as error:
                    raise self._fault(number, f"{_text(error.args[0])} is not among the 1-grams") from None
                except ValueError:
                    raise self._fault(number, f"{_text(line)} does not have numbers where they belong") from None
                section.lines.append(number)
            elif cells and cells[0].startswith(b"\\"):
                self._check_end(number, line.strip(), order, last)
                if len(section.lines) != count:
                    what = f"{len(section.lines)} {order}-grams end here, but {DATA.decode()} announces {count}"
                    raise self._fault(number, f"{what}; the file is incomplete or was changed")
                return section
            elif cells:
                raise self._fault(number, f"{len(cells)} fields, but a {order}-gram has {order + 1} or {order + 2}")
        raise self._cut_short()

    def _check_end(self, number: int, line: bytes, order: int, last: int) -> None:
        wanted = FINISH if order == last else b"\\%d-grams:" % (order + 1)
        if line != wanted:
            raise self._fault(number, f"{_text(line)} instead of {_text(wanted)}")

    def _words(self, section: _Section) -> dict[str, int]:
        words = {}
        for word, number in self._numbers.items():
            try:
                words[word.decode("utf-8")] = number
            except UnicodeDecodeError:
                row = section.words.index(number)
                raise self._fault(section.lines[row], f"the word {_text(word)} is not valid UTF-8") from None
        return words

    def _level(self, order: int, section: _Section, levels: Sequence[Level], size: int) -> Level:
        """Check the n-grams and sort them by their keys."""
        logprobs, backoffs = np.array(section.logprobs), np.array(section.backoffs)
        self._check(section, ~(logprobs <= 0), "the log10 probability is not a number of 0 or less")
        self._check(section, ~(backoffs < FAR), "the log10 back-off weight is not a finite number")
        table = np.array(section.words, np.int64).reshape(-1, order)
        before = _numbers(table[:, :-1], levels, size)
        self._check(section, before == NOWHERE, f"its first words are not among the {order - 1}-grams")
        keys = before * size + table[:, -1]
        places = np.argsort(keys, kind="stable")
        repeated = np.zeros(len(keys), bool)
        repeated[places[1:]] = keys[places[1:]] == keys[places[:-1]]
        self._check(section, repeated, f"the same {order}-gram as in a previous line")
        return Level.of(keys[places], nats(logprobs)[places], nats(backoffs)[places])

    def _check(self, section: _Section, faulty: NDArray[np.bool_], fault: str) -> None:
        if faulty.any():
            raise self._fault(section.lines[int(faulty.argmax())], fault)

    def _fault(self, number: int, fault: str) -> TextError:
        return TextError(f"{self._name}:{number}: {fault}.")

    def _cut_short(self) -> TextError:
        return TextError(f"{self._name}: ends without the line {FINISH.decode()}; the file is incomplete.")


def _lines(file: TextFile) -> Lines:
    for block in file.blocks():
        yield from enumerate(block.data.split(b"\n"), block.line)


def _numbers(table: Indices, levels: Sequence[Level], size: int) -> Indices:
    """Number of the n-gram in each row of ids; 0 for rows without words."""
    found = np.zeros(len(table), np.int64)
    for place, level in enumerate(levels):
        found = table[:, 0] if place == 0 else level.find(found, table[:, place], size)
    return found


def _text(data: bytes) -> str:
    """A part of the file in quotes, without doubled backslashes."""
    text = data.decode("utf-8", "replace")
    return f"'{text}'" if len(text) <= _LONGEST else f"'{text[:_LONGEST]}...'"
