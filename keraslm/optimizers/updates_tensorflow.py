"""Updates of weights in TensorFlow: its fused operations, in place. As `updates_jax`."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keraslm.optimizers.base import AdamWStep


def with_norm(gradients: list[Any]) -> tuple[list[Any], Any]:
    gradients = [_summed(g) for g in gradients]
    return gradients, tf.linalg.global_norm(gradients)


def sgd(variables: list[keras.Variable], gradients: list[Any], rate: Any, factor: Any, decay: float) -> None:
    rate = tf.cast(rate, tf.float32)
    for variable, gradient in zip(_weights(variables), gradients, strict=True):
        _decay(variable, rate, decay)
        if isinstance(gradient, tf.IndexedSlices):
            rows = gradient.values * (rate * factor)
            variable.scatter_sub(tf.IndexedSlices(rows, gradient.indices, gradient.dense_shape))
        else:
            tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=rate * factor, delta=gradient)


def adamw(
    variables: list[keras.Variable],
    gradients: list[Any],
    means: list[keras.Variable],
    squares: list[keras.Variable],
    step: AdamWStep,
) -> None:
    # 1 - beta ** number, for the betas that the operation computes with: one minus their float32 differs by 5e-5.
    corrections = [-tf.math.expm1(step.number * math.log(np.float32(beta))) if beta else 1.0 for beta in step.betas]
    rate = tf.cast(step.rate, tf.float32)
    root = tf.sqrt(corrections[1])
    moments = zip(_weights(means), _weights(squares), strict=True)
    for variable, gradient, (mean, square) in zip(_weights(variables), gradients, moments, strict=True):
        _decay(variable, rate, step.decay)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=mean.handle,
            v=square.handle,
            beta1_power=0.0,  # the corrections are in `lr`: one minus a power loses digits
            beta2_power=0.0,
            lr=rate * root / corrections[0],
            beta1=step.betas[0],
            beta2=step.betas[1],
            epsilon=step.epsilon * root,  # which TensorFlow adds before the correction
            grad=tf.convert_to_tensor(gradient) * step.factor,
        )


def average(averages: list[keras.Variable], variables: list[keras.Variable], share: Any) -> None:
    for mean, variable in zip(_weights(averages), _weights(variables), strict=True):
        mean.assign((1.0 - share) * mean + share * variable)


def _weights(variables: list[keras.Variable]) -> list[Any]:
    return [variable.value for variable in variables]


def _decay(variable: Any, rate: Any, decay: float) -> None:
    if decay:
        variable.assign(variable * (1.0 - rate * decay))


def _summed(gradient: Any) -> Any:
    """Indexed slices with one row an index: the norm of a word seen twice is that of the sum of its rows."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    indices, places = tf.unique(gradient.indices)
    rows = tf.math.unsorted_segment_sum(gradient.values, places, tf.shape(indices)[0])
    return tf.IndexedSlices(rows, indices, gradient.dense_shape)
