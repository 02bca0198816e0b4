"""Compressed files, detected by their first bytes: gzip, bzip2, xz and zstandard, unpacked as a stream."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import zlib
from collections.abc import Iterator
from typing import IO, Any

from keraslm.system.backend import require

DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError)  # what reading a damaged file raises
_UNPACKED = 1 << 17  # bytes of zstandard returned at once
_PACKED = 1 << 10  # bytes of zstandard read at once; even a compression bomb unpacks to at most 40 MB of them

_MAGIC = {"gzip": b"\x1f\x8b", "bzip2": b"BZh", "xz": b"\xfd7zXZ\x00", "zstandard": b"\x28\xb5\x2f\xfd"}
_OPEN: dict[str, Any] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}


def unpacked(raw: io.BufferedReader) -> tuple[Any, str | None]:
    """The unpacked bytes of an open file as a file, and the name of its compression; None for a plain file."""
    head = raw.peek(8)
    kind = next((name for name, magic in _MAGIC.items() if head.startswith(magic)), None)
    if kind is None:
        return raw, None
    if kind == "zstandard":
        require("zstandard", extra="zstd", purpose="A zstandard text")
        return io.BufferedReader(_ZstandardFile(raw), _UNPACKED), kind
    return _OPEN[kind](raw), kind


class _ZstandardFile(io.RawIOBase):
    """The package's own reader ends a truncated file without an error."""

    def __init__(self, raw: IO[bytes]):
        self._pieces = _frames(raw)
        self._waiting = memoryview(b"")  # unpacked, not returned yet

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._waiting:
            self._waiting = memoryview(b"")  # free the previous piece before the next one is unpacked
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._waiting = memoryview(piece)
        count = min(len(buffer), len(self._waiting))
        buffer[:count] = self._waiting[:count]
        self._waiting = self._waiting[count:]
        return count


def _frames(raw: IO[bytes]) -> Iterator[bytes]:
    library: Any = importlib.import_module("zstandard")
    packed, frame = b"", None
    while packed := packed or raw.read(_PACKED):
        frame = frame or library.ZstdDecompressor().decompressobj()
        try:
            yield frame.decompress(packed)
        except library.ZstdError as error:
            raise EOFError(str(error)) from error
        packed = frame.unused_data if frame.eof else b""
        frame = None if frame.eof else frame
    if frame:
        raise EOFError("the last frame is cut short")
