"""Large texts as ids in a cache folder, one folder a text and tokenizer, mapped into memory when they are read.

    CACHE/KEY/ids.bin     the ids, uint16 where the vocabulary allows it, else int32; little-endian, nothing else
    CACHE/KEY/text.json   format version, dtype, size of the text in every unit

A folder appears under its name when both files are whole and on the disk. What an interrupted process leaves behind
has a name that begins with a dot, and is removed by the next one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.errors import TextError
from keraslm.system.atomic import atomic_folder, remove_abandoned
from keraslm.text.counts import TextCounts
from keraslm.text.encoders import Ids

FORMAT_VERSION = 1
_BUFFER = 1 << 20  # bytes
_CHUNK = 1 << 22  # tokens

Part = tuple[Ids, TextCounts, int]


@dataclass(frozen=True)
class EncodedText:
    """A text as ids.

    Attributes:
        name: what messages call the text.
        ids: int32, or as a mapped file has them; `(tokens,)`.
        counts: its size.
        replaced: lines that were not UTF-8.
        path: its folder in the cache; None for a text in memory.
    """

    name: str
    ids: NDArray[Any]
    counts: TextCounts
    replaced: int = 0
    path: Path | None = None


def in_memory(name: str, parts: Iterable[Part]) -> EncodedText:
    """A text from its parts: ids, size, and lines that were not UTF-8."""
    ids, counts, replaced = [], TextCounts(), 0
    for part, size, bad in parts:
        ids.append(part)
        counts, replaced = counts + size, replaced + bad
    return EncodedText(name, np.concatenate(ids) if ids else np.zeros(0, np.int32), counts, replaced)


def write_encoded(folder: Path, parts: Iterable[Part], vocab_size: int) -> None:
    """Write a text's parts to a folder of the cache, one after the other.

    Raises:
        TextError: when the disk does not take them.
    """
    dtype = "<u2" if vocab_size <= 1 << 16 else "<i4"
    counts, replaced = TextCounts(), 0
    with keeping("encoded text", folder.parent):
        remove_abandoned(folder.parent)
        with atomic_folder(folder, exist_ok=True) as temporary:
            with (temporary / "ids.bin").open("wb", buffering=_BUFFER) as file:
                for ids, size, bad in parts:
                    file.write(ids.astype(dtype).tobytes())
                    counts, replaced = counts + size, replaced + bad
            header = {"format_version": FORMAT_VERSION, "dtype": dtype, "replaced": replaced, "counts": vars(counts)}
            (temporary / "text.json").write_text(json.dumps(header), encoding="utf-8")


@contextmanager
def keeping(what: str, folder: Path) -> Iterator[None]:
    """Make an error of the disk, while something is written to the cache, one of the user's."""
    try:
        yield
    except OSError as error:
        raise TextError(
            f"{folder}: the {what} cannot be kept there ({error.strerror or error}). "
            "Choose another folder with --cache."
        ) from error


def open_encoded(folder: Path, name: str) -> EncodedText:
    """Map a text of the cache.

    Raises:
        TextError: when the folder is damaged.
    """
    try:
        header = json.loads((folder / "text.json").read_text(encoding="utf-8"))
        counts = TextCounts(**header["counts"])
        size = np.dtype(header["dtype"]).itemsize * counts.tokens
        if header["format_version"] != FORMAT_VERSION or (folder / "ids.bin").stat().st_size != size:
            raise ValueError("its files do not fit each other")
        ids = np.memmap(folder / "ids.bin", header["dtype"], "r") if size else np.zeros(0, np.int32)
        return EncodedText(name, ids, counts, int(header["replaced"]), folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TextError(f"{folder}: a damaged entry of the cache ({error}). Remove this folder.") from error


def token_counts(ids: NDArray[Any], vocab_size: int) -> NDArray[np.int64]:
    """How often each id stands in a stream, int64 `(vocab_size,)`; the stream may be larger than memory."""
    counts = np.zeros(vocab_size, np.int64)
    for start in range(0, len(ids), _CHUNK):
        counts += np.bincount(ids[start : start + _CHUNK], minlength=vocab_size)
    return counts


def default_cache() -> Path:
    """`$KERASLM_CACHE`, or `keraslm` in the user's cache folder."""
    if os.environ.get("KERASLM_CACHE"):
        return Path(os.environ["KERASLM_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keraslm"


def key(**parts: Any) -> str:
    """A name for what depends on some values alone: 32 hexadecimal digits of a SHA-256."""
    described = json.dumps({"format_version": FORMAT_VERSION, **parts}, sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()[:32]
