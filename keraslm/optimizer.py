"""Plain SGD with the gradient clipped by its global norm, in as few passes over the weights as a backend allows.

The norm is kept, with the number of steps until it ceased to be finite: what a training that diverged is asked for.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keraslm")
class ClippedSGD(keras.optimizers.SGD):
    """`keras.optimizers.SGD(learning_rate, global_clipnorm=clip_norm)`: the same numbers, less traffic.

    Keras squares, scales and multiplies each gradient into a new array before it touches the weights. On torch and
    TensorFlow this class reads each gradient once for the norm and once for the update; there it also takes the sparse
    gradient of an embedding table and touches the listed rows only. On JAX the compiler fuses Keras' own form.

    Two more variables of the optimizer follow the step, on the device, so that nobody has to look at each one:
    `finite_steps` counts the steps before the first gradient whose norm is NaN or infinite, and equals `iterations`
    until then; `gradient_norm` is the norm of the last gradient that it counted, before clipping.

    Args:
        learning_rate: step size, or a schedule.
        clip_norm: largest global norm of the gradient; None means no clipping.

    Example:
        >>> model.compile(ClippedSGD(1.0, clip_norm=5.0), loss=SequenceLoss())

    Reference: Pascanu, Mikolov and Bengio 2013 for the clipping.
    """

    def __init__(self, learning_rate: Any = 1.0, clip_norm: float | None = None, name: str = "sgd", **kwargs: Any):
        kwargs.pop("global_clipnorm", None)
        super().__init__(learning_rate, global_clipnorm=clip_norm, name=name, **kwargs)
        self.clip_norm = clip_norm
        self.finite_steps = self.add_variable((), dtype="int", aggregation="only_first_replica", name="finite_steps")
        self.gradient_norm = self.add_variable(
            (), dtype="float32", aggregation="only_first_replica", name="gradient_norm"
        )

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Update variables by their gradients, in the order in which the optimizer was built."""
        update = _UPDATES.get(keras.backend.backend())
        if update is None:
            self._follow(_global_norm(grads))
            super().apply(grads, trainable_variables)
            return
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        if not self.built:
            self.build(variables)
        pairs = [(v, g) for v, g in zip(variables, grads, strict=True) if g is not None]
        limit = self.clip_norm or math.inf
        self._follow(update([v.value for v, _ in pairs], [g for _, g in pairs], self.learning_rate, limit))
        self.iterations.assign_add(1)

    def _follow(self, norm: Any) -> None:
        """Count a step and keep its norm, unless it or one before it is not finite."""
        steps, kept = self.finite_steps.value, self.gradient_norm.value
        counts = ops.isfinite(norm) & (steps == self.iterations.value)
        self.finite_steps.assign(steps + ops.cast(counts, steps.dtype))
        self.gradient_norm.assign(ops.where(counts, norm, kept))

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["global_clipnorm"]
        return {**config, "clip_norm": self.clip_norm}


def _global_norm(gradients: list[Any]) -> Any:
    """As Keras computes it for its clipping, operation by operation: a compiler finds the two equal and keeps one."""
    squares = [ops.sum(ops.square(g)) for g in gradients if g is not None]
    return ops.sqrt(ops.sum(ops.stack(squares)))


def _update_torch(variables: list[Any], gradients: list[Any], learning_rate: Any, clip_norm: float) -> Any:
    """Update the variables in place; return the norm."""
    import torch

    with torch.no_grad():
        gradients = [g.coalesce() if g.is_sparse else g for g in gradients]  # a word seen twice is one row
        values = [g.values() if g.is_sparse else g for g in gradients]
        norm = torch.stack(torch._foreach_norm(values)).norm()
        step = -learning_rate * _clip_factor(torch, norm, clip_norm)
        if norm.device.type == "cpu":
            step = float(step)  # nothing to wait for, and `alpha` below saves a pass
            dense = [pair for pair in zip(variables, gradients, strict=True) if not pair[1].is_sparse]
            if dense:
                torch._foreach_add_([v for v, _ in dense], [g for _, g in dense], alpha=step)
            for variable, gradient in zip(variables, gradients, strict=True):
                if gradient.is_sparse:
                    variable.index_add_(0, gradient.indices()[0], gradient.values(), alpha=step)
            return norm
        for variable, gradient, value in zip(variables, gradients, values, strict=True):
            value.mul_(step)
            if gradient.is_sparse:
                variable.index_add_(0, gradient.indices()[0], value)
            else:
                variable.add_(value)
        return norm


def _update_tensorflow(variables: list[Any], gradients: list[Any], learning_rate: Any, clip_norm: float) -> Any:
    """Update the variables in place; return the norm."""
    import tensorflow as tf

    gradients = [_summed(g) for g in gradients]
    norm = tf.linalg.global_norm(gradients)
    step = tf.cast(learning_rate, tf.float32) * _clip_factor(tf, norm, clip_norm)
    for variable, gradient in zip(variables, gradients, strict=True):
        if isinstance(gradient, tf.IndexedSlices):
            variable.scatter_sub(tf.IndexedSlices(gradient.values * step, gradient.indices, gradient.dense_shape))
        else:
            tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=step, delta=gradient)
    return norm


def _summed(gradient: Any) -> Any:
    """Indexed slices with one row an index: the norm of a word seen twice is that of the sum of its rows."""
    import tensorflow as tf

    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    indices, places = tf.unique(gradient.indices)
    rows = tf.math.unsorted_segment_sum(gradient.values, places, tf.shape(indices)[0])
    return tf.IndexedSlices(rows, indices, gradient.dense_shape)


def _clip_factor(library: Any, norm: Any, clip_norm: float) -> Any:
    """min(1, clip_norm / norm); NaN for a norm that is not finite, so that a diverged training shows."""
    if math.isinf(clip_norm):
        return 1.0
    return clip_norm / library.maximum(norm, library.ones_like(norm) * clip_norm) + (norm - norm)


_UPDATES = {"torch": _update_torch, "tensorflow": _update_tensorflow}
