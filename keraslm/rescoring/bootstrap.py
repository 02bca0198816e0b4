"""Confidence intervals of error rates, and how probable it is that one system is better than another.

The utterances of a test set are drawn with replacement, as many as there are, again and again. A resample `b` has

    rate_b = sum of errors / sum of words,

and the interval is the range of the middle 95 % of these rates. Two systems are compared on the same resamples: the
probability of improvement is the share of resamples in which the second system has fewer errors than the first
(Bisani and Ney 2004, "Bootstrap estimates for confidence intervals in ASR performance evaluation").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keraslm import arguments

LEVEL = 0.95
_DRAWS = 1 << 22  # utterances that are drawn at a time

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Intervals:
    """Of several systems, each `(systems,)`.

    Attributes:
        low, high: ends of the interval of the error rate; NaN if the references have no words.
        improvement: probability that the system has fewer errors than the first one.
    """

    low: Numbers
    high: Numbers
    improvement: Numbers

    def cells(self, system: int) -> list[str]:
        """Of one system, as cells of a table: the ends in per cent, and the improvement."""
        ends = (f"{100 * own[system]:.2f}" for own in (self.low, self.high))
        return [*ends, f"{self.improvement[system]:.4f}" if system else "-"]


def bootstrap(errors: NDArray[np.int64], words: NDArray[np.int64], resamples: int = 10_000, seed: int = 0) -> Intervals:
    """The intervals of several systems on the same utterances.

    Args:
        errors: of each system in each utterance, `(systems, utterances)`.
        words: of the reference of each utterance, `(utterances,)`.
        resamples: number of resamples.
        seed: the same seed gives the same resamples.

    Example:
        >>> found = bootstrap(np.array([[1, 0, 2, 1], [0, 0, 2, 0]]), np.array([5, 5, 5, 5]))
        >>> found.low, found.high, found.improvement
        (array([0.05, 0.  ]), array([0.35, 0.3 ]), array([0.    , 0.9362]))
    """
    resamples = arguments.integer(resamples, "bootstrap", 1)
    generator = np.random.default_rng(arguments.integer(seed, "seed", 0))
    table = np.concatenate([errors, words[None]]).T.astype(np.float64)  # [U, S + 1]; its sums are exact integers
    count = len(words)
    size = max(1, _DRAWS // max(1, count))
    parts = []
    for start in range(0, resamples, size):
        rows = min(size, resamples - start)
        drawn = generator.integers(count, size=(rows, count)) if count else np.zeros((rows, 0), np.int64)
        cells = drawn + count * np.arange(rows)[:, None]
        times = np.bincount(cells.ravel(), minlength=rows * count).reshape(rows, count)  # each utterance was drawn
        parts.append(times.astype(np.float64) @ table)
    sums = np.concatenate(parts)  # [B, S + 1]
    improvement = (sums[:, :-1] < sums[:, :1]).mean(axis=0)
    some = sums[sums[:, -1] > 0]  # a resample without words has no rate
    rates = some[:, :-1] / some[:, -1:]
    ends = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    low, high = np.quantile(rates, ends, axis=0) if len(rates) else np.full((2, len(errors)), np.nan)
    return Intervals(low, high, improvement)
