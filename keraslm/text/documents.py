"""Documents in a stream of ids: where they end, and the stream with its documents in another order.

A document ends with a line (`line`), or with a blank line (`blank-line`): a line without tokens, so that the stream has
two end symbols in a row. Both are known from the ids alone. The end symbol that closes a document is also the input
from which the next one's first token is predicted; the state of the row is set to zero just before that input, so what
a document sees is the end symbol and itself:

    ids       a b . c d e . f .        `.` is the end symbol, each line a document
    input     . a b . c d e . f        resets in front of every `.`
    target    a b . c d e . f .        c is predicted from `.` and a state of zeros
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.text.encoders import Ids

_CHUNK = 1 << 22  # tokens looked at at once


def closes_document(ids: NDArray[Any], before: NDArray[Any], eos_id: int, documents: str) -> NDArray[np.bool_]:
    """Which tokens are the last of their document.

    Args:
        ids: of any shape.
        before: the token before each of them, of the same shape.
        eos_id: the end symbol.
        documents: `"none"`, `"line"` or `"blank-line"`.

    Example:
        >>> closes_document(np.array([5, 0, 0]), np.array([0, 5, 0]), eos_id=0, documents="blank-line")
        array([False, False,  True])
    """
    if documents == "none":
        return np.zeros(ids.shape, np.bool_)
    ends: NDArray[np.bool_] = ids == eos_id
    return ends & (before == eos_id) if documents == "blank-line" else ends


class ShuffledDocuments:
    """A stream whose documents stand in another order each epoch, the same for the same seed and epoch.

    A last document that nothing closes stays the last. Takes 24 bytes of memory a document.

    Args:
        ids: the stream, `(tokens,)`; may be a mapped file.
        eos_id: the end symbol.
        documents: `"line"` or `"blank-line"`.
        seed: of the order.

    Attributes:
        count: number of closed documents.

    Example:
        >>> stream = ShuffledDocuments(np.array([5, 0, 6, 7, 0]), eos_id=0, documents="line", seed=1)
        >>> stream.take(np.arange(5))
        array([6, 7, 0, 5, 0], dtype=int32)
    """

    def __init__(self, ids: NDArray[Any], eos_id: int, documents: str, seed: int):
        self._ids, self._seed = ids, seed
        ends = _document_ends(ids, eos_id, documents)
        self.count = len(ends)
        self._starts = np.concatenate([[0], ends])  # [count + 1]; the last one is that of what nothing closes
        self._lengths = np.diff(np.append(self._starts, len(ids)))
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Order the documents for an epoch, counted from 0."""
        generator = np.random.default_rng([self._seed, zlib.crc32(b"documents"), epoch])
        self._order = np.append(generator.permutation(self.count), self.count)
        self._ends = np.cumsum(self._lengths[self._order])  # of the documents in their new places

    def take(self, positions: NDArray[np.int64]) -> Ids:
        """The tokens at positions of the reordered stream."""
        place = np.searchsorted(self._ends, positions, side="right")
        document = self._order[place]
        from_end = self._ends[place] - positions
        source = self._starts[document] + self._lengths[document] - from_end
        return np.asarray(self._ids[source], np.int32)


def _document_ends(ids: NDArray[Any], eos_id: int, documents: str) -> NDArray[np.int64]:
    """Position after each document that is closed; ids may be larger than memory."""
    found = []
    for start in range(0, len(ids), _CHUNK):
        part = np.asarray(ids[max(start - 1, 0) : start + _CHUNK])
        before = part if start else np.concatenate([[eos_id], part])
        closed = closes_document(part[1:] if start else part, before[:-1], eos_id, documents)
        found.append(np.flatnonzero(closed) + start + 1)
    return np.concatenate(found) if found else np.zeros(0, np.int64)
