"""Cost, distribution, course and most surprising words of a text, collected in bounded memory."""

from __future__ import annotations

import heapq
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from keraslm.perplexity import TextCost, bits, perplexity
from keraslm.pictures.spans import Laid
from keraslm.scoring.measures import Floats

FINE = 64  # bins per bit of the distribution
HIGHEST = 128  # bits; the last bin includes everything above
TOP = 10  # number of most surprising words


class Word(NamedTuple):
    """A word and its place: line from 1, piece from 0, negative so that of equal surprisals the first is greatest."""

    bits: float
    minus_line: int
    minus_piece: int
    text: str
    oov: bool


class Series:
    """Surprisal over the lines of a text: single lines at first, then blocks of `size` lines."""

    BINS = 4 * 40  # quarter bits up to 40
    BLOCKS = 512  # at most

    def __init__(self) -> None:
        self.size, self._lines = 1, 0
        self._counts = np.zeros((self.BLOCKS, self.BINS), np.int64)  # tokens of each block in each quarter bit
        self._sums = np.zeros(self.BLOCKS)

    def add(self, surprisals: Floats) -> None:
        if self._lines == self.BLOCKS * self.size:
            for values in (self._counts, self._sums):
                values[: self.BLOCKS // 2] = values[::2] + values[1::2]
                values[self.BLOCKS // 2 :] = 0
            self.size *= 2
        block = self._lines // self.size
        self._counts[block] += _binned(surprisals, 4, self.BINS)
        self._sums[block] += surprisals.sum()
        self._lines += 1

    @property
    def block(self) -> str:
        """Size of a block: `line` or `2 lines`."""
        return "line" if self.size == 1 else f"{self.size:,} lines"

    def lines(self) -> Floats:
        """The middle of each block, counted in lines from 1; `(blocks,)`."""
        begins = np.arange(0, self._lines, self.size)
        return (begins + 1 + np.minimum(begins + self.size, self._lines)) / 2

    def means(self) -> Floats:
        """Bits per word or token in each block, `(blocks,)`."""
        blocks = len(self.lines())
        return self._sums[:blocks] / self._counts[:blocks].sum(axis=1)

    def quantiles(self, share: float) -> Floats:
        """Quantile of the surprisal in each block, to a quarter bit; `(blocks,)`."""
        cumulative = self._counts[: len(self.lines())].cumsum(axis=1)
        return (np.argmax(cumulative >= share * cumulative[:, -1:], axis=1) + 0.5) / 4


class Statistics:
    """Statistics of a text, of its words or tokens.

    Attributes:
        cost: of the tokens.
        bits: surprisal of all words or tokens; `count` is their number.
        distribution: number of words or tokens in each bin of 1/64 bit, int64 `(bins,)`.
    """

    def __init__(self) -> None:
        self.cost = TextCost()
        self.bits, self.count = 0.0, 0
        self.words: list[Word] = []
        self.distribution = np.zeros(FINE * HIGHEST, np.int64)
        self.series = Series()

    def add(self, laid: Laid) -> None:
        self.cost += laid.score.cost
        self.bits, self.count = self.bits + float(laid.bits.sum()), self.count + len(laid.bits)
        self.distribution += _binned(laid.bits, FINE, FINE * HIGHEST)
        self.series.add(laid.bits)
        least = self.words[-1].bits if len(self.words) == TOP else -math.inf
        new = (
            Word(bits(word.logprob), -self.cost.lines, -laid.piece_of(word), word.word, word.oov)
            for word in laid.words[:-1]
            if word.tokens[0] < word.tokens[1] and bits(word.logprob) > least
        )
        self.words = heapq.nlargest(TOP, [*self.words, *new])

    @property
    def mean(self) -> float:
        """Bits per word or token; NaN without any."""
        return self.bits / self.count if self.count else math.nan

    @property
    def perplexity(self) -> float:
        """Per word or token."""
        return perplexity(self.bits, self.count, "2")

    @property
    def median(self) -> float:
        """Bits of the word or token in the middle, to 1/64 bit; NaN without any."""
        middle = np.searchsorted(self.distribution.cumsum(), self.count / 2)
        return (middle + 0.5) / FINE if self.count else math.nan


def _binned(surprisals: Floats, parts: int, bins: int) -> NDArray[np.int64]:
    """Number of surprisals in each bin of 1/parts bit; the last bin includes everything above, and NaN."""
    places = np.minimum(np.nan_to_num(surprisals * parts, nan=bins, posinf=bins), bins - 1).astype(np.int64)
    return np.bincount(places, minlength=bins)
