"""Tables and JSON Lines as input: their form, and the columns that are read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast

from keraslm import arguments
from keraslm.errors import UsageError
from keraslm.text.records import RECORD_FORMATS, common_format

TableFormat = Literal["csv", "tsv", "raw", "jsonl"]


@dataclass(frozen=True)
class TableInput:
    """The columns of a table, or the fields of JSON objects, that are scored; see `keraslm.text.records`.

    Attributes:
        format: `"csv"`, `"tsv"`, `"raw"` or `"jsonl"`.
        text: name of the column with the text.
        prefix: of that with the text before it.
        regions: of that with the numbers of the first words of the text's regions.
        region_separator: what separates regions in the text, instead.
        label: is put before the names of added columns, with an underscore.
    """

    format: str
    text: str
    prefix: str | None = None
    regions: str | None = None
    region_separator: str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        arguments.choice(self.format, "input_format", RECORD_FORMATS)
        given = {"text_column": self.text, "prefix_column": self.prefix, "region_column": self.regions}
        for name, value in (given | {"region_separator": self.region_separator, "label": self.label}).items():
            if value is not None and not arguments.text(value, name):
                raise UsageError(f"`{name}` is empty.")
        if self.regions and self.region_separator:
            raise UsageError("`region_column` and `region_separator` both divide the text: leave out one of them.")

    @property
    def divided(self) -> bool:
        return bool(self.regions or self.region_separator)


def input_format(names: Iterable[str], given: str, text_column: str | None) -> TableFormat | None:
    """The format of tables or JSON Lines from the names of files, or None for plain texts; checks that they agree.

    Args:
        names: of the files.
        given: `"text"`, one of `RECORD_FORMATS`, or `"auto"`: by the names.
        text_column: the column that is scored, if one was named.
    """
    arguments.choice(given, "input_format", ("auto", "text", *RECORD_FORMATS))
    names = list(names)
    kind = common_format(names, lambda _: "text") if given == "auto" else given
    if kind == "text":
        if text_column is not None:
            raise UsageError("`text_column` needs a table: a file named .csv, .tsv or .jsonl, or `input_format`.")
        return None
    if text_column is None:
        name = names[0] if given == "auto" else "The input"
        raise UsageError(
            f"{name} is a table: name the column with the text with `text_column`; or read its lines as plain text "
            'with `input_format="text"`.'
        )
    return cast(TableFormat, kind)
