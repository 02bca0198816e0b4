"""The documents of a corpus: JSON objects, rows of tables, lines or paragraphs of plain text.

A document is *missing* if it has no text: its field is null, empty or white space, or a JSON object lacks the field.
That the first object of a corpus has it is required, because a mistyped name would drop everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from keraslm import arguments
from keraslm.errors import TextError, UsageError
from keraslm.text.files import TextFile, name_of
from keraslm.text.paths import PACKED
from keraslm.text.records import RECORD_FORMATS, Record, Records, common_format

FORMATS = ("text", *RECORD_FORMATS)


@dataclass(frozen=True)
class Document:
    """A record, and its text; empty if it is missing."""

    record: Record
    text: str


class Documents:
    """The documents of one or more files, in order, which can be read once.

    Args:
        files: of one format.
        format: one of `FORMATS`, or `"auto"`: by the names, JSON Lines if they imply nothing.
        field: name of the field, or the column, with the text; plain text gets a field with this name.
        paragraphs: blank lines separate the documents of a plain text, instead of line ends.

    Attributes:
        format: one of `FORMATS`.
        paragraphs: as given.
        records: the records, and what is known of their fields.

    Raises:
        UsageError: files of different formats, or paragraphs of something else than plain text.
        TextError: a table without this column; and while they are read, a record that is malformed, with file and line.
    """

    def __init__(self, files: Sequence[TextFile], format: str = "auto", field: str = "text", paragraphs: bool = False):
        arguments.choice(format, "input_format", ("auto", *FORMATS))
        arguments.not_empty(field=arguments.text(field, "field"))
        self._field, self._guessed = field, format == "auto"
        self.paragraphs = arguments.switch(paragraphs, "paragraphs")
        self.format = _common_format(files, format, paragraphs)
        self.records: Records | TextRecords
        if self.format == "text":
            self.records = TextRecords(files, field, paragraphs)
        else:
            self.records = Records(files, self.format)
            self.records.check(field)

    def __iter__(self) -> Iterator[Document]:
        records = iter(self.records)
        try:
            first = next(records, None)
        except TextError as error:
            if self._guessed and "not a JSON object" in str(error):
                raise TextError(f"{error} If the documents are not JSON Lines, name their `input_format`.") from error
            raise
        if first:
            yield Document(first, _without_blank(first.text(self._field)))
        for record in records:
            known = not record.line or self._field in record.names
            yield Document(record, _without_blank(record.text(self._field)) if known else "")


def _without_blank(text: str | None) -> str:
    return "" if text is None or text.isspace() else text


class TextRecords:
    """The lines or the paragraphs of plain texts as records with one field; see `keraslm.text.records.Records`."""

    def __init__(self, files: Sequence[TextFile], field: str, paragraphs: bool):
        self._files, self._field, self._paragraphs = files, field, paragraphs
        self.name, self.separator = name_of(files), ""
        self.names: list[str] | None = [field]

    def __iter__(self) -> Iterator[Record]:
        for file in self._files:
            for number, text in _paragraphs(file) if self._paragraphs else enumerate(file, 1):
                yield Record([self._field], [text], f"{file.name}:{number}")


def _paragraphs(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Runs of lines that are not blank, and the number of the first line of each."""
    found: list[str] = []
    number = 0
    for number, line in enumerate(lines, 1):
        if line and not line.isspace():
            found.append(line)
        elif found:
            yield number - len(found), "\n".join(found)
            found = []
    if found:
        yield number - len(found) + 1, "\n".join(found)


def _common_format(files: Sequence[TextFile], given: str, paragraphs: bool) -> str:
    kind = given
    if given == "auto":
        kind = common_format([file.path for file in files], lambda name: _other_format(name, paragraphs))
    if paragraphs and kind != "text":
        raise UsageError(f"`paragraphs` divides plain text, but the format of {name_of(files)} is {kind}.")
    return kind


def _other_format(name: str, paragraphs: bool) -> str:
    """The format of a file that is no table by its name."""
    path = Path(name)
    plain = Path(path.stem) if path.suffix.lower() in PACKED else path
    return "text" if paragraphs or plain.suffix.lower() == ".txt" else "jsonl"
