"""Dynamic evaluation: the weights keep learning from the evaluated text.

After each segment of a few tokens has been scored, the weights take one step down the gradient of its cost, and one
step back to the trained weights. No token is scored with weights that have seen it.

With g the gradient of a segment's mean cost, w0 the trained weights, and MS the mean of g squared over segments of the
training text, element by element:

    R  = sqrt(MS) / mean(sqrt(MS))                 # the mean over weight arrays of the mean of each, as published
    w += min(lambda * R, 1) * (w0 - w) - eta * g / (sqrt(MS) + epsilon)

Reference: Krause, Kahembwe, Murray and Renals 2018, "Dynamic Evaluation of Neural Sequence Models", arXiv:1709.07432,
section 5. The defaults are those of their program `dynamiceval.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keraslm.errors import TextError, UsageError
from keraslm.evaluation.dynamic_step import DynamicUpdate, SegmentModel, SquaredGradients
from keraslm.network.model import reset_states
from keraslm.runs.run import Run
from keraslm.system import Log
from keraslm.text.stream import EveryToken, Windows

TUNED_TOKENS = 10_000  # tokens of a validation text used for tuning; Krause's program uses 30,000 or all
LOOK_FROM = 1_000  # tokens after which settings may be given up
CLEARLY_WORSE = 0.02  # nats per token above the best settings at the same token, 2 % of perplexity
BETTER = 1e-3  # nats per token below the best settings, 0.1 % of perplexity

Statistics = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class DynamicSettings:
    """How strongly weights adapt to a text. The defaults are those of Krause's program for AWD-LSTM on PTB."""

    learning_rate: float = 5e-5  # eta; try k times the rates for segments that are k times as long
    decay: float = 2e-3  # lambda
    epsilon: float = 2e-5
    segment: int = 5  # tokens between updates
    statistics_batch: int = 100  # segments whose mean gradient is squared for the statistics


def gradient_statistics(run: Run, train_ids: NDArray[Any], settings: DynamicSettings) -> dict[str, NDArray[np.float32]]:
    """Compute the mean of squared gradients over a training text, in about the time of a training epoch.

    The result is one array per weight, by its name and of its shape, in nats squared. A short text is read in fewer
    rows than `statistics_batch`.
    """
    fits = len(train_ids) // (settings.segment + 1)
    if fits == 0:
        raise TextError(
            f"training text: {len(train_ids)} tokens are too few for a segment of {settings.segment} and the token "
            "after it; gradient statistics need a longer text or a shorter segment."
        )
    rows, context = min(settings.statistics_batch, fits), run.config.data.context
    windows = Windows(train_ids, rows, settings.segment, "training text", context, run.tokenizer.eos_id)
    optimizer = SquaredGradients(learning_rate=0.0)
    model = SegmentModel(run, (rows, settings.segment), context, optimizer)
    for window in windows:
        model.step(window)
    squares = {v.path: keras.ops.convert_to_numpy(s) for v, s in zip(model.weights, optimizer.squares, strict=True)}
    return {name: value / len(windows) for name, value in squares.items()}


class DynamicModel:
    """A run's network that adapts to texts; compiled once for all texts and settings with one segment length.

    Each text starts with the trained weights. The state is carried, not recomputed after updates. The weights stay
    adapted when a sentence or paragraph starts from a state of zeros.
    """

    def __init__(self, run: Run, segment: int, context: str | None = None):
        self._segment, self._eos_id = segment, run.tokenizer.eos_id
        self._context = run.config.data.context if context is None else context
        self._optimizer = DynamicUpdate(learning_rate=0.0)
        self._model = SegmentModel(run, (1, segment), self._context, self._optimizer)
        self._optimizer.build(self._model.weights)
        self._trained = [keras.ops.convert_to_numpy(v).copy() for v in self._model.weights]
        for start, value in zip(self._optimizer.start, self._trained, strict=True):
            start.assign(value)

    def nats(self, ids: NDArray[Any], settings: DynamicSettings, statistics: Statistics) -> NDArray[np.float64]:
        """Cost of each token of a text, `(tokens,)`; infinite from the segment at which the weights have diverged."""
        return np.concatenate(list(self.segments(ids, settings, statistics)))

    def segments(
        self, ids: NDArray[Any], settings: DynamicSettings, statistics: Statistics
    ) -> Iterator[NDArray[np.float64]]:
        """`nats` segment by segment; once the weights have diverged, the rest of the text at once."""
        self._start(settings, statistics)
        done = 0
        for window in EveryToken(ids, self._eos_id, self._segment, context=self._context):
            count = window[0].shape[1]
            # The last segment is padded to the shape of the others; the padding does not change its costs.
            padded = tuple(np.pad(part, ((0, 0), (0, self._segment - count))) for part in window)
            nats = self._model.step(padded)[0, :count]
            if not np.isfinite(nats).all():
                yield np.full(len(ids) - done, np.inf)
                return
            yield nats
            done += count

    def _start(self, settings: DynamicSettings, statistics: Statistics) -> None:
        """Restore the trained weights and a state of zeros, and set the factors of the update."""
        weights, optimizer = self._model.weights, self._optimizer
        optimizer.learning_rate = settings.learning_rate
        reset_states(self._model.network)
        for variable, value in zip(weights, self._trained, strict=True):
            variable.assign(value)
        pulls, scales = _factors({v.path: tuple(v.shape) for v in weights}, settings, statistics)
        for variable, pull, scale in zip(weights, optimizer.pull, optimizer.scale, strict=True):
            pull.assign(pulls[variable.path])
            scale.assign(scales[variable.path])


def _factors(
    shapes: Mapping[str, tuple[int, ...]], settings: DynamicSettings, statistics: Statistics
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """`min(lambda * R, 1)` and `1 / (sqrt(MS) + epsilon)`, by weight."""
    found = {name: np.shape(value) for name, value in statistics.items()}
    if found != shapes:
        names = sorted(name for name in found.keys() | shapes.keys() if found.get(name) != shapes.get(name))
        raise UsageError(
            f"The gradient statistics do not fit the run: {', '.join(names)} are missing, unknown or of a different "
            "shape. Compute them with gradient_statistics of this run."
        )
    roots = {name: np.sqrt(value, dtype=np.float64) for name, value in statistics.items()}
    mean = float(np.mean([root.mean() for root in roots.values()])) or 1.0
    pulls = {name: np.minimum(settings.decay / mean * root, 1.0) for name, root in roots.items()}
    return pulls, {name: 1.0 / (root + settings.epsilon) for name, root in roots.items()}


def tune_dynamic(
    model: DynamicModel, ids: NDArray[Any], statistics: Statistics, settings: DynamicSettings, log: Log
) -> DynamicSettings:
    """Find the eta and lambda with the lowest cost of a validation text, starting from the given settings.

    Each in turn is multiplied or divided by 3 as long as that helps, then by 1.5: about a dozen settings. Settings are
    given up after at least 1,000 tokens if their perplexity is 2 % above that of the best ones at the same token. They
    replace the best ones only if they are better by 0.1 %. Only the first `TUNED_TOKENS` of the ids are used.
    """
    ids = ids[:TUNED_TOKENS]
    log(f"dynamic       tuning on {len(ids):,} tokens")
    search = _Search(model, ids, statistics, log)
    search.attempt(settings)
    for factor in (3.0, 1.5):
        for name in ("learning_rate", "decay"):
            for step in (factor, 1.0 / factor):
                while search.attempt(_multiplied(search.best, name, step)):
                    pass
    return search.best


def _multiplied(settings: DynamicSettings, name: str, factor: float) -> DynamicSettings:
    """Settings with one value multiplied and rounded, so that the printed value is the exact one."""
    value: Any = float(f"{getattr(settings, name) * factor:g}")
    return dataclasses.replace(settings, **{name: value})


class _Search:
    """The settings tried on a text; `best` are those with the lowest cost so far."""

    best: DynamicSettings

    def __init__(self, model: DynamicModel, ids: NDArray[Any], statistics: Statistics, log: Log):
        self._model, self._ids, self._statistics, self._log = model, ids, statistics, log
        self._tried: set[str] = set()
        self._totals: NDArray[np.float64] | None = None  # cumulative nats of the text under the best settings

    def attempt(self, settings: DynamicSettings) -> bool:
        """Try settings, unless they were tried before; return whether they are the best so far."""
        key = f"lr {settings.learning_rate:.3g}, decay {settings.decay:.3g}"
        if key in self._tried:
            return False
        self._tried.add(key)
        totals = self._cumulative_nats(settings)
        finite, complete = np.isfinite(totals[-1]), len(totals) == len(self._ids)
        cost = f"perplexity {np.exp(min(totals[-1] / len(totals), 700.0)):.2f}" if finite else "diverges"
        self._log(f"dynamic       {key}: {cost}{'' if complete else f' after {len(totals):,} tokens, given up'}")
        better = complete and self._improves(settings, float(totals[-1]))
        if better:
            self.best, self._totals = settings, totals
        return better

    def _improves(self, settings: DynamicSettings, total: float) -> bool:
        if self._totals is None:
            return True
        if np.isinf(self._totals[-1]):  # everything has diverged so far, so a lower rate is better
            return np.isfinite(total) or settings.learning_rate < self.best.learning_rate
        return bool(total < self._totals[-1] - BETTER * len(self._ids))

    def _cumulative_nats(self, settings: DynamicSettings) -> NDArray[np.float64]:
        """Nats of the text up to each token; shorter than the text if the settings were given up."""
        parts, done, total = [], 0, 0.0
        for nats in self._model.segments(self._ids, settings, self._statistics):
            parts.append(nats)
            done, total = done + nats.size, total + float(nats.sum())
            if self._totals is not None and done >= LOOK_FROM and total > self._totals[done - 1] + CLEARLY_WORSE * done:
                break
        return np.cumsum(np.concatenate(parts))
