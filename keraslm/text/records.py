"""The rows of tables with a header, and the objects of JSON Lines, as records with named fields.

    csv     cells between commas, quoted where needed; a quoted cell may contain line ends. A header that has
            semicolons and no comma is that of a table with semicolons, as spreadsheets write it in some countries.
    tsv     the same with tabs
    raw     cells between tabs, where a quotation mark is an ordinary character
    jsonl   one JSON object per line

A text is missing if its cell is empty, or if its value in JSON is null or an empty string.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from keraslm.errors import TextError, UsageError, shown
from keraslm.text.files import LONGEST, TextFile, name_of
from keraslm.text.paths import PACKED, STDIN
from keraslm.text.rows import json_object

RECORD_FORMATS = ("csv", "tsv", "raw", "jsonl")
_SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


def record_format(name: str) -> str | None:
    """The format that the name of a file implies; None for a plain text.

    Example:
        >>> record_format("stimuli.csv.gz")
        'csv'
    """
    path = Path(name)
    return _SUFFIXES.get(Path(path.stem if path.suffix.lower() in PACKED else path.name).suffix.lower())


def common_format(names: Iterable[str], otherwise: Callable[[str], str]) -> str:
    """The one format of files, standard input if there are none; a `UsageError` if they differ.

    `otherwise` has the format of a name that implies none.
    """
    formats = {record_format(name) or otherwise(name): name for name in [*names] or [STDIN]}
    if len(formats) > 1:
        listed = ", ".join(f"{name} ({kind})" for kind, name in formats.items())
        raise UsageError(f"Files of different formats: {listed}. Give each format on its own, or `input_format`.")
    return next(iter(formats))


@dataclass(frozen=True)
class Record:
    """A row of a table, or a JSON object: the names of its fields, and their values.

    `line` is the JSON object as it was read, else empty; `where` is file and line, for messages.
    """

    names: Sequence[str]
    values: Sequence[Any]
    where: str
    line: str = ""

    def value(self, name: str) -> Any:
        """The value of a field; a `TextError` if there is none, or more than one."""
        count = self.names.count(name)
        if count != 1:
            kind = "field" if self.line else "column"
            found = f"{count} of its {kind}s have the name" if count else f"no {kind}"
            raise TextError(f"{self.where}: {found} {name!r}. The {kind}s are: {', '.join(self.names)}.")
        return self.values[self.names.index(name)]

    def text(self, name: str) -> str | None:
        """The text of a field, or None if it is missing."""
        value = self.value(name)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise TextError(f"{self.where}: {name!r} is {shown(value)}, but a text is expected.")
        return value


class Records:
    """The records of one or more files, in order, which can be read once.

    Args:
        files: with the same header, if they are tables.
        format: one of `RECORD_FORMATS`.

    Attributes:
        name: of the files, for messages.
        names: of the columns of a table; None for JSON, where each object has its own.
        separator: of a table.

    Raises:
        TextError: a file without a header; and while they are read, a record that is malformed, with file and line.
    """

    def __init__(self, files: Sequence[TextFile], format: str):
        self._files, self._format = files, format
        self.name = name_of(files)
        self.names: list[str] | None = None
        self.separator = ""
        if format != "jsonl":
            self._first = self._rows(files[0])
            _, self.separator, self.names = next(self._first)

    def __iter__(self) -> Iterator[Record]:
        for number, file in enumerate(self._files):
            if self.names is None:
                yield from _objects(file)
                continue
            rows = self._rows(file) if number else self._first
            if number:
                where, _, names = next(rows)
                if names != self.names:
                    listed, first = ", ".join(names), ", ".join(self.names)
                    raise TextError(
                        f"{where}: the columns are {listed}, but those of {self._files[0].name} are {first}."
                    )
            for where, _, cells in rows:
                if len(cells) != len(self.names):
                    header = f"the header has {len(self.names)}: {', '.join(self.names)}"
                    raise TextError(f"{where}: {len(cells)} cells, but {header}.")
                yield Record(self.names, cells, where)

    def check(self, *columns: str | None) -> None:
        """Raise a `TextError` if the table lacks one of the columns; None is no column."""
        if self.names is not None:
            for name in filter(None, columns):
                Record(self.names, self.names, self.name).value(name)

    def _rows(self, file: TextFile) -> Iterator[tuple[str, str, list[str]]]:
        rows = _raw_rows(file) if self._format == "raw" else _quoted_rows(file, "\t" if self._format == "tsv" else ",")
        try:
            yield next(rows)
        except StopIteration:
            raise TextError(f"{file.name}: empty, but a table begins with a header.") from None
        yield from rows


def _objects(file: TextFile) -> Iterator[Record]:
    for number, line in enumerate(file, 1):
        if line and not line.isspace():
            where = f"{file.name}:{number}"
            found = json_object(line, where)
            yield Record([*found], [*found.values()], where, line)


def _raw_rows(file: TextFile) -> Iterator[tuple[str, str, list[str]]]:
    for number, line in enumerate(file, 1):
        if line or number == 1:
            yield f"{file.name}:{number}", "\t", line.split("\t")


def _quoted_rows(file: TextFile, separator: str) -> Iterator[tuple[str, str, list[str]]]:
    """Rows of a table with quotes: place, separator, cells.

    Blank lines are left out, as the readers of tables do, unless there is one column.
    """
    lines = (f"{line}\n" for line in file)
    first = next(lines, None)
    if first is None:
        return
    if separator == "," and "," not in first and ";" in first:
        separator = ";"
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))  # of the process: Python has no other
    rows = csv.reader(chain([first], lines), delimiter=separator, strict=True)
    width = read = 0
    try:
        for cells in rows:
            where, read = f"{file.name}:{read + 1}", rows.line_num
            width = width or len(cells)
            if cells or width == 1:
                yield where, separator, cells or [""]
    except csv.Error as error:
        unclosed = "unexpected end" in str(error)
        reason = "a quotation mark opens a cell that is never closed" if unclosed else error
        raise TextError(
            f"{file.name}:{read + 1}: not a row of a table with quoted cells ({reason}). If quotation marks in the "
            'cells are part of the text, use `input_format="raw"`, in which only tabs separate cells.'
        ) from error
