"""What each epoch reads of a stream, if it is not the same every time: shuffled, or parts of weighted texts."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.text.context import context_ends
from keraslm.text.encoders import Ids
from keraslm.text.weights import WeightedTexts


class EpochStream:
    """The tokens of an epoch, determined by the texts, the seed and the number of the epoch.

    Args:
        ids: the stream, `(tokens,)`; may be mapped.
        eos_id: the end symbol.
        context: `"document"`, `"sentence"` or `"paragraph"`.
        seed: of a new order of sentences or paragraphs in each epoch; needs about 50 bytes for each of them. An
            unfinished paragraph at the end of a text stays at the end. Default: the order of the text.
        texts: the texts of the stream, if they are weighted.

    Example:
        >>> stream = EpochStream(np.array([5, 0, 6, 7, 0, 8, 0]), eos_id=0, context="sentence", seed=1)
        >>> stream.set_epoch(1)
        >>> stream.take(np.arange(7)).tolist()
        [8, 0, 6, 7, 0, 5, 0]
    """

    def __init__(
        self, ids: NDArray[Any], eos_id: int, context: str, seed: int | None = None, texts: WeightedTexts | None = None
    ):
        self._ids, self._seed, self._texts = ids, seed, texts
        if seed is not None:
            ends = context_ends(ids, eos_id, context)
            starts = np.unique(np.concatenate([[0], ends, texts.starts if texts else []]).astype(np.int64))
            self._starts = starts[starts < len(ids)]
            self._lengths = np.diff(np.append(self._starts, len(ids)))
            self._finished = np.isin(self._starts + self._lengths, ends)
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Read the tokens of an epoch, counted from 0."""
        segments = self._texts.segments(epoch) if self._texts else np.array([[0, len(self._ids)]])
        if self._seed is None:
            starts, lengths = segments[:, 0], segments[:, 1] - segments[:, 0]
        else:
            units = self._shuffled(segments, np.random.default_rng([self._seed, zlib.crc32(b"documents"), epoch]))
            starts, lengths = self._starts[units], self._lengths[units]
        self._ends = np.cumsum(lengths)  # in the epoch
        self._shifts = starts - (self._ends - lengths)  # from a position in the epoch to its place in the stream

    def take(self, positions: NDArray[np.int64]) -> Ids:
        """The tokens at positions of the epoch, in their shape."""
        place = np.searchsorted(self._ends, positions, side="right")
        return np.asarray(self._ids[positions + self._shifts[place]], np.int32)

    def _shuffled(self, segments: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        """The numbers of the sentences or paragraphs of an epoch, in a new order."""
        ranges = np.searchsorted(self._starts, segments)
        units = np.concatenate([np.arange(first, end) for first, end in ranges])
        finished = self._finished[units]
        movable = units[finished]
        return np.concatenate([movable[generator.permutation(len(movable))], units[~finished]])
