"""One step of dynamic evaluation: score a segment in evaluation mode, then pass its gradient to an optimizer.

Two optimizers use the gradients: `SquaredGradients` adds up their squares, `DynamicUpdate` adapts the weights.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from keraslm.evaluation.reader import load_model
from keraslm.network.compile import compile_model
from keraslm.network.losses import SequenceLoss
from keraslm.network.model import nats_model
from keraslm.runs.run import Run
from keraslm.text.stream import Window


class SegmentModel:
    """A run's network in evaluation mode, with an optimizer that acts after each segment.

    Segments have the shape `(B, T)`. The optimizer receives the gradient of the mean cost of a segment's tokens.
    """

    def __init__(self, run: Run, shape: tuple[int, int], context: str, optimizer: keras.optimizers.Optimizer):
        self.network = load_model(run, shape[0], resets=context != "document")
        self.weights = self.network.trainable_variables
        nats = nats_model(self.network)
        self._model = _EvaluationMode(nats.inputs, nats.outputs, name="language_model_dynamic")
        self._nats = _LastNats(shape)
        loss = SequenceLoss(average_across_timesteps=True, average_across_batch=True)
        compile_model(self._model, self.network, run.config.model, optimizer, loss, self._nats)

    def step(self, window: Window) -> NDArray[np.float64]:
        """Update the weights by a segment; return its nats before the update, `(B, T)`."""
        self._model.train_on_batch(list(window), window[1])
        return np.asarray(ops.convert_to_numpy(self._nats.nats), np.float64)


class _EvaluationMode(keras.Model):
    """A model whose layers run in evaluation mode even in training, without dropout and sampling."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return super().call(inputs, training=False, mask=mask)


class _LastNats(keras.metrics.Metric):
    def __init__(self, shape: tuple[int, ...]):
        super().__init__(name="nats")
        self.nats = self.add_weight(name="nats", shape=shape, initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.nats.assign(y_pred)

    def result(self) -> Any:
        return ops.sum(self.nats)


class SquaredGradients(keras.optimizers.Optimizer):
    """Adds up the squares of gradients in `squares`, one variable per weight, and does not change the weights."""

    takes_sparse_gradients = False

    def build(self, variables: Any) -> None:
        if not self.built:
            super().build(variables)
            self.squares = [self.add_variable_from_reference(v, name="squares") for v in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        self.assign_add(self.squares[self._get_variable_index(variable)], ops.square(_dense(gradient)))


class DynamicUpdate(keras.optimizers.Optimizer):
    """Gradient descent with a separate step size for each element, and a pull back to the start:

        w += pull * (start - w) - learning_rate * scale * gradient

    `start`, `pull` and `scale` are lists of one variable per weight, to be assigned by the caller.
    """

    takes_sparse_gradients = True

    def build(self, variables: Any) -> None:
        if not self.built:
            super().build(variables)
            self.start, self.pull, self.scale = (
                [self.add_variable_from_reference(v, name=name) for v in variables]
                for name in ("start", "pull", "scale")
            )

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        number, rate = self._get_variable_index(variable), ops.cast(learning_rate, variable.dtype)
        start, pull, scale = (ops.convert_to_tensor(of[number]) for of in (self.start, self.pull, self.scale))
        if keras.backend.backend() != "torch":
            self.assign_add(variable, pull * (start - variable) - rate * scale * _dense(gradient))
            return
        weight = variable.value.lerp_(start, pull)  # in place
        if gradient.is_sparse:
            gradient = gradient.coalesce()  # adds up the rows of a repeated word
            rows = gradient.indices()[0]
            weight.index_add_(0, rows, gradient.values() * scale[rows], alpha=-float(rate))
        else:
            weight.addcmul_(gradient, scale, value=-float(rate))


def _dense(gradient: Any) -> Any:
    """The gradient of an embedding table as a table, with the rows of a repeated word added up."""
    if keras.backend.backend() != "tensorflow":
        return gradient
    import tensorflow as tf

    return tf.convert_to_tensor(gradient)  # keras.ops would square each row of a repeated word separately
