"""Regions of a text, as reading studies divide a sentence.

text with separators        The dog | that barked | ran .
first words of regions      1 3 5          or with names    1:subject 3:relative 5:verb
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keraslm.errors import TextError
from keraslm.text.pieces import one_line, word_spans


@dataclass(frozen=True)
class Regions:
    """Where the regions of a text begin, in characters from 0, and their names: numbers from 1 unless given."""

    starts: Sequence[int]
    names: Sequence[str]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Start and end of each region, without white space around it."""
        ends = [*self.starts[1:], len(text)]
        return [(start, start + len(text[start:end].rstrip())) for start, end in zip(self.starts, ends, strict=True)]

    def name_at(self, place: int) -> str:
        """The name of the region of a character."""
        return self.names[max(0, sum(start <= place for start in self.starts) - 1)]


def split_regions(text: str, separator: str, where: str = "text") -> tuple[str, Regions]:
    """A text without its separators, and its regions; a `TextError` if a region is empty.

    White space around a separator becomes one blank.

    Example:
        >>> split_regions("The dog | that barked", "|")
        ('The dog that barked', Regions(starts=[0, 8], names=['1', '2']))
    """
    parts = one_line(text, where).split(separator)
    joined, starts = "", []
    for number, part in enumerate(parts, 1):
        own = part.strip()
        if not own:
            raise TextError(f"{where}: region {number} of {len(parts)} is empty: {text!r}.")
        apart = part[0].isspace() or (number > 1 and parts[number - 2][-1:].isspace())
        joined += " " if joined and apart else ""
        starts.append(len(joined))
        joined += own
    return joined, Regions(starts, [str(number) for number in range(1, len(parts) + 1)])


def read_regions(text: str, cell: str, where: str = "text") -> Regions:
    """The regions of a text from the numbers of their first words; a `TextError` if there is no such word.

    The first region begins with word 1, whether the cell says so or not.

    Example:
        >>> read_regions("The dog that barked ran", "3:relative 5")
        Regions(starts=[0, 8, 20], names=['1', 'relative', '3'])
    """
    words = [start for start, _ in word_spans(one_line(text, where))]
    numbers: list[int] = []
    names: list[str] = []
    for entry in cell.replace(",", " ").split():
        digits, _, name = entry.partition(":")
        if not (digits.isascii() and digits.isdigit()):
            raise TextError(
                f"{where}: {entry!r} is no region. A region is the number of its first word, or number:name."
            )
        if int(digits) != 1 and not numbers:
            numbers, names = [1], [""]
        numbers.append(int(digits))
        names.append(name)
    if not numbers:
        raise TextError(f"{where}: no regions. A region is the number of its first word, such as 1 3 5.")
    for before, number in zip([0, *numbers], numbers, strict=False):
        if not before < number <= len(words):
            fault = f"comes after {before}" if number <= before else f"does not exist: the text has {len(words)} words"
            raise TextError(f"{where}: word {number}, which begins a region, {fault}.")
    starts = [words[number - 1] for number in numbers]
    return Regions(starts, [name or str(place) for place, name in enumerate(names, 1)])
