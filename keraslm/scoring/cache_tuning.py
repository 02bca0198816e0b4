"""The parameters of the neural cache that make a text most probable; `keraslm.testtime.tuning` searches them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keraslm import arguments
from keraslm.config import CONTEXTS
from keraslm.errors import TextError
from keraslm.perplexity import perplexity
from keraslm.scoring.batching import LINES_AHEAD, Line
from keraslm.scoring.cached import CachedSession, cacheable
from keraslm.scoring.ensemble import Models
from keraslm.scoring.measures import Wanted
from keraslm.scoring.rows import Reading, Rows
from keraslm.scoring.scorer import Scorer, load
from keraslm.scoring.session import ModelSession
from keraslm.scoring.state import Floats32, State
from keraslm.testtime.neural_cache import Floats
from keraslm.testtime.settings import HISTORY, CacheSettings
from keraslm.testtime.tuning import cheapest_cache
from keraslm.text.files import TextFile
from keraslm.text.paths import find_file


@dataclass(frozen=True)
class TunedCache:
    """The best parameters on a text, and what the text costs.

    Attributes:
        cache_window, cache_theta, cache_lambda: arguments of `with_cache`.
        tokens: number of tokens of the text.
        perplexity: per token, with the cache.
        model_perplexity: without it.
    """

    cache_window: int
    cache_theta: float
    cache_lambda: float
    tokens: int
    perplexity: float
    model_perplexity: float


def tune_cache(
    models: Scorer | Models,
    lines: str | Path | Iterable[Line],
    context: str = "sentence",
    cache_window: int = HISTORY,
    cache_theta: float | None = None,
    cache_lambda: float | None = None,
    provider: str = "auto",
    log: Callable[[str], None] = lambda _: None,
) -> TunedCache:
    """Find the parameters of a neural cache that give a text the smallest perplexity.

    Args:
        models, provider: as for `with_cache`.
        lines: a text that the model was not trained on: a file, or lines, with None at the end of each file.
        context: as for `Scorer.score_lines`.
        cache_window: number of recent tokens in the cache.
        cache_theta, cache_lambda: None: searched, on a grid and a finer one around its best point.
        log: called with the best point of each grid.

    Raises:
        TextError: a text without lines.
        UsageError, ConfigError, ModelFileError: as for `with_cache`.

    Example:
        >>> found = keraslm.tune_cache("model.onnx", "valid.txt", context="document")
        >>> found.cache_theta, found.cache_lambda
        (0.35, 0.225)
    """
    arguments.choice(context, "context", CONTEXTS)
    settings = CacheSettings(cache_window, cache_theta, cache_lambda)
    scorer = models if isinstance(models, Scorer) else load(models, provider)
    session = cacheable(scorer.session)
    text = TextFile(find_file(lines)) if isinstance(lines, str | Path) else lines
    items = arguments.each(text, "lines", "strings")
    kept = [line if line is None else arguments.text(line, place) for line, place in items]
    if all(line is None for line in kept):
        raise TextError(f"{getattr(text, 'name', 'the text')}: no lines, but the neural cache is tuned on them.")

    def masses(thetas: Floats) -> Iterator[tuple[Floats, Floats]]:
        collecting = _Collecting(session, settings.cache_window, thetas)
        how = Reading(context, Wanted(), LINES_AHEAD, first_lines=LINES_AHEAD, side_by_side=False)
        for _ in Rows(collecting).score(kept, how):
            yield from collecting.found
            collecting.found.clear()

    best = cheapest_cache(masses, settings, log)
    return TunedCache(
        **vars(best.settings),
        tokens=best.tokens,
        perplexity=perplexity(best.nats, best.tokens),
        model_perplexity=perplexity(best.plain_nats, best.tokens),
    )


class _Collecting(CachedSession):
    """Returns the log-probabilities of the model, and keeps them with the probabilities under the cache."""

    def __init__(self, session: ModelSession, window: int, thetas: Floats):
        super().__init__(session, CacheSettings(window, 0.0, 0.0))
        self._thetas = thetas
        self.found: list[tuple[Floats, Floats]] = []  # nats (T,), and masses (G, T)

    def target_logprobs(self, ids: Any, targets: Any, state: Any) -> tuple[Floats32, State]:
        logprobs, masses, after = self.masses(ids, targets, state)
        self.found += [(-own.astype(np.float64), masses[:, row]) for row, own in enumerate(logprobs)]
        return logprobs, after
