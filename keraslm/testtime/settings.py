"""The parameters of the neural cache, without NumPy: the command line knows them before it computes anything."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from keraslm.config.fields import check, is_at_least

HISTORY = 500  # Grave et al. 2017, section 5, on PTB; 2000 on WikiText-2


@dataclass(frozen=True)
class CacheSettings:
    """Parameters of the cache, checked when built; a theta or lambda of None is tuned.

    Attributes:
        cache_window: N, number of recent tokens.
        cache_theta: how much more similar hidden states count, 0 or more.
        cache_lambda: share of the cache in the mixture, at least 0 and below 1.

    Raises:
        ConfigError: a value out of range.
    """

    cache_window: int = HISTORY
    cache_theta: float | None = None
    cache_lambda: float | None = None

    def __post_init__(self) -> None:
        check_cache(self)
        check(self, "cache_window", self.cache_window is not None, "an integer of at least 1")


def check_cache(part: Any) -> None:
    """Check the fields of `CacheSettings` in any part of a configuration; None is accepted for each."""
    window, theta, share = part.cache_window, part.cache_theta, part.cache_lambda
    check(part, "cache_window", is_at_least(window, Integral, 1), "an integer of at least 1")
    check(part, "cache_theta", is_at_least(theta, Real, 0), "a number of at least 0")
    check(part, "cache_lambda", is_at_least(share, Real, 0) and (share or 0) < 1, "at least 0 and below 1")
