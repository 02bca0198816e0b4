"""The neural cache on a text that the network of a run reads; `keraslm.testtime.neural_cache` has the formula."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.evaluation.reader import Reader
from keraslm.system import Log
from keraslm.testtime.neural_cache import Floats, NeuralCache, mixed_nats
from keraslm.testtime.settings import CacheSettings
from keraslm.testtime.tuning import cheapest_cache


def cache_nats(reader: Reader, ids: NDArray[Any], settings: CacheSettings, base: Floats | None = None) -> Floats:
    """Cost of each token of a text with the cache, `(tokens,)`; `base` replaces the cost under the network."""
    assert settings.cache_theta is not None
    windows = _masses(reader, ids, settings.cache_window, base, [settings.cache_theta])
    return np.concatenate([mixed_nats(nats, masses[0], settings.cache_lambda) for nats, masses in windows])


def tune_cache(
    reader: Reader, ids: NDArray[Any], settings: CacheSettings, log: Log, base: Floats | None = None
) -> CacheSettings:
    """Replace a theta and lambda of None by those with the lowest cost of a text, in two passes."""
    return cheapest_cache(partial(_masses, reader, ids, settings.cache_window, base), settings, log).settings


def _masses(
    reader: Reader, ids: NDArray[Any], history: int, base: Floats | None, thetas: Sequence[float] | Floats
) -> Iterator[tuple[Floats, Floats]]:
    """The nats without the cache, `(T,)`, and the masses of the cache, `(G, T)`, of each window."""
    cache, place = NeuralCache(history, thetas), 0
    for scored in reader.hidden(ids):
        assert scored.hidden is not None
        masses = cache.step(scored.hidden[0], scored.targets[0], None if scored.starts is None else scored.starts[0])
        end = place + masses.shape[1]
        yield scored.nats[0] if base is None else base[place:end], masses
        place = end
