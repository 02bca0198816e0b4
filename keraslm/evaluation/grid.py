"""Grid search, and a finer grid around the best point."""

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
    """The point with the lowest cost, on a grid and then on a finer one around the best point.

    Args:
        cost: from grids of G, H, ... values to the cost at each point, `(G, H, ...)`; called twice.
        grids: increasing values of each parameter.
        log: called with "grid" or "finer grid", and its best point.

    Example:
        >>> cheapest(lambda grid: (grid - 1.2) ** 2, [np.array([0.0, 1.0, 2.0])], lambda *_: None)
        (1.25,)
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
    """A finer grid around the point with index `best`, up to its neighbours; a grid of one value stays as it is.

    It contains the point, so the result is never worse. Four significant digits make the printed value the exact one.
    """
    if len(grid) == 1:
        return np.asarray(grid, np.float64)
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    below, above = np.linspace(low, grid[best], POINTS + 1), np.linspace(grid[best], high, POINTS + 1)
    return np.unique([float(f"{value:.4g}") for value in (*below, *above)])
