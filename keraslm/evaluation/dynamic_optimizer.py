"""The two optimizers of dynamic evaluation: one collects squared gradients, the other adapts weights and pulls back."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keraslm")
class SquaredGradients(keras.optimizers.Optimizer):
    """Adds up the squares of gradients, number by number, and leaves the weights as they are.

    Attributes:
        squares: of each weight, in the order of `model.trainable_variables`, the sum over all steps.
    """

    takes_sparse_gradients = False

    def __init__(self, name: str = "squared_gradients", **kwargs: Any):
        kwargs.pop("learning_rate", None)
        super().__init__(learning_rate=0.0, name=name, **kwargs)

    def build(self, variables: Any) -> None:
        if self.built:
            return
        super().build(variables)
        self.squares = [self.add_variable_from_reference(v, name="squares") for v in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        self.assign_add(self.squares[self._get_variable_index(variable)], ops.square(_dense(gradient)))


@keras.saving.register_keras_serializable(package="keraslm")
class DynamicUpdate(keras.optimizers.Optimizer):
    """Gradient descent with a step size of its own for each number, and a pull back to where it started:

        w += pull * (start - w) - learning_rate * scale * gradient

    On torch the update is two operations in place, and the sparse gradient of an embedding table is taken as it is.

    Args:
        learning_rate: eta.

    Attributes:
        start, pull, scale: of each weight, in the order of `model.trainable_variables`, arrays of its shape. They start
            at 0, 0 and 1: plain SGD. Assign to them.

    Reference: Krause, Kahembwe, Murray and Renals 2018, "Dynamic Evaluation of Neural Sequence Models",
    arXiv:1709.07432, section 5.
    """

    takes_sparse_gradients = True

    def __init__(self, learning_rate: Any = 5e-5, name: str = "dynamic_update", **kwargs: Any):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)

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
        """Update variables by their gradients, in the order in which the optimizer was built."""
        if keras.backend.backend() != "torch":
            super().apply(grads, trainable_variables)
            return
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        if not self.built:
            self.build(variables)
        values = zip(*([v.value for v in of] for of in (variables, self.start, self.pull, self.scale)), strict=True)
        _update_torch(list(values), grads, float(self.learning_rate))
        self.iterations.assign_add(1)


def _dense(gradient: Any) -> Any:
    """A gradient of an embedding table as a table, in which the rows of a word seen twice are one."""
    if keras.backend.backend() != "tensorflow":
        return gradient
    import tensorflow as tf

    return tf.convert_to_tensor(gradient)  # Keras' own takes a list of rows for a tensor, and squares row by row


def _update_torch(values: list[tuple[Any, ...]], gradients: list[Any], learning_rate: float) -> None:
    import torch

    with torch.no_grad():
        for (weight, start, pull, scale), gradient in zip(values, gradients, strict=True):
            weight.lerp_(start, pull)
            if gradient.is_sparse:
                gradient = gradient.coalesce()  # a word seen twice is one row
                rows = gradient.indices()[0]
                weight.index_add_(0, rows, gradient.values() * scale[rows], alpha=-learning_rate)
            else:
                weight.addcmul_(gradient, scale, value=-learning_rate)
