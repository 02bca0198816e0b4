"""The flags of the neural cache of `keraslm score`, and the scorer that they open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from keraslm.commands.flags import OptionalInteger, Switch, TextName, print_note
from keraslm.commands.mixing import Opening
from keraslm.errors import UsageError
from keraslm.testtime.settings import HISTORY, CacheSettings

if TYPE_CHECKING:
    from keraslm.scoring.scorer import Scorer


@dataclass(frozen=True)
class Caching:
    """A neural cache, and its parameters.

    Parameters
    ----------
    neural_cache
        Boost words that occurred recently in similar contexts (Grave et al. 2017). Needs --cache-theta and
        --cache-lambda, or --cache-tune. Choose --context document or paragraph: the cache begins empty wherever the
        state starts from zeros.
    cache_window
        Number of recent tokens in the neural cache. Default: 500; long documents gain from more.
    cache_theta
        How much more similar states count in the neural cache, 0 or more.
    cache_lambda
        Share of the neural cache in the mixture, at least 0 and below 1.
    cache_tune
        Text on which to find the best --cache-theta and --cache-lambda first, or one of them if the other is given.
    """

    neural_cache: Switch = False
    cache_window: OptionalInteger = None
    cache_theta: float | None = None
    cache_lambda: float | None = None
    cache_tune: TextName | None = None

    def __post_init__(self) -> None:
        parameters = (self.cache_theta, self.cache_lambda)
        if not self.neural_cache:
            if any(value is not None for value in (self.cache_window, self.cache_tune, *parameters)):
                raise UsageError(
                    "--cache-window, --cache-theta, --cache-lambda and --cache-tune are for the neural cache: add "
                    "--neural-cache."
                )
            return
        if self.cache_tune is None and None in parameters:
            raise UsageError(
                "--neural-cache needs --cache-theta and --cache-lambda; --cache-tune TEXT finds the best ones."
            )
        if self.cache_tune is not None and None not in parameters:
            raise UsageError(
                "--cache-tune finds the best --cache-theta and --cache-lambda, but both are given: leave out "
                "--cache-tune, or one of them."
            )
        _ = self.settings  # checks the values

    @property
    def settings(self) -> CacheSettings:
        """The parameters that were given."""
        window = HISTORY if self.cache_window is None else self.cache_window
        return CacheSettings(window, self.cache_theta, self.cache_lambda)

    @property
    def files(self) -> list[str]:
        """The files that are read."""
        from keraslm.text.paths import find_file

        return [] if self.cache_tune is None else [find_file(self.cache_tune)]


NO_CACHE = Caching()
CachingFlags = Annotated[Caching, Parameter(name="*", group=Group("Neural cache", sort_key=2), accepts_keys=True)]


def open_cached(models: Sequence[Path], caching: Caching, opening: Opening) -> Scorer:
    """The model file as a scorer with the neural cache; says which parameters were found."""
    from keraslm.scoring.cached import CachedSession
    from keraslm.scoring.scorer import Scorer, load

    scorer = load(models, opening.provider)
    return Scorer(CachedSession(scorer.session, _tuned(scorer, caching, opening)))


def settings_of(models: Sequence[Path], caching: Caching, opening: Opening) -> CacheSettings:
    """The parameters, for processes that open the file themselves; without the cache, they have no theta and lambda."""
    from keraslm.scoring.scorer import load

    return caching.settings if caching.cache_tune is None else _tuned(load(models, opening.provider), caching, opening)


def _tuned(scorer: Scorer, caching: Caching, opening: Opening) -> CacheSettings:
    if caching.cache_tune is None:
        return caching.settings
    from keraslm.scoring.cache_tuning import tune_cache
    from keraslm.text.files import TextFile
    from keraslm.text.paths import find_file

    text = TextFile(find_file(caching.cache_tune), opening.errors, opening.encoding)
    found = tune_cache(scorer, text, opening.context, **vars(caching.settings))
    print_note(
        f"--cache-theta {found.cache_theta:g} --cache-lambda {found.cache_lambda:g}, found on {text.name} "
        f"({found.tokens:,} tokens): perplexity {found.perplexity:.4f}; {found.model_perplexity:.4f} without the cache"
    )
    return replace(caching.settings, cache_theta=found.cache_theta, cache_lambda=found.cache_lambda)


def print_reach(caching: Caching, opening: Opening) -> None:
    """Say that the cache had only the tokens of each line, if that is so."""
    if caching.neural_cache and opening.context == "sentence":
        print_note("--context sentence empties the neural cache after each line; document and paragraph keep it.")
