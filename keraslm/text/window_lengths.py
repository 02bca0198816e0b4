"""Windows of varying length, so that a text is cut at different places in each epoch.

A length is drawn around `num_steps`, one in twenty around half of it, with a standard deviation of 5 and at least 5.
Every epoch has the same number of windows, estimated from the mean length. Randomly chosen windows are then made one
token longer or shorter, until they fill the rows.

Reference: Merity, Keskar and Socher 2018, section 4.1, and their program for the smallest length.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
from numpy.typing import NDArray

LONG = 0.95  # share of windows around num_steps; the others are around half of it
DEVIATION = 5.0
LEAST = 5


def window_count(tokens: int, num_steps: int) -> int:
    """Number of windows in an epoch for `tokens` predicted tokens per row, at least `num_steps`."""
    mean = LONG * _mean_length(num_steps, num_steps) + (1.0 - LONG) * _mean_length(num_steps / 2, num_steps)
    return max(1, int(tokens / mean))


def draw_lengths(tokens: int, num_steps: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Lengths of the windows of an epoch, counted from 0, `(windows,)`; their sum is `tokens`."""
    generator = np.random.default_rng([seed, zlib.crc32(b"window lengths"), epoch])
    count, least = window_count(tokens, num_steps), min(LEAST, num_steps)
    bases = np.where(generator.random(count) < LONG, num_steps, num_steps / 2)
    lengths = np.maximum(least, generator.normal(bases, DEVIATION).astype(np.int64))
    while missing := tokens - int(lengths.sum()):
        able = np.flatnonzero(lengths > least) if missing < 0 else np.arange(count)
        lengths[generator.permutation(able)[: abs(missing)]] += np.sign(missing)
    return lengths


def _mean_length(base: float, num_steps: int) -> float:
    """Expectation of max(least, int(normal(base, DEVIATION)))."""
    least = min(LEAST, num_steps)
    above = range(least + 1, math.ceil(base + 10 * DEVIATION))
    return least + math.fsum(0.5 * math.erfc((length - base) / (DEVIATION * math.sqrt(2.0))) for length in above)
