"""Where filtered documents go: one stream or file, or one file per bucket, each complete once it exists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO

from keraslm import arguments
from keraslm.errors import UsageError
from keraslm.filtering.criteria import Criteria, Scores
from keraslm.filtering.documents import FORMATS, Documents
from keraslm.report.columns import cell_of, plain
from keraslm.report.records import RecordWriter, added_names
from keraslm.report.writer import opened_output
from keraslm.system.outputs import is_device
from keraslm.text.records import Record

BUCKET = "{bucket}"  # in the name of an output: one file per bucket
COLUMNS = ("perplexity", "bits_per_byte", "tokens")


class Writer(Protocol):
    """Turns documents into lines."""

    def header(self) -> list[str]: ...

    def rows(self, record: Record, added: Any) -> Iterator[str]: ...


class TextWriter:
    """Writes documents of plain text as they were read, without their scores; a blank line follows each paragraph."""

    def __init__(self, paragraphs: bool):
        self._after = [""] if paragraphs else []

    def header(self) -> list[str]:
        return []

    def rows(self, record: Record, added: Any) -> Iterator[str]:
        yield from (record.values[0], *self._after)


class Outputs:
    """The places and the format of filtered documents; checked when made.

    Args:
        documents: what is filtered.
        path: file; with `{bucket}` in its name, one file per bucket; None is standard output.
        format: as of the documents; None means the same.
        label: put before the names of the added fields, with an underscore.
        criteria: of the filter.
    """

    def __init__(
        self, documents: Documents, path: Path | None, format: str | None, label: str | None, criteria: Criteria
    ):
        self._format = arguments.choice(format or documents.format, "format", FORMATS)
        self._documents, names = documents, criteria.bucket or ()
        self._divided = path is not None and BUCKET in path.name
        if self._format == "text" and documents.format != "text":
            raise UsageError(
                f"`format` is text, but the documents are {documents.format}: only plain text stays plain."
            )
        if self._divided and not names:
            raise UsageError(f"`output` has {BUCKET} in its name: name the buckets with `bucket`.")
        if self._format == "text" and names and not self._divided:
            raise UsageError(
                f"Plain text has no field for a bucket: write one file per bucket, with {BUCKET} in the name of "
                '`output`, or choose `format="jsonl"`.'
            )
        self._columns = (*COLUMNS, *(["bucket"] if names else []))
        self._added = added_names(self._columns, label)
        self.paths = {name: _path_of(path, name) for name in (names if self._divided and path else ("",))}

    @property
    def named(self) -> dict[str, Path | None]:
        """The paths by names for messages."""
        return {f"output {name}".rstrip(): path for name, path in self.paths.items()}

    @property
    def at_once(self) -> bool:
        """Whether somebody may read what is written before the end."""
        return any(path is None or is_device(path) for path in self.paths.values())

    @contextmanager
    def opened(self) -> Iterator[Sink]:
        with ExitStack() as stack:
            opened = {name: stack.enter_context(opened_output(path)) for name, path in self.paths.items()}
            yield Sink({name: (out, self._writer()) for name, out in opened.items()}, self._values)

    def _writer(self) -> Writer:
        if self._format == "text":
            return TextWriter(self._documents.paragraphs)
        return RecordWriter(self._documents.records, self._format, self._added)

    def _values(self, scores: Scores, bucket: str) -> Sequence[object]:
        own = [(name, getattr(scores, name)) for name in COLUMNS]
        as_json = self._format == "jsonl"
        found = [plain(name, value) if as_json else cell_of(name)(value) for name, value in own]
        return [*found, bucket][: len(self._columns)]


class Sink:
    """Open outputs."""

    def __init__(self, places: dict[str, tuple[TextIO, Writer]], values: Any):
        self._places, self._values = places, values
        for out, writer in places.values():
            _print(writer.header(), out)

    def write(self, record: Record, scores: Scores, bucket: str) -> None:
        out, writer = self._places[bucket if bucket in self._places else ""]
        _print(writer.rows(record, [self._values(scores, bucket)]), out)

    def flush(self) -> None:
        for out, _ in self._places.values():
            out.flush()


def _print(lines: Any, out: TextIO) -> None:
    for line in lines:
        out.write(f"{line}\n")


def _path_of(path: Path | None, bucket: str) -> Path | None:
    return path and path.with_name(path.name.replace(BUCKET, bucket))
