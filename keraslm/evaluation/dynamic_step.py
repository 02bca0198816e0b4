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

    Args:
        run: the run folder.
        shape: B, T: rows whose state is carried, and tokens of each in a segment.
        context: how far the state is carried.
        optimizer: takes the gradient of the mean cost of a segment's tokens; see `network.compile.compile_model`.

    Attributes:
        network: of `load_model`.
        weights: its trained variables.
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
        """Nats of a segment, `(B, T)`, with the weights from before the update."""
        self._model.train_on_batch(list(window), window[1])
        return np.asarray(ops.convert_to_numpy(self._nats.nats), np.float64)


class _EvaluationMode(keras.Model):
    """A model whose layers run in evaluation mode even in training: no dropout, no estimated softmax."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return super().call(inputs, training=False, mask=mask)


class _LastNats(keras.metrics.Metric):
    """The output of the model for the last window."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__(name="nats")
        self.nats = self.add_weight(name="nats", shape=shape, initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.nats.assign(y_pred)

    def result(self) -> Any:
        return ops.sum(self.nats)


class SquaredGradients(keras.optimizers.Optimizer):
    """Adds up the squares of gradients, element by element, and does not change the weights.

    Attributes:
        squares: for each weight, in the order of `model.trainable_variables`, the sum over all steps.
    """

    takes_sparse_gradients = False

    def build(self, variables: Any) -> None:
        if self.built:
            return
        super().build(variables)
        self.squares = [self.add_variable_from_reference(v, name="squares") for v in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        self.assign_add(self.squares[self._get_variable_index(variable)], ops.square(_dense(gradient)))


class DynamicUpdate(keras.optimizers.Optimizer):
    """Gradient descent with a separate step size for each element, and a pull back to the start:

        w += pull * (start - w) - learning_rate * scale * gradient

    Attributes:
        start, pull, scale: for each weight, in the order of `model.trainable_variables`, arrays of its shape. Assign to
            them; initially 0, 0 and 1, which is plain SGD.
    """

    takes_sparse_gradients = True

    def build(self, variables: Any) -> None:
        if self.built:
            return
        super().build(variables)
        self.start, self.pull, self.scale = (
            [self.add_variable_from_reference(v, name=name, initializer=initial) for v in variables]
            for name, initial in (("start", "zeros"), ("pull", "zeros"), ("scale", "ones"))
        )

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        number = self._get_variable_index(variable)
        start, pull, scale = (ops.convert_to_tensor(of[number]) for of in (self.start, self.pull, self.scale))
        rate = ops.cast(learning_rate, variable.dtype)
        self.assign_add(variable, pull * (start - variable) - rate * scale * _dense(gradient))

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Update the variables. On torch in place, and with the sparse gradient of an embedding table as it is."""
        if keras.backend.backend() != "torch":
            super().apply(grads, trainable_variables)
            return
        variables = trainable_variables or self._trainable_variables
        values = zip(*([v.value for v in of] for of in (variables, self.start, self.pull, self.scale)), strict=True)
        _update_torch(list(values), grads, float(self.learning_rate))
        self.iterations.assign_add(1)


def _dense(gradient: Any) -> Any:
    """The gradient of an embedding table as a table, with the rows of a repeated word added up."""
    if keras.backend.backend() != "tensorflow":
        return gradient
    import tensorflow as tf

    return tf.convert_to_tensor(gradient)  # keras.ops would square each row of a repeated word separately


def _update_torch(values: list[tuple[Any, ...]], gradients: list[Any], learning_rate: float) -> None:
    import torch

    with torch.no_grad():
        for (weight, start, pull, scale), gradient in zip(values, gradients, strict=True):
            weight.lerp_(start, pull)
            if gradient.is_sparse:
                gradient = gradient.coalesce()  # adds up the rows of a repeated word
                rows = gradient.indices()[0]
                weight.index_add_(0, rows, gradient.values() * scale[rows], alpha=-learning_rate)
            else:
                weight.addcmul_(gradient, scale, value=-learning_rate)
