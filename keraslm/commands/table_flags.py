"""The flags that name the columns of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from keraslm.commands.flags import Separator
from keraslm.errors import UsageError

if TYPE_CHECKING:
    from keraslm.report.table_input import TableInput


@dataclass(frozen=True)
class TableFlags:
    """The columns of a table.

    Parameters
    ----------
    input_format
        auto: a table if the name ends with .csv, .tsv, .jsonl or .ndjson, perhaps compressed; text: lines of text; raw:
        cells between tabs without quotes.
    text_column
        Column, or field of JSON, with the text to score. A text may have several lines. A row without a text is kept,
        with empty scores.
    prefix_column
        Column with the text before it: the scores are log p(text | prefix).
    separator
        What stands between prefix and text, unless white space does.
    region_column
        Column with the regions of the text as numbers of their first words, such as '1 3 5' or '1:subject 3:verb'. For
        --level region, and the column region of --level word.
    region_separator
        What separates the regions in the text instead, such as '|'. It is not scored.
    label
        Put before the names of the added columns: lm gives lm_logprob.
    """

    input_format: Literal["auto", "text", "csv", "tsv", "raw", "jsonl"] = "auto"
    text_column: str | None = None
    prefix_column: str | None = None
    separator: Separator = " "
    region_column: str | None = None
    region_separator: str | None = None
    label: str | None = None

    def columns(self, format: str | None) -> TableInput | None:
        """The columns that are read, if the input is a table."""
        from keraslm.report.table_input import TableInput

        if format and self.text_column:
            others = (self.prefix_column, self.region_column, self.region_separator, self.label)
            return TableInput(format, self.text_column, *others)
        for name in ("prefix_column", "region_column", "region_separator", "label"):
            if getattr(self, name) is not None:
                raise UsageError(f"`{name}` is for tables: name the column with the text with `text_column`.")
        return None


Table = Annotated[TableFlags, Parameter(name="*", group=Group("Tables", sort_key=1))]
NO_TABLE = TableFlags()
