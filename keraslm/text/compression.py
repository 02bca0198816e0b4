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
from keraslm.text.sniff import known_format
from keraslm.text.streams import Pieces

DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError)  # what reading a damaged file raises
_UNPACKED = 1 << 17  # bytes of zstandard returned at once
_PACKED = 1 << 10  # bytes of zstandard read at once; even a compression bomb unpacks to at most 40 MB of them

_OPEN: dict[str, Any] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}


def unpacked(raw: io.BufferedReader) -> tuple[Any, str | None]:
    """The unpacked bytes of an open file as a file, and the name of its compression; None for a plain file."""
    name, _ = known_format(raw.peek(16)) or ("", "")
    kind = name.removesuffix(" data")
    if kind == "zstandard":
        require("zstandard", extra="zstd", purpose="A zstandard text")
        return io.BufferedReader(Pieces(_frames(raw)), _UNPACKED), kind
    return (_OPEN[kind](raw), kind) if kind in _OPEN else (raw, None)


def _frames(raw: IO[bytes]) -> Iterator[bytes]:
    """The unpacked pieces of zstandard data. The package's own reader ends a truncated file without an error."""
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
