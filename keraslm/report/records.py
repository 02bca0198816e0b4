"""Scores added to the rows of tables and to JSON objects: one row per text, per word or per region.

All fields of the input are carried through, and those of the scores follow. A JSON object is extended without being
written anew, so that its numbers keep their digits. A row whose text is missing stays, with empty scores. A number that
does not exist is an empty cell, in JSON null.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from keraslm.errors import TextError, UsageError
from keraslm.report.options import ScoreOptions
from keraslm.report.scored import boundary_of
from keraslm.report.table_input import TableInput
from keraslm.report.tables import cell_rows, columns_of, plain_rows
from keraslm.scoring.texts import LineScorer, Text, TextScore, score_texts
from keraslm.system.progress import UNCOUNTED, Counter
from keraslm.text.records import Record, Records
from keraslm.text.regions import Regions, read_regions, split_regions
from keraslm.text.rows import row_writer


@dataclass(frozen=True)
class ScoredRecord:
    """A record and the scores of its text; None if the text is missing."""

    record: Record
    score: TextScore | None
    regions: Regions | None = None


def score_records(scorer: LineScorer, records: Iterable[Record], options: ScoreOptions) -> Iterator[ScoredRecord]:
    """Score the texts of records, in order, as they are read."""
    table = table_of(options)
    waiting: deque[tuple[Record, bool, Regions | None]] = deque()

    def texts() -> Iterator[Text]:
        for record in records:
            text, regions = _text_of(record, table)
            waiting.append((record, text is None, regions))
            if text is not None:
                prefix = record.text(table.prefix) if table.prefix else None
                yield prefix or "", text

    def missing() -> Iterator[ScoredRecord]:
        while waiting and waiting[0][1]:
            yield ScoredRecord(waiting.popleft()[0], None)

    found = score_texts(
        scorer,
        texts(),
        options.ends,
        options.context,
        options.needs_distributions,
        options.lines_ahead,
        boundary_of(scorer, options),
    )
    for score in found:
        if options.unk == "exclude":
            score = TextScore([line.without_oovs() for line in score.lines])
        yield from missing()
        record, _, regions = waiting.popleft()
        yield ScoredRecord(record, score, regions)
    yield from missing()


def table_of(options: ScoreOptions) -> TableInput:
    if options.table is None:
        raise UsageError("Scores of records need `table`: the columns of the text.")
    return options.table


def _text_of(record: Record, table: TableInput) -> tuple[str | None, Regions | None]:
    text = record.text(table.text)
    if text is None:
        return None, None
    if table.region_separator:
        return split_regions(text, table.region_separator, record.where)
    if table.regions:
        return text, read_regions(text, record.text(table.regions) or "", record.where)
    return text, None


def counted_records(scored: Iterable[ScoredRecord], count: Counter) -> Iterator[ScoredRecord]:
    """The records, while their texts and tokens are counted."""
    return count(scored, tokens=lambda each: sum(len(line.ids) for line in each.score.lines) if each.score else 0)


def record_rows(
    records: Records, scorer: LineScorer, options: ScoreOptions, count: Counter = UNCOUNTED
) -> Iterator[str]:
    """The rows of output, after a header unless they are JSON."""
    table = table_of(options)
    records.check(table.text, table.prefix, table.regions)
    writer = RecordWriter(records, options.format, added_names(options.shown, table.label))
    yield from writer.header()
    for each in counted_records(score_records(scorer, records, options), count):
        yield from writer.rows(each.record, _rows_of(each, scorer, options))


class Fields(Protocol):
    """What is known of records before they are read: their file, and of a table the columns and the separator."""

    name: str
    names: list[str] | None
    separator: str


class RecordWriter:
    """Writes the fields of records, followed by added ones, as lines.

    Args:
        records: of which `rows` are written.
        format: `"csv"`, `"tsv"`, `"raw"` or `"jsonl"`.
        added: names of the added fields.

    Raises:
        TextError: a field has the name of an added one; and while rows are written, objects with different fields.
    """

    def __init__(self, records: Fields, format: str, added: Sequence[str]):
        self._write = None if format == "jsonl" else row_writer(format, records.separator)
        self._added, self._objects, self._header = added, records.names is None, records.names
        _check_free(added, records.names or (), records.name)

    def header(self) -> list[str]:
        """The header, if there is one and it is known: that of JSON has the fields of the first object."""
        return [] if self._write is None or self._header is None else [self._write([*self._header, *self._added])]

    def rows(self, record: Record, added: Iterable[Sequence[object]]) -> Iterator[str]:
        """One line for each row of values of the added fields."""
        if self._objects:
            _check_free(self._added, record.names, record.where)
        if self._header is None:
            self._header = [*record.names]
            yield from self.header()
        for values in added:
            if self._write is None:
                yield _json(record, self._added, values)
            else:
                yield self._write([*_cells(record, self._header), *values])


def _check_free(added: Sequence[str], taken: Sequence[str], where: str) -> None:
    if both := {*added} & {*taken}:
        raise TextError(
            f"{where}: the input has {min(both)!r} already. Choose `label`, which is put before the names of added "
            "columns."
        )


def added_names(columns: Iterable[str], label: str | None) -> list[str]:
    """The names of added columns."""
    return [f"{label}_{name}" if label else name for name in columns]


def _rows_of(each: ScoredRecord, scorer: LineScorer, options: ScoreOptions) -> Iterator[Sequence[object]]:
    """The values of the added columns, as cells or for JSON."""
    as_json = options.format == "jsonl"
    if each.score is None:
        yield [None if as_json else ""] * len(options.shown)
        return
    for columns in columns_of(each.score.lines, scorer.tokenizer, options, each.regions):
        if as_json:
            yield from ([*row.values()] for row in plain_rows(columns, options.shown))
        else:
            yield from cell_rows(columns, options.shown, missing="")


def _json(record: Record, names: Sequence[str], added: Sequence[object]) -> str:
    """A JSON object with added fields; one that was read keeps its bytes."""
    more = json.dumps(dict(zip(names, added, strict=True)), ensure_ascii=False)
    if record.line:
        return f"{record.line.rstrip()[:-1].rstrip()}, {more[1:]}"
    if len({*record.names}) < len(record.names):
        raise TextError(f"{record.where}: two columns have one name, which a JSON object cannot have.")
    return json.dumps(dict(zip(record.names, record.values, strict=True)), ensure_ascii=False)[:-1] + f", {more[1:]}"


def _cells(record: Record, header: Sequence[str]) -> list[str]:
    """The fields of a record in the order of the header; a value of JSON that is no text is written as JSON."""
    if not record.line:
        return list(record.values)
    if {*record.names} != {*header}:
        raise TextError(
            f"{record.where}: the fields are {', '.join(record.names)}, but the first object has {', '.join(header)}. "
            'Objects with different fields fit into `format="jsonl"` only.'
        )
    values = (record.value(name) for name in header)
    return [value if isinstance(value, str) else "" if value is None else json.dumps(value) for value in values]
