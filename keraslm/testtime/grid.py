"""Grid search."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

POINTS = 4  # steps of the finer grid on either side of the best point


def cheapest(
    cost: Callable[..., NDArray[np.float64]],
    grids: Sequence[NDArray[np.float64]],
    log: Callable[[str, tuple[float, ...]], None],
) -> tuple[float, ...]:
    """Find the point with the lowest cost, on a grid and then on a finer grid around the best point.

    `cost` maps grids of G, H, ... increasing values to the cost at each point, `(G, H, ...)`. `log` is called with
    "grid" or "finer grid", and its best point.
    """
    best: tuple[int, ...] = ()
    for name in ("grid", "finer grid"):
        if best:
            grids = [finer(grid, place) for grid, place in zip(grids, best, strict=True)]
        costs = cost(*grids)
        best = tuple(int(place) for place in np.unravel_index(np.argmin(costs), costs.shape))
        point = tuple(float(grid[place]) for grid, place in zip(grids, best, strict=True))
        log(name, point)
    return point


def finer(grid: Sequence[float] | NDArray[np.float64], best: int) -> NDArray[np.float64]:
    """A finer grid that contains the point with index `best` and ends at its neighbours.

    A grid of one value is not changed. Values are rounded to four digits, so that the printed value is the exact one.
    """
    if len(grid) == 1:
        return np.asarray(grid, np.float64)
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    below, above = np.linspace(low, grid[best], POINTS + 1), np.linspace(grid[best], high, POINTS + 1)
    return np.unique([float(f"{value:.4g}") for value in (*below, *above)])
