"""Dynamic evaluation: the weights go on learning from the text that is evaluated, after each segment was scored.

A segment of a few tokens is scored with the weights as they are; then they take one step down its gradient, and one
back to the weights of the training. What a text has used lately - its names, its topic, its turns - becomes cheaper.
No token is scored by weights that have seen it, so the costs are those of a model, and perplexities can be compared.

With g the gradient of a segment's mean cost, w0 the weights of the training, and MS the mean of g squared over segments
of the training text, number by number:

    R  = sqrt(MS) / mean(sqrt(MS))                 # the mean over weights of each one's mean, as published
    w += min(lambda * R, 1) * (w0 - w) - eta * g / (sqrt(MS) + epsilon)

Reference: Krause, Kahembwe, Murray and Renals 2018, "Dynamic Evaluation of Neural Sequence Models", arXiv:1709.07432,
section 5; their program `dynamiceval.py` has the defaults here, for its loss and batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keraslm.config.fields import check, check_types, option
from keraslm.errors import TextError, UsageError
from keraslm.evaluation.dynamic_optimizer import DynamicUpdate, SquaredGradients
from keraslm.evaluation.dynamic_step import AsEvaluated
from keraslm.network.model import reset_states
from keraslm.runs.run import Run
from keraslm.text.stream import EveryToken, Windows

Statistics = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class DynamicSettings:
    """How far the weights of a run follow a text.

    Rates belong to a gradient of the mean cost of a segment's tokens. With segments k times as long, try rates k times
    as high.
    """

    learning_rate: float = option(5e-5, "Step size eta. Source: Krause's program, for AWD-LSTM on PTB.")
    decay: float = option(2e-3, "Rate lambda of the way back to the training's weights. Source: Krause's program.")
    epsilon: float = option(2e-5, "Added to the root of the mean squared gradient. Source: Krause's program.")
    segment: int = option(5, "Tokens between updates. Source: Krause, section 7.1.")
    statistics_batch: int = option(
        100, "Rows of segments whose mean gradient is squared for the statistics. Source: Krause's program."
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "learning_rate", self.learning_rate >= 0.0, "0 or more")
        check(self, "decay", self.decay >= 0.0, "0 or more")
        check(self, "epsilon", self.epsilon > 0.0, "above 0")
        check(self, "segment", self.segment >= 1, "at least 1")
        check(self, "statistics_batch", self.statistics_batch >= 1, "at least 1")


def gradient_statistics(run: Run, train_ids: NDArray[Any], settings: DynamicSettings) -> dict[str, NDArray[np.float32]]:
    """The mean of squared gradients over a training text: how much each number of the weights moves in general.

    Takes about as long as an epoch of the training; a part of the text will do, such as `train_ids[:100_000]`.

    Args:
        run: the run folder.
        train_ids: token ids, `(tokens,)`; what does not fill rows and segments is left out. Rows are fewer than asked
            for where the text is too short.
        settings: `segment` and `statistics_batch` are used.

    Returns:
        an array a weight, by its name and of its shape, in nats squared.

    Raises:
        TextError: the text is shorter than a segment; RunError: weights missing or damaged.

    Example:
        >>> gradient_statistics(run, train_ids, DynamicSettings())["lstm_0/bias"].shape
        (800,)
    """
    fits = len(train_ids) // (settings.segment + 1)
    if fits == 0:
        raise TextError(
            f"training text: {len(train_ids)} tokens are too few for a segment of {settings.segment} and the token "
            "after it; gradient statistics need a longer text or a shorter segment."
        )
    rows, context = min(settings.statistics_batch, fits), run.config.data.context
    windows = Windows(train_ids, rows, settings.segment, "training text", context, run.tokenizer.eos_id)
    optimizer = SquaredGradients()
    model = AsEvaluated(run, rows, context, optimizer)
    for window in windows:
        model.step(window)
    squares = {v.path: keras.ops.convert_to_numpy(s) for v, s in zip(model.weights, optimizer.squares, strict=True)}
    return {name: value / len(windows) for name, value in squares.items()}


class DynamicModel:
    """A run's network that follows texts, compiled once for any number of them and any settings of one segment length.

    A text is one row, its first token predicted from the end symbol, every token counted, as `evaluate_run` does; with
    a learning rate of 0 the costs are the same. It begins with the weights of the training and a state of zeros. The
    state is carried, computed with the weights of its time. Where the context is a sentence or paragraph, the state
    starts from zeros in each, and the weights stay adapted. Nothing is written to the run.

    Args:
        run: the run folder.
        segment: tokens between updates.
        context: how far the state is carried; None means as in training.

    Raises:
        RunError: weights missing or damaged.

    Example:
        >>> settings = DynamicSettings()
        >>> statistics = gradient_statistics(run, train_ids, settings)
        >>> nats = DynamicModel(run, settings.segment).nats(valid_ids, settings, statistics)
        >>> perplexity = math.exp(nats.mean())
    """

    def __init__(self, run: Run, segment: int, context: str | None = None):
        self._segment, self._eos_id = segment, run.tokenizer.eos_id
        self._context = run.config.data.context if context is None else context
        self._optimizer = DynamicUpdate()
        self._model = AsEvaluated(run, 1, self._context, self._optimizer)
        self._optimizer.build(self._model.weights)
        self._trained = [keras.ops.convert_to_numpy(v).copy() for v in self._model.weights]
        for start, value in zip(self._optimizer.start, self._trained, strict=True):
            start.assign(value)

    def nats(self, ids: NDArray[Any], settings: DynamicSettings, statistics: Statistics | None) -> NDArray[np.float64]:
        """What each token of a text costs while the weights follow the text.

        Args:
            ids: token ids, `(tokens,)`, at least one.
            settings: how far the weights follow; of the model's segment length.
            statistics: of `gradient_statistics`; None takes 1 for sqrt(MS) + epsilon and for R: plain SGD with decay.

        Returns:
            nats, `(tokens,)`; infinite from the segment on at which the weights have diverged.

        Raises:
            TextError: the text is empty; UsageError: the statistics are another network's.
        """
        return np.concatenate(list(self.segments(ids, settings, statistics)))

    def segments(
        self, ids: NDArray[Any], settings: DynamicSettings, statistics: Statistics | None
    ) -> Iterator[NDArray[np.float64]]:
        """`nats` segment by segment, the last perhaps shorter; where the weights have diverged, all that is left."""
        self._begin(settings, statistics)
        done = 0
        for window in EveryToken(ids, self._eos_id, self._segment, context=self._context):
            count = window[0].shape[1]
            # Filled up, the last segment has the shape of all others; the tokens after its end cost it nothing.
            filled = tuple(np.pad(part, ((0, 0), (0, self._segment - count))) for part in window)
            nats = self._model.step(filled)[0, :count]
            if not np.isfinite(nats).all():
                yield np.full(len(ids) - done, np.inf)
                return
            yield nats
            done += count

    def _begin(self, settings: DynamicSettings, statistics: Statistics | None) -> None:
        """The weights of the training, a state of zeros, and the factors of the update."""
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
    shapes: Mapping[str, tuple[int, ...]], settings: DynamicSettings, statistics: Statistics | None
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """`min(lambda * R, 1)` and `1 / (sqrt(MS) + epsilon)`, by weight."""
    if statistics is None:
        pull = min(settings.decay, 1.0)
        return {n: np.full(s, pull) for n, s in shapes.items()}, {n: np.ones(s) for n, s in shapes.items()}
    found = {name: np.shape(value) for name, value in statistics.items()}
    if found != shapes:
        odd = sorted(name for name in found.keys() | shapes.keys() if found.get(name) != shapes.get(name))
        raise UsageError(
            f"The gradient statistics do not fit the run: {', '.join(odd)} are missing, left over or of another shape. "
            "Make them with gradient_statistics of this run."
        )
    roots = {name: np.sqrt(value, dtype=np.float64) for name, value in statistics.items()}
    mean = float(np.mean([root.mean() for root in roots.values()])) or 1.0
    pulls = {name: np.minimum(settings.decay / mean * root, 1.0) for name, root in roots.items()}
    return pulls, {name: 1.0 / (root + settings.epsilon) for name, root in roots.items()}
