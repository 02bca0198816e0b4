"""The lines of text files, as a stream of strings or of large blocks of bytes.

A line ends at LF or CR LF only, never at U+2028 or a form feed. A byte order mark at the start of a file is dropped.
The last line counts with or without a line end.
"""

from __future__ import annotations

import glob
import hashlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from keraslm.errors import TextError
from keraslm.text.compression import DAMAGED, unpacked
from keraslm.text.pieces import PIECE, cut

STDIN = "-"
BLOCK = 1 << 20  # bytes
LONGEST = 1 << 28  # bytes of a line that is returned in one string

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Block:
    """Complete lines of a text, each ended by LF; or, of a line longer than `BLOCK`, a piece without LF."""

    data: bytes  # UTF-8, if the text is
    name: str  # of the file
    line: int  # number of its first line, from 1
    offset: int  # bytes of the file's text before it

    def decoded(self, errors: str) -> tuple[str, int]:
        """Its text with CR LF as LF, and the number of its lines that are not UTF-8; `"strict"` raises a TextError."""
        replaced = 0
        try:
            text = self.data.decode("utf-8")
        except UnicodeDecodeError as error:
            if errors != "replace":
                raise self._invalid_byte(error.start) from error
            text = self.data.decode("utf-8", "replace")
            replaced = sum(line.decode("utf-8", "ignore").encode() != line for line in self.data.split(b"\n"))
        return text.replace("\r\n", "\n"), replaced

    def _invalid_byte(self, place: int) -> TextError:
        line, column = self.line + self.data.count(b"\n", 0, place), place - self.data.rfind(b"\n", 0, place)
        return TextError(
            f"{self.name}:{line}:{column}: byte 0x{self.data[place]:02x} is not valid UTF-8 (byte "
            f'{self.offset + place} of the text). Convert the text to UTF-8, or pass `errors="replace"` to read it '
            "with U+FFFD there."
        )


class TextFile:
    """One UTF-8 text as a stream, plain or compressed with gzip, bzip2, xz or zstandard (detected by its first bytes).

    Args:
        path: a file, or `"-"` for standard input.
        errors: `"strict"` raises at the first invalid byte; `"replace"` reads U+FFFD and counts the lines.
        name: its name in messages. Default: the path.

    Attributes:
        replaced: number of lines in which a byte was replaced, in the latest pass over the lines.
    """

    def __init__(self, path: str | Path, errors: str = "strict", name: str | None = None):
        self.path = str(path)
        self.errors = errors
        self.name = name or ("standard input" if self.path == STDIN else self.path)
        self.replaced = 0

    def __iter__(self) -> Iterator[str]:
        """Yield each line, without its line end; a TextError if the file or a line cannot be read."""
        self.replaced = 0
        with self._opened() as (_, file, offset):
            for number, raw in enumerate(iter(lambda: file.readline(LONGEST + 1), b""), 1):
                if len(raw) > LONGEST:
                    raise TextError(
                        f"{self.name}:{number}: the line is longer than {LONGEST >> 20} MiB. A text has line ends."
                    )
                line = raw.removesuffix(b"\n").removesuffix(b"\r")
                try:
                    text = line.decode("utf-8")
                except UnicodeDecodeError:
                    text, bad = Block(line, self.name, number, offset).decoded(self.errors)
                    self.replaced += bad
                yield text
                offset += len(raw)

    def blocks(self, advance: Callable[[int], None] = lambda _: None) -> Iterator[Block]:
        """Yield the text in blocks of about `BLOCK` bytes, in order; memory does not depend on the length of lines.

        `advance` receives the number of bytes that each step has read from the file, compressed or not.
        """
        offset: int
        line, rest, taken, long = 1, b"", 0, False

        def block(data: bytes, ended: bytes = b"") -> Block:
            nonlocal line, offset
            made = Block(data + ended, self.name, line, offset)
            line, offset = line + made.data.count(b"\n"), offset + len(data)
            return made

        with self._opened() as (raw, file, offset):
            while data := file.read(BLOCK):
                rest += data
                end = rest.rfind(b"\n") + 1
                if end:
                    yield block(rest[:end])
                    rest, long = rest[end:], False
                long = long or len(rest) > BLOCK
                while long and len(rest) > PIECE:
                    at = cut(rest[: PIECE + 1])
                    yield block(rest[:at])
                    rest = rest[at:]
                if raw.seekable():
                    taken, before = raw.tell(), taken
                    advance(taken - before)
            if rest:
                yield block(rest, b"\n")

    def size(self) -> int:
        """Bytes of the file on the disk; a TextError if it cannot be read."""
        with self.reading():
            return Path(self.path).stat().st_size

    def digest(self) -> str:
        """SHA-256 of the file on the disk, hexadecimal."""
        with self.reading(), open(self.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turn an `OSError` of the block into a `TextError`."""
        try:
            yield
        except OSError as error:
            raise TextError(f"{self.name}: cannot be read ({error.strerror or error}).") from error

    @contextmanager
    def _opened(self) -> Iterator[tuple[io.BufferedReader, IO[bytes], int]]:
        """The file on the disk, its text after a byte order mark, and the number of bytes of that mark."""
        with self.reading(), ExitStack() as opened:
            # Standard input as it is: a second buffer around it would wait until it is full.
            source: Any = _stdin() if self.path == STDIN else opened.enter_context(open(self.path, "rb"))
            raw = cast(io.BufferedReader, source if hasattr(source, "peek") else io.BufferedReader(source))
            file, kind = unpacked(raw)
            if kind:
                opened.enter_context(file)
            try:
                yield raw, file, len(file.read(3)) if file.peek(3).startswith(_BOM) else 0
            except (*DAMAGED, OSError) as error:
                if isinstance(error, DAMAGED) or (kind and error.errno is None):  # bzip2 raises a plain OSError
                    raise TextError(f"{self.name}: the {kind} data are damaged or cut short ({error}).") from error
                raise


class TextFiles:
    """Several files as one text, in the given order; the end of a file always ends a line.

    `paths` are files, patterns, or `"-"`. A pattern that matches no file raises a TextError.
    """

    def __init__(self, paths: Sequence[str], errors: str = "strict"):
        self.files = [TextFile(path, errors) for pattern in paths for path in _expand(pattern)]
        self.errors = errors

    @property
    def name(self) -> str:
        first, more = self.files[0].name, len(self.files) - 1
        return f"{first} and {more} more" if more else first

    @property
    def replaced(self) -> int:
        return sum(file.replaced for file in self.files)

    def __iter__(self) -> Iterator[str]:
        for file in self.files:
            yield from file

    def blocks(self, advance: Callable[[int], None] = lambda _: None) -> Iterator[Block]:
        for file in self.files:
            yield from file.blocks(advance)

    def size(self) -> int:
        return sum(file.size() for file in self.files)

    def digest(self) -> str:
        return hashlib.sha256(" ".join(file.digest() for file in self.files).encode()).hexdigest()

    def spool(self, folder: Path) -> None:
        """Copy standard input, if it is one of the files, to a temporary file in `folder` that can be read again."""
        for number, file in enumerate(self.files):
            if file.path == STDIN:
                with file.reading():
                    self._spooled = _temporary(folder)
                    shutil.copyfileobj(_stdin(), self._spooled, BLOCK)
                    self._spooled.flush()
                self.files[number] = TextFile(self._spooled.name, file.errors, file.name)


def _stdin() -> IO[bytes]:
    """Standard input; a note if it is a terminal, where a person does not see that the program waits."""
    if sys.stdin.isatty():
        end = "Ctrl-Z and Enter" if os.name == "nt" else "Ctrl-D"
        print(f"keraslm: reading standard input, which is this terminal; end it with {end}", file=sys.stderr)
    return sys.stdin.buffer


def _temporary(folder: Path) -> Any:
    """A temporary file in a folder; in that of the system if the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.NamedTemporaryFile(dir=folder, prefix=".stdin.")
    except OSError:
        return tempfile.NamedTemporaryFile(prefix="keraslm.stdin.")


def _expand(pattern: str) -> list[str]:
    if pattern == STDIN or Path(pattern).exists() or not glob.has_magic(pattern):
        return [pattern]
    found = sorted(path for path in glob.glob(pattern, recursive=True) if Path(path).is_file())  # noqa: PTH207
    if not found:
        raise TextError(f"{pattern}: no file matches this pattern.")
    return found


@contextmanager
def meter(title: str, total: int, show: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar over `total` bytes, on standard error if that is a terminal; yields a function of new bytes."""
    if not (show and sys.stderr.isatty()):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"{title:<9}", total=total)
        yield lambda amount: progress.update(task, advance=amount)
