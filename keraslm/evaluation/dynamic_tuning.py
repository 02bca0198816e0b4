"""Eta and lambda of dynamic evaluation, found on a validation text."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.config.fields import check
from keraslm.evaluation.dynamic import DynamicModel, DynamicSettings, Statistics

TUNED_TOKENS = 10_000  # of a validation text, that settings are compared on; Krause's program takes 30,000 or all
LOOK_FROM = 1_000  # tokens after which settings may be given up
CLEARLY_WORSE = 0.02  # nats a token more than the best settings at the same place, 2 % of perplexity
BETTER = 1e-3  # nats a token less that make settings better, 0.1 % of perplexity


def tune(
    model: DynamicModel,
    valid_ids: NDArray[Any],
    statistics: Statistics | None,
    settings: DynamicSettings,
    log: Callable[[str], None] = print,
    tokens: int = TUNED_TOKENS,
) -> DynamicSettings:
    """Eta and lambda that make a validation text cheapest.

    Each in turn is multiplied or divided by 3, from what was given, as long as that helps, then by 1.5: about a dozen
    settings. One is given up where it costs 2 % of perplexity more than the best one at the same place, not before
    1,000 tokens. A lambda of 0 stays 0.

    Args:
        model: of the run, and of the segment length of the settings.
        valid_ids: token ids of a text that is not the one to be evaluated.
        statistics: of `gradient_statistics`; None for plain SGD, which needs an eta of about 0.1 to begin with.
        settings: where to begin; segment and epsilon stay.
        log: takes a line a setting.
        tokens: of the text, from its start, that are looked at.

    Returns:
        the settings with the best eta and lambda. Another one must be better by 0.1 % of perplexity.

    Raises:
        ConfigError: eta is 0; TextError, UsageError: as `DynamicModel.nats`.
    """
    check(settings, "learning_rate", settings.learning_rate > 0.0, "above 0 to begin tuning with")
    ids = valid_ids[:tokens]
    log(f"dynamic       tuning on {len(ids):,} tokens")
    search = _Search(model, ids, statistics, log)
    search.attempt(settings)
    for factor in (3.0, 1.5):
        for name in ("learning_rate", "decay"):
            if getattr(settings, name) == 0.0:
                continue
            for step in (factor, 1.0 / factor):
                while search.attempt(_multiplied(search.best, name, step)):
                    pass
    return search.best


def _multiplied(settings: DynamicSettings, name: str, factor: float) -> DynamicSettings:
    """Six significant digits, as a report prints them: it shows what was evaluated."""
    value: Any = float(f"{getattr(settings, name) * factor:g}")
    return dataclasses.replace(settings, **{name: value})


class _Search:
    """Settings that are tried on a text.

    Attributes:
        best: those under which it was cheapest so far.
    """

    best: DynamicSettings

    def __init__(
        self, model: DynamicModel, ids: NDArray[Any], statistics: Statistics | None, log: Callable[[str], None]
    ):
        self._model, self._ids, self._statistics, self._say = model, ids, statistics, log
        self._tried: set[str] = set()
        self._totals: NDArray[np.float64] | None = None  # of the best settings: nats of the text up to each token

    def attempt(self, settings: DynamicSettings) -> bool:
        """Whether settings are the best so far; False without a look where they were tried before."""
        key = f"lr {settings.learning_rate:.3g}, decay {settings.decay:.3g}"
        if key in self._tried:
            return False
        self._tried.add(key)
        totals = self._cost(settings)
        finite, whole = np.isfinite(totals[-1]), len(totals) == len(self._ids)
        cost = f"perplexity {np.exp(min(totals[-1] / len(totals), 700.0)):.2f}" if finite else "diverges"
        given_up = "" if whole else f" after {len(totals):,} tokens, given up"
        self._say(f"dynamic       {key}: {cost}{given_up}")
        better = whole and self._improves(settings, float(totals[-1]))
        if better:
            self.best, self._totals = settings, totals
        return better

    def _improves(self, settings: DynamicSettings, total: float) -> bool:
        if self._totals is None:
            return True
        if np.isinf(self._totals[-1]):  # from where everything diverges the way is down
            return np.isfinite(total) or settings.learning_rate < self.best.learning_rate
        return bool(total < self._totals[-1] - BETTER * len(self._ids))

    def _cost(self, settings: DynamicSettings) -> NDArray[np.float64]:
        """Nats of the text up to each token; only to where the settings were given up."""
        parts, done, total = [], 0, 0.0
        for nats in self._model.segments(self._ids, settings, self._statistics):
            parts.append(nats)
            done, total = done + nats.size, total + float(nats.sum())
            if self._totals is not None and done >= LOOK_FROM and total > self._totals[done - 1] + CLEARLY_WORSE * done:
                break
        return np.cumsum(np.concatenate(parts))
