"""Compressed files, detected by their first bytes: gzip, bzip2, xz and zstandard, unpacked as a stream."""

from __future__ import annotations

import bz2
import gzip
import importlib
import importlib.util
import io
import lzma
import zlib
from typing import IO, Any

from keraslm.errors import MissingPackageError

DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError)  # what reading a damaged file raises
_UNPACKED = 1 << 17  # bytes of zstandard returned at once
_PACKED = 1 << 10  # bytes of zstandard read at once: even a compression bomb makes at most some 40 MB of them

_MAGIC = {"gzip": b"\x1f\x8b", "bzip2": b"BZh", "xz": b"\xfd7zXZ\x00", "zstandard": b"\x28\xb5\x2f\xfd"}


def unpacked(raw: io.BufferedReader) -> tuple[IO[bytes], str | None]:
    """The bytes inside an open file and the name of its compression; a plain file itself and None.

    Raises:
        MissingPackageError: the file is zstandard and its package is not installed.

    Example:
        >>> unpacked(open("text.txt.xz", "rb"))[1]
        'xz'
    """
    head = raw.peek(8)
    kind = next((name for name, magic in _MAGIC.items() if head.startswith(magic)), None)
    if kind is None:
        return raw, None
    if kind == "zstandard":
        if importlib.util.find_spec("zstandard") is None:
            raise MissingPackageError("A zstandard text needs the package zstandard: pip install 'keraslm[zstd]'")
        return io.BufferedReader(_ZstandardFile(raw), _UNPACKED), kind
    openers: dict[str, Any] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
    return openers[kind](raw), kind


class _ZstandardFile(io.RawIOBase):
    """One or more zstandard frames. The package's own reader ends a truncated file without an error."""

    def __init__(self, raw: IO[bytes]):
        self._raw = raw
        self._library: Any = importlib.import_module("zstandard")
        self._frame: Any = None
        self._waiting = memoryview(b"")  # unpacked, not returned yet
        self._packed = b""  # read, not unpacked yet

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._waiting:
            self._packed = self._packed or self._raw.read(_PACKED)
            if not self._packed:
                if self._frame is not None:
                    raise EOFError("the last frame is cut short")
                return 0
            self._unpack()
        count = min(len(buffer), len(self._waiting))
        buffer[:count] = self._waiting[:count]
        self._waiting = self._waiting[count:]
        return count

    def _unpack(self) -> None:
        if self._frame is None:
            self._frame = self._library.ZstdDecompressor().decompressobj()
        try:
            self._waiting = memoryview(b"")  # free the previous piece before the next one is unpacked
            self._waiting = memoryview(self._frame.decompress(self._packed))
        except self._library.ZstdError as error:
            raise EOFError(str(error)) from error
        self._packed = self._frame.unused_data if self._frame.eof else b""
        if self._frame.eof:
            self._frame = None
