"""The parameters of the neural cache with which a text is cheapest: a grid search in two passes over the text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keraslm.testtime.grid import cheapest
from keraslm.testtime.neural_cache import Floats, mixed_nats
from keraslm.testtime.settings import CacheSettings

THETAS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 4.0)
LAMBDAS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8)

# Of G thetas: the nats of some tokens without the cache, (T,), and their probabilities under it, (G, T); part by part.
Masses = Callable[[Floats], Iterable[tuple[Floats, Floats]]]


@dataclass(frozen=True)
class CacheCost:
    """Settings without None, and what the text costs with them and without the cache; nats."""

    settings: CacheSettings
    tokens: int
    nats: float
    plain_nats: float


def cheapest_cache(masses: Masses, settings: CacheSettings, log: Callable[[str], None]) -> CacheCost:
    """Replace a theta and lambda of None by those with the lowest cost.

    Args:
        masses: reads the text once; see `Masses`.
        settings: what is not None is not searched.
        log: called with the best point of each pass.
    """
    theta, share = settings.cache_theta, settings.cache_lambda
    grids = [np.asarray(THETAS if theta is None else [theta]), np.asarray(LAMBDAS if share is None else [share])]
    totals: dict[str, Any] = {}

    def cost(thetas: Floats, shares: Floats) -> Floats:
        costs, plain, tokens = np.zeros((len(thetas), len(shares))), 0.0, 0
        for nats, parts in masses(thetas):
            costs += [[mixed_nats(nats, mass, each).sum() for each in shares] for mass in parts]
            plain, tokens = plain + float(nats.sum()), tokens + len(nats)
        totals.update(tokens=tokens, nats=float(costs.min()), plain_nats=plain)
        return costs

    found = "neural cache  {}: theta {:g}, lambda {:g}".format
    theta, share = cheapest(cost, grids, lambda name, point: log(found(name, *point)))
    return CacheCost(replace(settings, cache_theta=theta, cache_lambda=share), **totals)
