"""One step of a network that learns while it is evaluated: the costs of a window, then the optimizer's update."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keraslm.evaluation.evaluate import load_model
from keraslm.network.compile import compile_model
from keraslm.network.losses import SequenceLoss
from keraslm.network.model import nats_model
from keraslm.runs.run import Run
from keraslm.text.stream import Window


class AsEvaluated:
    """A run's network as evaluation runs it, and an optimizer that acts after each window.

    Args:
        run: the run folder.
        rows: B, rows whose state is carried.
        context: how far the state is carried.
        optimizer: takes the gradient of the mean cost of a window's tokens; see `network.compile.compile_model`.

    Attributes:
        network: of `load_model`.
        weights: its trained variables.

    Raises:
        RunError: weights missing, damaged or not finite.
    """

    def __init__(self, run: Run, rows: int, context: str, optimizer: keras.optimizers.Optimizer):
        self.network = load_model(run, rows, resets=context != "document")
        self.weights = self.network.trainable_variables
        nats = nats_model(self.network)
        self._model = _WithoutTraining(nats.inputs, nats.outputs, name="language_model_dynamic")
        self._kept: _KeepNats | None = None
        self._optimizer, self._config = optimizer, run.config.model

    def step(self, window: Window) -> NDArray[np.float64]:
        """Nats of a window, `(B, T)`, with the weights from before the optimizer acts on it. All windows have the
        shape of the first."""
        if self._kept is None:
            self._kept = _KeepNats(window[0].shape)
            loss = SequenceLoss(average_across_timesteps=True, average_across_batch=True)
            compile_model(self._model, self.network, self._config, self._optimizer, loss, self._kept)
        self._model.train_on_batch(list(window), window[1])
        return np.asarray(keras.ops.convert_to_numpy(self._kept.nats), np.float64)


class _WithoutTraining(keras.Model):
    """A model whose layers act as in evaluation though it is trained: no dropout, no estimated softmax."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return super().call(inputs, training=False, mask=mask)


class _KeepNats(keras.metrics.Metric):
    """The model's output of the last window."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__(name="nats")
        self.nats = self.add_weight(name="nats", shape=shape, initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.nats.assign(y_pred)

    def result(self) -> Any:
        return keras.ops.sum(self.nats)
