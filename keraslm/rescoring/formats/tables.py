"""Tables: utterance, scores, text, between tabs or commas; see `keraslm.text.rows`.

A first row with `utterance` and `text` in its first and last cell names the scores.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence

from keraslm.errors import TextError
from keraslm.rescoring.hypothesis import Hypothesis, Utterance, check, finite
from keraslm.text.files import TextFile
from keraslm.text.rows import cells_of, row_writer


def rows(file: TextFile, columns: int | None, format: str) -> Iterator[Hypothesis]:
    expected = None if columns is None else columns + 2
    names: tuple[str, ...] | None = None
    sign = "comma" if format == "csv" else "tab"
    for number, line in enumerate(file, 1):
        where = f"{file.name}:{number}"
        try:
            cells = cells_of(line, format)
        except csv.Error as error:
            raise TextError(f"{where}: not a row of CSV ({error}).") from error
        fault = f"no utterance before the first {sign}" if len(cells) > 1 else f"no {sign}" if line else "a blank line"
        valid = len(cells) > 1 and cells[0] != ""
        check(valid, f"{where}: {fault}. A row is: utterance, scores, text, with a {sign} between them.")
        expected = expected or len(cells)
        wanted = f"{expected} are expected: utterance, {expected - 2} scores, text"
        like = ", as in the first row" if columns is None else ""
        check(len(cells) == expected, f"{where}: {len(cells)} columns, but {wanted}{like}.")
        if number == 1 and (cells[0], cells[-1]) == ("utterance", "text"):
            names = tuple(cells[1:-1])
            continue
        scores = tuple(finite(cell, where) for cell in cells[1:-1])
        yield Hypothesis(cells[0], cells[-1], scores, names, cells, where)


def scored(utterance: Utterance, scores: Sequence[float], format: str) -> Iterator[str]:
    """The rows of an utterance, each with a score before the text."""
    for hypothesis, score in zip(utterance, scores, strict=True):
        yield row_writer(format)([*hypothesis.row[:-1], f"{score:.6f}", hypothesis.row[-1]])


def best(hypothesis: Hypothesis, format: str) -> str:
    return row_writer(format)((hypothesis.utterance, hypothesis.text))
