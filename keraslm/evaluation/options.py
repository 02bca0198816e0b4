"""The requested test-time techniques."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal, TypedDict

from keraslm import arguments
from keraslm.config.fields import check, is_at_least
from keraslm.config.overrides import Paths
from keraslm.errors import UsageError
from keraslm.testtime.settings import check_cache

TUNE = "tune"
_TECHNIQUES = ("temperature", "dynamic", "mc_dropout", "with_runs")  # the neural cache can be added to the first two
_OWNERS = {  # the technique to which an option belongs
    "cache_window": "neural_cache",
    "cache_theta": "neural_cache",
    "cache_lambda": "neural_cache",
    "dynamic_lr": "dynamic",
    "dynamic_decay": "dynamic",
    "seed": "mc_dropout",
}


class TechniqueOptions(TypedDict, total=False):
    """The fields of `Techniques`, all optional."""

    temperature: float | Literal["tune"] | None
    neural_cache: bool
    cache_window: int | None
    cache_theta: float | None
    cache_lambda: float | None
    dynamic: bool
    dynamic_lr: float | None
    dynamic_decay: float | None
    mc_dropout: int | None
    seed: int | None
    with_runs: Paths | None
    tune_on: Paths | None


@dataclass(frozen=True)
class Techniques:
    """The test-time techniques of an evaluation; true if there is at least one.

    The neural cache can be added to the temperature or to dynamic evaluation. Nothing else can be combined.

    Attributes:
        temperature: divisor of the logits; `"tune"` finds it.
        neural_cache: boost words that occurred recently in similar contexts.
        cache_window: number of recent tokens in the cache; None: 500.
        cache_theta: how much more similar hidden states count; None: tuned.
        cache_lambda: share of the cache in the mixture; None: tuned.
        dynamic: keep learning from the text while it is read.
        dynamic_lr, dynamic_decay: learning rate, and rate of the pull back to the trained weights; both None: tuned.
        mc_dropout: number of passes with dropout to average.
        seed: seed of the dropout masks; None: 0.
        with_runs: folders of other runs to average probabilities with.
        tune_on: texts to tune on; empty: the run's validation text.

    Raises:
        UsageError: a value out of range, an option without its technique, or techniques that cannot be combined.

    Example:
        >>> Techniques(temperature="tune", neural_cache=True).tunes
        True
    """

    temperature: float | Literal["tune"] | None = None
    neural_cache: bool = False
    cache_window: int | None = None
    cache_theta: float | None = None
    cache_lambda: float | None = None
    dynamic: bool = False
    dynamic_lr: float | None = None
    dynamic_decay: float | None = None
    mc_dropout: int | None = None
    seed: int | None = None
    with_runs: tuple[str, ...] = ()
    tune_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("with_runs", "tune_on"):
            object.__setattr__(self, name, tuple(arguments.paths(getattr(self, name), name)))
        for name in ("neural_cache", "dynamic"):
            arguments.switch(getattr(self, name), name)
        self._check_values()
        self._check_owners()
        self._check_combinations()

    def __bool__(self) -> bool:
        return self.neural_cache or any(getattr(self, name) for name in _TECHNIQUES)

    @property
    def tunes_cache(self) -> bool:
        return self.neural_cache and None in (self.cache_theta, self.cache_lambda)

    @property
    def tunes(self) -> bool:
        return self.temperature == TUNE or self.tunes_cache or (self.dynamic and self.dynamic_lr is None)

    def _check_values(self) -> None:
        check_cache(self)
        for name in ("mc_dropout", "seed"):
            least = 0 if name == "seed" else 1
            check(self, name, is_at_least(getattr(self, name), Integral, least), f"an integer of at least {least}")
        for name in ("dynamic_lr", "dynamic_decay"):
            check(self, name, is_at_least(getattr(self, name), Real, 0), "a number of at least 0")
        divisor = self.temperature
        positive = divisor == TUNE or (is_at_least(divisor, Real, 0) and divisor != 0)
        check(self, "temperature", positive, "a number above 0, or tune")

    def _check_owners(self) -> None:
        for name, owner in _OWNERS.items():
            if getattr(self, name) is not None and not getattr(self, owner):
                raise UsageError(f"`{name}` needs `{owner}`, which is not set.")
        if (self.dynamic_lr is None) != (self.dynamic_decay is None):
            raise UsageError("Give both `dynamic_lr` and `dynamic_decay`, or neither to tune them.")
        if self.tune_on and not self.tunes:
            raise UsageError(
                f'`tune_on` is {self.tune_on[0]}, but nothing is tuned. Add `temperature="tune"`, or `neural_cache` '
                "or `dynamic` without their parameters."
            )

    def _check_combinations(self) -> None:
        pair = [name for name in _TECHNIQUES if getattr(self, name)][:2]
        if self.neural_cache and pair and pair[0] not in _TECHNIQUES[:2]:
            pair = ["neural_cache", pair[0]]
        if len(pair) == 2:
            raise UsageError(
                f"`{pair[0]}` and `{pair[1]}` cannot be combined. The only combinations are `neural_cache` with "
                "`temperature` or with `dynamic`."
            )
