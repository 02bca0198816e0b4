"""The lines of text files, as a stream of strings or of large blocks of bytes.

A line ends at LF or CR LF only, never at U+2028 or a form feed; a CR inside a line is read as a blank. (In a file
without LF, lines end at CR.) A byte order mark at the start of a file is dropped. The last line counts with or without
a line end.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, cast

from keraslm.config import StrPath
from keraslm.config.fields import check_encoding, is_utf8_name
from keraslm.errors import TextError
from keraslm.system.atomic import SUFFIX, hold, remove_abandoned
from keraslm.text.compression import DAMAGED, unpacked
from keraslm.text.paths import STDIN, find_files, reading
from keraslm.text.pieces import PIECE, cut
from keraslm.text.streams import as_utf8

ERRORS = ("strict", "replace")  # what happens at bytes that are not UTF-8
BLOCK = 1 << 20  # bytes
LONGEST = 1 << 28  # bytes of a line that is returned in one string

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Block:
    """Complete lines of a text, each ended by LF; or, of a line longer than `BLOCK`, a piece without LF."""

    data: bytes  # UTF-8, if the text is valid
    name: str  # of the file
    line: int  # number of its first line, from 1
    offset: int  # bytes of the file's text before it
    encoding: str = "utf-8"  # of the file

    def decoded(self, errors: str) -> tuple[str, int]:
        """Its text with LF as the only line end, and the number of its invalid lines; `"strict"` raises a TextError."""
        replaced = 0
        try:
            text = self.data.decode("utf-8")
        except UnicodeDecodeError as error:
            if errors != "replace":
                raise self._invalid_byte(error.start) from error
            text = self.data.decode("utf-8", "replace")
            replaced = sum(line.decode("utf-8", "ignore").encode() != line for line in self.data.split(b"\n"))
        return text.replace("\r\n", "\n").replace("\r", " ") if "\r" in text else text, replaced

    def _invalid_byte(self, place: int) -> TextError:
        line, column = self.line + self.data.count(b"\n", 0, place), place - self.data.rfind(b"\n", 0, place)
        if not is_utf8_name(self.encoding):
            return TextError(
                f"{self.name}:{line}: not valid {self.encoding}. Name the encoding of the text with `encoding`, or "
                'pass `errors="replace"` to read it with U+FFFD there.'
            )
        return TextError(
            f"{self.name}:{line}:{column}: byte 0x{self.data[place]:02x} is not valid UTF-8 (byte "
            f"{self.offset + place} of the text). If the text is in a different encoding, name it, such as "
            '`encoding="cp1252"`; or pass `errors="replace"` to read it with U+FFFD there.'
        )


class TextFile:
    """One text as a stream, plain or compressed with gzip, bzip2, xz or zstandard (detected by its first bytes).

    Args:
        path: a file, or `"-"` for standard input.
        errors: `"strict"` raises at the first invalid byte; `"replace"` reads U+FFFD and counts the lines.
        encoding: a name that Python knows, such as `"latin-1"`.
        name: its name in messages. Default: the path.

    Attributes:
        replaced: number of lines in which a byte was replaced, in the latest pass over the lines.
        lines: number of lines read in this pass.
    """

    notes: Sequence[str] = ()  # as of `TextFiles`

    def __init__(self, path: str | Path, errors: str = "strict", encoding: str = "utf-8", *, name: str | None = None):
        check_encoding(encoding)
        self.path = str(path)
        self.errors = errors
        self.encoding = encoding
        self.name = name or ("standard input" if self.path == STDIN else self.path)
        self.replaced = self.lines = self._taken = 0
        self._raw: io.BufferedReader | None = None

    def __iter__(self) -> Iterator[str]:
        """Yield each line, without its line end; a TextError if the file or a line cannot be read."""
        self.replaced = self.lines = self._taken = 0
        with self._opened() as (self._raw, file, offset):
            for number, raw in enumerate(iter(lambda: file.readline(LONGEST + 1), b""), 1):
                if len(raw) > LONGEST:
                    raise TextError(
                        f"{self.name}:{number}: the line is longer than {LONGEST >> 20} MiB. A text has line ends."
                    )
                line = raw.removesuffix(b"\n").removesuffix(b"\r")
                try:
                    text = line.decode("utf-8").replace("\r", " ")
                except UnicodeDecodeError:
                    text, bad = Block(line, self.name, number, offset, self.encoding).decoded(self.errors)
                    self.replaced += bad
                self.lines = number
                yield text
                offset += len(raw)
            self.position()
        self._raw = None

    def blocks(self, advance: Callable[[int], None] = lambda _: None) -> Iterator[Block]:
        """Yield the text in blocks of about `BLOCK` bytes, in order; memory does not depend on the length of lines.

        `advance` receives the number of bytes that each step has read from the file, compressed or not.
        """
        offset: int
        line, rest, taken, long = 1, b"", 0, False

        def block(data: bytes, ended: bytes = b"") -> Block:
            nonlocal line, offset
            made = Block(data + ended, self.name, line, offset, self.encoding)
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

    def check(self) -> None:
        """Raise a TextError if a file on the disk is no text of this encoding, as far as its beginning shows."""
        if Path(self.path).is_file():
            with self._opened():
                pass

    def position(self) -> int:
        """Bytes of the file on the disk that the latest pass over the lines has read; 0 for a pipe."""
        if self._raw and not self._raw.closed and self._raw.seekable():
            self._taken = self._raw.tell()
        return self._taken

    def known_size(self) -> int | None:
        """Bytes of the file on the disk; None for standard input and pipes."""
        return self.size() if self.path != STDIN and Path(self.path).is_file() else None

    def size(self) -> int:
        """Bytes of the file on the disk; a TextError if it cannot be read."""
        with self.reading():
            return Path(self.path).stat().st_size

    def digest(self) -> str:
        """SHA-256 of the file on the disk, hexadecimal."""
        with self.reading(), open(self.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def reading(self) -> AbstractContextManager[None]:
        """Turn an `OSError` of the block into a `TextError`."""
        return reading(self.name)

    @contextmanager
    def _opened(self) -> Iterator[tuple[io.BufferedReader, io.BufferedReader, int]]:
        """The file on the disk, its text in UTF-8 after a byte order mark, and the number of bytes of that mark."""
        with self.reading(), ExitStack() as opened:
            # Standard input as it is: a second buffer around it would wait until it is full.
            source: Any = _stdin() if self.path == STDIN else opened.enter_context(open(self.path, "rb"))
            raw = cast(io.BufferedReader, source if hasattr(source, "peek") else io.BufferedReader(source))
            file, kind = unpacked(raw)
            if kind:
                opened.enter_context(file)
            try:
                text = as_utf8(file, self.name, self.encoding)
                yield raw, text, len(text.read(3)) if text.peek(3).startswith(_BOM) else 0
            except (*DAMAGED, OSError) as error:
                if isinstance(error, DAMAGED) or (kind and error.errno is None):  # bzip2 raises a plain OSError
                    raise TextError(f"{self.name}: the {kind} data are damaged or cut short ({error}).") from error
                raise


class TextFiles:
    """Several files as one text, in the given order; the end of a file always ends a line.

    Args:
        paths: files, folders, patterns, or `"-"`; see `keraslm.text.paths.find_files`.
        errors, encoding: of each `TextFile`.

    Attributes:
        files: the files found; each can be opened.
        notes: a sentence about each folder among the paths.

    Raises:
        TextError: a file is missing or cannot be opened, or a pattern or folder has no files.
    """

    def __init__(self, paths: Iterable[StrPath], errors: str = "strict", encoding: str = "utf-8"):
        found, self.notes = find_files(paths)
        self.files = [TextFile(path, errors, encoding) for path in found]
        self.errors, self.encoding = errors, encoding
        self._copies: list[Any] = []

    @property
    def name(self) -> str:
        return name_of(self.files)

    @property
    def replaced(self) -> int:
        return sum(file.replaced for file in self.files)

    @property
    def lines(self) -> int:
        return sum(file.lines for file in self.files)

    def __iter__(self) -> Iterator[str]:
        for file in self.files:
            yield from file

    def position(self) -> int:
        return sum(file.position() for file in self.files)

    def known_size(self) -> int | None:
        sizes = [file.known_size() for file in self.files]
        return None if None in sizes else sum(map(int, sizes))  # type: ignore[arg-type]

    def blocks(self, advance: Callable[[int], None] = lambda _: None) -> Iterator[Block]:
        for file in self.files:
            yield from file.blocks(advance)

    def size(self) -> int:
        return sum(file.size() for file in self.files)

    def digest(self) -> str:
        return hashlib.sha256(" ".join(file.digest() for file in self.files).encode()).hexdigest()

    def spool(self, folder: Path) -> None:
        """Copy standard input and pipes to temporary files in `folder`, which can be read more than once."""
        for number, file in enumerate(self.files):
            if file.path == STDIN or Path(file.path).is_fifo():
                with file.reading():
                    copy = _temporary(folder)
                    with nullcontext(_stdin()) if file.path == STDIN else open(file.path, "rb") as source:
                        shutil.copyfileobj(source, copy, BLOCK)
                    copy.flush()
                self.files[number] = TextFile(copy.name, file.errors, file.encoding, name=file.name)
                self._copies.append(copy)  # they are removed with this object


class Named(Protocol):
    @property
    def name(self) -> str: ...


def name_of(files: Sequence[Named]) -> str:
    """The name of several files as one text: `a.txt and 2 more`."""
    first, more = files[0].name, len(files) - 1
    return f"{first} and {more} more" if more else first


def replaced_note(name: str, lines: int) -> str:
    """A sentence about the lines of a text in which invalid bytes were replaced."""
    return f"{name}: {lines} lines contained invalid UTF-8, read as U+FFFD"


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
        return _held(folder)
    except OSError:
        return _held(Path(tempfile.gettempdir()))


def _held(folder: Path) -> Any:
    file = tempfile.NamedTemporaryFile(dir=folder, prefix=".stdin.", suffix=SUFFIX)
    hold(file.fileno())
    remove_abandoned(folder, ["stdin"])
    return file
