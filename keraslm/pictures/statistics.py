"""What the pictures say about a whole text, gathered line by line in bounded memory."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from keraslm.perplexity import TextCost
from keraslm.pictures.spans import Laid
from keraslm.scoring.measures import LineScore

FINE = 64  # bins a bit of the distribution
HIGHEST = 128  # bits; what is above falls into the last bin
TOP = 10  # most surprising words that are kept


@dataclass(order=True)
class Word:
    """A word, in the order of surprisal; of two alike the earlier one is the greater."""

    bits: float
    place: tuple[int, int]  # line and piece, both negative
    text: str = field(compare=False)
    oov: bool = field(compare=False)


class Series:
    """Surprisal over the lines of a text: single lines at first, then blocks of lines of equal size.

    Attributes:
        size: lines in a block.
        counts: how many tokens each block has in each bin of a quarter bit; int64 `(blocks, bins)`.
        sums: surprisal of each block, bits; float64 `(blocks,)`.
    """

    BINS = 4 * 40  # quarter bits up to 40
    BLOCKS = 512  # at most

    def __init__(self) -> None:
        self.size, self._lines = 1, 0
        self._counts = np.zeros((self.BLOCKS, self.BINS), np.int64)
        self._sums = np.zeros(self.BLOCKS)

    def add(self, bits: NDArray[np.float64]) -> None:
        """Add a line: the surprisal of each of its tokens."""
        if self._lines == self.BLOCKS * self.size:
            self._counts[: self.BLOCKS // 2] = self._counts[::2] + self._counts[1::2]
            self._sums[: self.BLOCKS // 2] = self._sums[::2] + self._sums[1::2]
            self._counts[self.BLOCKS // 2 :] = self._sums[self.BLOCKS // 2 :] = 0
            self.size *= 2
        block = self._lines // self.size
        self._counts[block] += np.bincount(_bins(bits, 4, self.BINS), minlength=self.BINS)
        self._sums[block] += bits.sum()
        self._lines += 1

    @property
    def counts(self) -> NDArray[np.int64]:
        return self._counts[: -(-self._lines // self.size)]

    @property
    def sums(self) -> NDArray[np.float64]:
        return self._sums[: len(self.counts)]

    def lines(self) -> NDArray[np.float64]:
        """The middle of each block, counted in lines from 1; `(blocks,)`."""
        begins = self.size * np.arange(len(self.counts))
        return (begins + 1 + np.minimum(begins + self.size, self._lines)) / 2

    def means(self) -> NDArray[np.float64]:
        """Bits a token in each block, `(blocks,)`."""
        return self.sums / self.counts.sum(axis=1)

    def quantiles(self, share: float) -> NDArray[np.float64]:
        """Surprisal that a share of each block's tokens does not exceed, bits, to a quarter bit; `(blocks,)`."""
        cumulative = self.counts.cumsum(axis=1)
        return (np.argmax(cumulative >= share * cumulative[:, -1:], axis=1) + 0.5) / 4


class Statistics:
    """Counts, cost, distribution, course and the most surprising words of a text.

    Attributes:
        distribution: tokens in each bin of 1/64 bit; int64 `(bins,)`.
        series: surprisal over the lines.
    """

    def __init__(self) -> None:
        self._counts = dict.fromkeys(("lines", "words", "tokens", "characters", "bytes", "oovs"), 0)
        self._nats = self._oov_nats = 0.0
        self._words: list[Word] = []
        self.distribution = np.zeros(FINE * HIGHEST, np.int64)
        self.series = Series()

    def add(self, laid: Laid) -> None:
        """Add a line."""
        line = laid.score
        for name, value in _sizes(line).items():
            self._counts[name] += value
        self._nats -= line.logprob
        self._oov_nats -= math.fsum(line.logprobs[line.oov])
        self.distribution += np.bincount(_bins(laid.bits, FINE, FINE * HIGHEST), minlength=FINE * HIGHEST)
        self.series.add(laid.bits)
        for text, bits, piece in laid.words():
            if len(self._words) < TOP or bits > self._words[0].bits:
                _, _, first, last = laid.pieces[piece].tolist()
                word = Word(bits, (-self._counts["lines"], -piece), text, bool(line.oov[first:last].any()))
                (heapq.heappush if len(self._words) < TOP else heapq.heappushpop)(self._words, word)

    @property
    def cost(self) -> TextCost:
        """Counts and nats, with perplexity and bits."""
        return TextCost(**self._counts, predicted=self._counts["tokens"], nats=self._nats, oov_nats=self._oov_nats)

    @property
    def mean(self) -> float:
        """Bits a token; NaN without one."""
        return self._nats / math.log(2) / self._counts["tokens"] if self._counts["tokens"] else math.nan

    @property
    def median(self) -> float:
        """Bits of the token in the middle, to 1/64 bit; NaN without one."""
        if not self._counts["tokens"]:
            return math.nan
        return (np.searchsorted(self.distribution.cumsum(), self._counts["tokens"] / 2) + 0.5) / FINE

    @property
    def words(self) -> list[Word]:
        """The most surprising words, the first the most."""
        return sorted(self._words, reverse=True)


def _sizes(line: LineScore) -> dict[str, int]:
    return {
        "lines": 1,
        "words": line.words,
        "tokens": len(line.ids),
        "characters": line.characters,
        "bytes": line.bytes,
        "oovs": int(line.oov.sum()),
    }


def _bins(bits: NDArray[np.float64], parts: int, bins: int) -> NDArray[np.int64]:
    """The bin of each surprisal; the last takes all above, and what is no number."""
    return np.minimum(np.nan_to_num(bits * parts, nan=bins, posinf=bins), bins - 1).astype(np.int64)
