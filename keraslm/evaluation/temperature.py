"""Temperature: p(w) = softmax(logits / T), with T tuned on a held-out text.

An overconfident (overfitted) network gains from T above 1, an underconfident one from T below 1. The cost is convex in
1 / T, so a grid and a finer one around its best point find the best T.

Reference: Guo, Pleiss, Sun and Weinberger 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.evaluation.reader import Reader
from keraslm.system import Log
from keraslm.testtime.grid import cheapest

GRID = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.6, 2.0, 2.5, 3.0)


def tempered_nats(
    targets: NDArray[Any], logprobs: NDArray[np.float32], temperatures: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Cost of targets `(T,)` at G temperatures, `(G, T)`, from log-probabilities or logits `(T, V)`."""
    below = logprobs - logprobs.max(axis=-1, keepdims=True)  # [T, V], at most 0: nothing overflows
    own = np.take_along_axis(below, np.asarray(targets)[:, None], axis=-1)[:, 0].astype(np.float64)
    scaled, nats = np.empty_like(below), np.empty((len(temperatures), len(below)))
    for row, temperature in zip(nats, temperatures, strict=True):
        np.multiply(below, np.float32(1.0 / temperature), out=scaled)
        row[:] = np.log(np.exp(scaled, out=scaled).sum(axis=-1)) - own / temperature
    return nats


def temperature_nats(reader: Reader, ids: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """Cost of each token of a text at a temperature, `(tokens,)`."""
    return np.concatenate([tempered_nats(*window, [temperature])[0] for window in reader.logprobs(ids)])


def tune_temperature(reader: Reader, ids: NDArray[Any], log: Log) -> float:
    """Find the temperature with the lowest cost of a text, in two passes."""

    def cost(grid: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.sum([tempered_nats(*window, grid).sum(axis=1) for window in reader.logprobs(ids)], axis=0)

    (found,) = cheapest(cost, [np.asarray(GRID)], lambda name, point: log(f"temperature   {name}: {point[0]:g}"))
    return found
