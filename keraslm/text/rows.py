"""Rows of tables and JSON objects as lines of text, and back.

    tsv   cells between tabs; a cell is quoted if it needs it, as the default readers of `csv` and pandas expect
    csv   the same with commas
    raw   cells between tabs, never quoted, for cut and awk

A cell needs quotes if it contains a quotation mark, the separator, CR or LF; a quotation mark inside is doubled.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

from keraslm.errors import TextError, shown

RowFormat = Literal["tsv", "csv", "raw"]
ROW_FORMATS: tuple[str, ...] = get_args(RowFormat)

_SEPARATORS = {"tsv": "\t", "csv": ","}
_END = "\r\n"  # for which every Python quotes a cell with CR or LF


class _Echo:
    @staticmethod
    def write(row: str) -> str:
        return row.removesuffix(_END)


def row_writer(format: str, separator: str = "") -> Callable[[Iterable[Any]], str]:
    """A function from cells to a line, without a line end. Instead of a comma, `"csv"` may have a semicolon.

    Example:
        >>> row_writer("tsv")(["u1", '"', -1.5])
        'u1\\t\"\"\"\"\\t-1.5'
    """
    if format == "raw":
        return lambda cells: "\t".join(map(str, cells))
    write: Callable[[Iterable[Any]], str] = csv.writer(
        _Echo(),
        delimiter=";" if (format, separator) == ("csv", ";") else _SEPARATORS[format],
        lineterminator=_END,
    ).writerow  # it returns what `write` returns
    return write


def cells_of(line: str, format: str) -> list[str]:
    """The cells of a line; a `csv.Error` if quotes of a `"csv"` line are misplaced.

    In `"tsv"`, a cell is taken out of its quotes only if it would be written with them, so that a plain text such as
    `" hello "` keeps them.
    """
    if format == "csv":
        return next(csv.reader([line], strict=True), [""])
    cells = line.split("\t")
    return cells if format == "raw" else [_unquoted(cell) for cell in cells]


_quoted = row_writer("tsv")


def _unquoted(cell: str) -> str:
    if not (len(cell) > 2 and cell[0] == cell[-1] == '"'):
        return cell
    inner = cell[1:-1].replace('""', '"')
    return inner if _quoted([inner]) == cell else cell


def json_object(line: str, where: str) -> dict[str, Any]:
    """The JSON object in a line; a `TextError` if there is none, or if it holds half of a character."""
    try:
        record = json.loads(line, parse_constant=_refuse)
        if "\\u" in line:
            json.dumps(record, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # a lone surrogate is a ValueError, too
        raise TextError(f"{where}: not a JSON object ({error}).") from error
    if not isinstance(record, dict):
        raise TextError(f"{where}: not a JSON object, but {shown(record)}.")
    return record


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
