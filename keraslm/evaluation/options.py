"""Which techniques of test time are asked for, checked before anything is loaded."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from keraslm.config import StrPath
from keraslm.errors import UsageError, shown

TUNE = "tune"
# What stands alone; the neural cache goes on top of one of the first two.
_ALONE = {
    "temperature": "--temperature",
    "dynamic": "--dynamic",
    "mc_dropout": "--mc-dropout",
    "with_runs": "--with",
}
_UNDER_CACHE = ("temperature", "dynamic")
_BELONGS = {
    "cache_window": ("--cache-window", "neural_cache", "--neural-cache"),
    "cache_theta": ("--cache-theta", "neural_cache", "--neural-cache"),
    "cache_lambda": ("--cache-lambda", "neural_cache", "--neural-cache"),
    "dynamic_lr": ("--dynamic-lr", "dynamic", "--dynamic"),
    "dynamic_decay": ("--dynamic-decay", "dynamic", "--dynamic"),
    "seed": ("--seed", "mc_dropout", "--mc-dropout"),
}


class TechniqueOptions(TypedDict, total=False):
    """Each field of `Techniques`, all optional; a test holds this table to it."""

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
    with_runs: StrPath | Sequence[StrPath]
    tune_on: StrPath | Sequence[StrPath]


@dataclass(frozen=True)
class Techniques:
    """The techniques of test time that an evaluation is asked for; what is None is tuned, or left out.

    Combinations: the neural cache goes on top of the temperature, or of dynamic evaluation. Nothing else combines.

    Attributes:
        temperature: divide the logits by it; `"tune"` finds it.
        neural_cache: mix in what the text itself said lately.
        cache_window: tokens that the cache looks back on; None means 500.
        cache_theta: how sharply it prefers like hidden states; None tunes it.
        cache_lambda: its share in the mixture; None tunes it.
        dynamic: go on learning from the text while it is read.
        dynamic_lr, dynamic_decay: learning rate of that, and how fast it goes back to the trained weights; both None
            tunes them.
        mc_dropout: passes with dropout to average.
        seed: of their masks; None means 0.
        with_runs: folders of other runs to average with.
        tune_on: texts to tune on; none means the run's validation text.

    Raises:
        UsageError: a value out of range, an option without the technique that it belongs to, or techniques that do not
            combine.

    Example:
        >>> Techniques(temperature="tune", neural_cache=True).tunes
        True
    """

    temperature: float | str | None = None
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
            value = getattr(self, name)
            object.__setattr__(
                self, name, tuple(map(os.fspath, [value] if isinstance(value, str | os.PathLike) else value))
            )
        self._check_values()
        self._check_owners()
        self._check_combinations()

    @property
    def tunes_cache(self) -> bool:
        """Whether a parameter of the neural cache has to be tuned."""
        return self.neural_cache and None in (self.cache_theta, self.cache_lambda)

    @property
    def tunes(self) -> bool:
        """Whether something has to be tuned."""
        return self.temperature == TUNE or self.tunes_cache or (self.dynamic and self.dynamic_lr is None)

    def __bool__(self) -> bool:
        """Whether there is a technique."""
        return self.neural_cache or bool(self._chosen())

    def _chosen(self) -> list[str]:
        return [name for name in _ALONE if getattr(self, name)]

    def _check_values(self) -> None:
        heat = self.temperature
        self._check("--temperature", heat, heat == TUNE or _within(heat, above=0.0), "a number above 0, or tune")
        theta, share = self.cache_theta, self.cache_lambda
        self._check("--cache-window", self.cache_window, _whole(self.cache_window, 1), "a whole number of at least 1")
        self._check("--cache-theta", theta, _within(theta, least=0.0), "0 or more")
        self._check("--cache-lambda", share, _within(share, least=0.0, below=1.0), "at least 0 and below 1")
        self._check("--dynamic-lr", self.dynamic_lr, _within(self.dynamic_lr, least=0.0), "0 or more")
        self._check("--dynamic-decay", self.dynamic_decay, _within(self.dynamic_decay, least=0.0), "0 or more")
        self._check("--mc-dropout", self.mc_dropout, _whole(self.mc_dropout, 1), "a whole number of at least 1")
        self._check("--seed", self.seed, _whole(self.seed, 0), "a whole number of at least 0")

    def _check(self, flag: str, value: object, holds: bool, expected: str) -> None:
        if value is not None and not holds:
            raise UsageError(f"{flag} is {shown(value)}, but must be {expected}.")

    def _check_owners(self) -> None:
        for name, (flag, owner, owner_flag) in _BELONGS.items():
            if getattr(self, name) is not None and not getattr(self, owner):
                raise UsageError(f"{flag} belongs to {owner_flag}, which was not given.")
        if (self.dynamic_lr is None) != (self.dynamic_decay is None):
            raise UsageError(
                "--dynamic-lr and --dynamic-decay belong together: give both, or neither to have them tuned."
            )
        if self.tune_on and not self.tunes:
            raise UsageError(
                f"--tune-on {self.tune_on[0]} names a text to tune on, but nothing is tuned here: --temperature tune, "
                "--neural-cache and --dynamic are, where their parameters are not given."
            )

    def _check_combinations(self) -> None:
        chosen = self._chosen()
        clash = chosen[:2] if len(chosen) > 1 else []
        flags = [_ALONE[name] for name in clash]
        if self.neural_cache and not clash and chosen and chosen[0] not in _UNDER_CACHE:
            flags = ["--neural-cache", _ALONE[chosen[0]]]
        if flags:
            raise UsageError(
                f"{' and '.join(flags)} do not combine. --neural-cache goes on top of --temperature or of --dynamic; "
                "everything else is evaluated by itself."
            )


def _within(value: object, least: float = -math.inf, above: float = -math.inf, below: float = math.inf) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and least <= value < below and value > above


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and value >= least
