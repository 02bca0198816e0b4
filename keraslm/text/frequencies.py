"""Frequencies of words, from a list of words and their counts."""

from __future__ import annotations

import math
import re
from functools import lru_cache

from keraslm.errors import TextError, shown
from keraslm.text.files import TextFile

MILLION = 1_000_000
_AROUND = re.compile(r"^\W+|\W+$")  # punctuation


class Frequencies:
    """Occurrences of words per million; NaN for a word that is not in the list.

    A word that is not in the list is looked up in lower case, and then without punctuation around it.

    Args:
        counts: number of occurrences of each word.
    """

    def __init__(self, counts: dict[str, float]):
        total = math.fsum(counts.values())
        self._found = {word: MILLION * count / total for word, count in counts.items()} if total else {}

    def of(self, word: str) -> float:
        """
        Example:
            >>> Frequencies({"the": 60, "dog": 40}).of("Dog,")
            400000.0
        """
        bare = _AROUND.sub("", word)
        for form in (word, word.lower(), bare, bare.lower()):
            if form in self._found:
                return self._found[form]
        return math.nan


@lru_cache(maxsize=4)
def read_frequencies(path: str) -> Frequencies:
    """Read rows of a word and its count, separated by a tab, a comma or a blank; a header is left out.

    Raises:
        TextError: a row that is no word and count, or a word that comes twice, with file and line.
    """
    file, counts = TextFile(path), dict[str, float]()
    for number, line in enumerate(file, 1):
        separator = "\t" if "\t" in line else "," if "," in line[1:] else None
        cells = line.strip().rsplit(separator, 1)
        if not line.strip():
            continue
        count = _count(cells[-1]) if len(cells) == 2 else math.nan
        if math.isnan(count) or count < 0 or math.isinf(count):
            if number == 1:
                continue
            raise TextError(f"{file.name}:{number}: {shown(line)} is no word and count, separated by a tab.")
        word = cells[0].strip()
        if word in counts:
            raise TextError(f"{file.name}:{number}: {word!r} comes a second time.")
        counts[word] = count
    if not counts:
        raise TextError(f"{file.name}: no word and count. A row is a word, a tab and the number of its occurrences.")
    return Frequencies(counts)


def _count(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan
