"""From the bytes of a file to UTF-8, in pieces: other encodings are converted, and files that are not text refused.

The lines of a text end at LF or CR LF. A text in whose first MiB there are only CRs ends its lines at CR, as the first
Macintoshes did.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import IO, Any

from keraslm.config.fields import is_utf8_name
from keraslm.errors import TextError
from keraslm.text.sniff import is_binary, known_format, wide_encoding

_PIECE = 1 << 16  # bytes read at once
_HEAD = 1 << 20  # bytes in which the first line end is looked for


class Pieces(io.RawIOBase):
    """Pieces of bytes as a file."""

    def __init__(self, pieces: Iterable[bytes]):
        self._pieces = iter(pieces)
        self._waiting = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._waiting:
            self._waiting = memoryview(b"")  # free the previous piece before the next one is made
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._waiting = memoryview(piece)
        count = min(len(buffer), len(self._waiting))
        buffer[:count] = self._waiting[:count]
        self._waiting = self._waiting[count:]
        return count


def as_utf8(file: IO[bytes], name: str, encoding: str) -> io.BufferedReader:
    """The bytes of an unpacked file as a file in UTF-8; where they are not valid in their encoding, a byte 0xFF.

    Raises:
        TextError: the file is a picture, an archive, ..., or UTF-16 or UTF-32 without that `encoding`.
    """
    pieces: Iterator[bytes] = iter(lambda: file.read1(_PIECE), b"")  # type: ignore[attr-defined]
    head = _head(pieces)
    _check_text(head, name, encoding)
    if not is_utf8_name(encoding):
        pieces = _converted(chain([head], pieces), encoding)
        head = _head(pieces)
    pieces = chain([head], pieces)
    if b"\r" in head and b"\n" not in head:
        pieces = (piece.replace(b"\r", b"\n") for piece in pieces)
    return io.BufferedReader(Pieces(pieces), _PIECE)


def _head(pieces: Iterator[bytes]) -> bytes:
    """The first pieces, up to one with a line end: whoever types a text is answered after the first line."""
    head = b""
    while b"\n" not in head and len(head) < _HEAD and (piece := next(pieces, None)) is not None:
        head += piece
    return head


def _check_text(head: bytes, name: str, encoding: str) -> None:
    if found := known_format(head):
        raise TextError(f"{name}: looks like {found[0]}, not a text. {found[1]}")
    wide = wide_encoding(head)
    if wide and not codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")):
        raise TextError(f'{name}: the text is not in {encoding}, but in {wide}. Read it with `encoding="{wide}"`.')
    if is_utf8_name(encoding) and is_binary(head):
        raise TextError(
            f"{name}: not a text in UTF-8, but binary data, or a text in a different encoding; in that case name it "
            'with `encoding`, such as `encoding="utf-16"`.'
        )


def _converted(pieces: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)(_INVALID)
    for piece in pieces:
        yield decoder.decode(piece).encode("utf-8", _INVALID)
    yield decoder.decode(b"", final=True).encode("utf-8", _INVALID)


def _invalid(error: UnicodeError) -> tuple[str | bytes, int]:
    """Mark invalid data by a lone surrogate when decoding, and that surrogate by a byte when encoding."""
    assert isinstance(error, UnicodeDecodeError | UnicodeEncodeError)
    return "\udcff" if isinstance(error, UnicodeDecodeError) else b"\xff", error.end


_INVALID = "keraslm.invalid"
codecs.register_error(_INVALID, _invalid)
