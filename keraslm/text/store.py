"""Texts as ids, their size and fingerprint; large ones in a cache folder, mapped into memory when they are read.

CACHE/ids/KEY/ids.bin     the ids, uint16 if the vocabulary allows it, else int32; little-endian, nothing else
CACHE/ids/KEY/text.json   format version, dtype, size of the text in every unit; of each text, if several are joined
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.errors import TokenizerError, shown
from keraslm.system.atomic import atomic_folder, remove_abandoned
from keraslm.text.encoders import Ids

FORMAT_VERSION = 2  # 1 kept CR inside lines
_BUFFER = 1 << 20  # bytes
_CHUNK = 1 << 22  # tokens


@dataclass(frozen=True)
class TextCounts:
    """The size of a text, or of a part of it; each line end counts as one character and one byte."""

    lines: int = 0  # as `wc -l` counts them, plus a last one without line end
    words: int = 0  # separated by white space, for every tokenizer
    tokens: int = 0  # of the tokenizer, with one end symbol per line
    characters: int = 0
    bytes: int = 0  # in UTF-8
    oovs: int = 0  # tokens that are `<unk>`

    def __add__(self, other: TextCounts) -> TextCounts:
        return TextCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


Part = tuple[Ids, TextCounts, int]  # ids, size, lines that were not UTF-8


@dataclass(frozen=True)
class EncodedText:
    """A text as ids."""

    name: str  # in messages
    ids: NDArray[Any]  # [tokens], int32 or the type of the mapped file
    counts: TextCounts
    replaced: int = 0  # lines that were not UTF-8
    texts: tuple[TextCounts, ...] = ()  # of the texts of a `JoinedTexts`, in order; empty for one text


def in_memory(name: str, texts: Sequence[Iterable[Part]]) -> EncodedText:
    """A text in memory, from the parts of each of its texts."""
    ids: list[Ids] = []
    sizes, replaced = _each_size(texts, ids.append)
    joined = np.concatenate([np.zeros(0, np.int32), *ids])
    return EncodedText(name, joined, sum(sizes, TextCounts()), replaced, tuple(sizes) if sizes[1:] else ())


def write_encoded(folder: Path, texts: Sequence[Iterable[Part]], vocab_size: int) -> None:
    """Write a text, as for `in_memory`, to a folder of the cache."""
    dtype = "<u2" if vocab_size <= 1 << 16 else "<i4"
    remove_abandoned(folder.parent)
    with atomic_folder(folder) as temporary:
        with (temporary / "ids.bin").open("wb", buffering=_BUFFER) as file:
            sizes, replaced = _each_size(texts, lambda ids: file.write(ids.astype(dtype).tobytes()))
        counts = vars(sum(sizes, TextCounts()))
        header = {"format_version": FORMAT_VERSION, "dtype": dtype, "replaced": replaced, "counts": counts}
        if sizes[1:]:
            header["texts"] = [vars(size) for size in sizes]
        (temporary / "text.json").write_text(json.dumps(header), encoding="utf-8")


def _each_size(texts: Sequence[Iterable[Part]], add: Callable[[Ids], object]) -> tuple[list[TextCounts], int]:
    """The size of each text and the number of lines that were not UTF-8; passes on the ids."""
    sizes, replaced = [], 0
    for parts in texts:
        total = TextCounts()
        for ids, size, bad in parts:
            add(ids)
            total, replaced = total + size, replaced + bad
        sizes.append(total)
    return sizes, replaced


@contextmanager
def caching(what: str, path: Path) -> Iterator[None]:
    """Use an entry of the cache in the block; if it cannot be written or is damaged, the block ends with a note."""
    try:
        yield
    except (OSError, CacheError, TokenizerError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        print(f"keraslm: {path}: the cache of {what} is not used ({reason})", file=sys.stderr)


class CacheError(Exception):
    """An entry of the cache is damaged."""


def open_encoded(folder: Path, name: str) -> EncodedText:
    """Map a text of the cache into memory; a CacheError if its folder is damaged."""
    try:
        header = json.loads((folder / "text.json").read_text(encoding="utf-8"))
        counts = TextCounts(**header["counts"])
        size = np.dtype(header["dtype"]).itemsize * counts.tokens
        if header["format_version"] != FORMAT_VERSION or (folder / "ids.bin").stat().st_size != size:
            raise ValueError("its files do not fit together")
        ids = np.memmap(folder / "ids.bin", header["dtype"], "r") if size else np.zeros(0, np.int32)
        texts = tuple(TextCounts(**size) for size in header.get("texts", ()))
        return EncodedText(name, ids, counts, int(header["replaced"]), texts)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CacheError(f"the entry is damaged, remove it: {error}") from error


def default_cache() -> Path:
    """`$KERASLM_CACHE`, or `keraslm` in the user's cache folder; in a temporary folder for a user without a home."""
    try:
        home = Path.home()
    except RuntimeError:  # a container that runs under any number
        home = Path(tempfile.gettempdir())
    user = os.environ.get("XDG_CACHE_HOME") or home / ".cache"
    return Path(os.environ.get("KERASLM_CACHE") or Path(user) / "keraslm")


def key(**parts: Any) -> str:
    """32 hexadecimal digits of a SHA-256 of JSON values: the name of a file that depends on these values only."""
    described = json.dumps({"format_version": FORMAT_VERSION, **parts}, sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()[:32]


def token_counts(ids: NDArray[Any], vocab_size: int) -> NDArray[np.int64]:
    """Number of occurrences of each id in a stream, int64 `(vocab_size,)`; the stream may be larger than memory."""
    chunks = (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))
    return sum((np.bincount(chunk, minlength=vocab_size) for chunk in chunks), np.zeros(vocab_size, np.int64))


def fingerprint(ids: NDArray[Any], texts: Sequence[TextCounts] = ()) -> dict[str, Any]:
    """Number and SHA-256 of the tokens of a text, as little-endian int32: the same for any file with this text.

    With the sizes of several `texts`, also the number of tokens of each.
    """
    digest = hashlib.sha256()
    for start in range(0, len(ids), _CHUNK):
        digest.update(ids[start : start + _CHUNK].astype("<i4").tobytes())
    each = {"texts": [text.tokens for text in texts]} if texts else {}
    return {"tokens": len(ids), "sha256": digest.hexdigest(), **each}


def described(found: Any) -> str:
    """A fingerprint, possibly a damaged one, as text for messages: `929,589 tokens with SHA-256 c0ffeec0ffee`."""
    if not isinstance(found, Mapping):
        return "none"
    tokens = found.get("tokens")
    size = f"{tokens:,}" if type(tokens) is int and tokens < 2**63 else shown(tokens)
    parts = f" in texts of {shown(found['texts'])}" if "texts" in found else ""
    return f"{size} tokens{parts} with SHA-256 {str(found.get('sha256'))[:12]}"
