"""Updates of weights on TensorFlow: the functions of `updates_jax`, in place, by fused operations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf


def with_norm(gradients: list[Any]) -> tuple[list[Any], Any]:
    gradients = [_summed(g) if isinstance(g, tf.IndexedSlices) else g for g in gradients]
    return gradients, tf.linalg.global_norm(gradients)


def sgd(optimizer: Any, variables: list[Any], gradients: list[Any], rate: Any, factor: Any) -> None:
    rate, decay = tf.cast(rate, tf.float32), optimizer.decay
    for weight, gradient in zip(_values(variables), gradients, strict=True):
        if decay:
            _assign(weight, weight * (1.0 - rate * decay))
        if isinstance(gradient, tf.IndexedSlices):
            rows = gradient.values * (rate * factor)
            tf.raw_ops.ResourceScatterSub(resource=weight.handle, indices=gradient.indices, updates=rows)
        else:
            tf.raw_ops.ResourceApplyGradientDescent(var=weight.handle, alpha=rate * factor, delta=gradient)


def adamw(optimizer: Any, variables: list[Any], gradients: list[Any], rate: Any, factor: Any) -> None:
    number, betas, decay = tf.cast(optimizer.iterations.value + 1, tf.float32), optimizer.betas, optimizer.decay
    # 1 - beta ** number with beta in float32, as in the operation; in float64 the corrections would differ by 5e-5.
    corrections = [-tf.math.expm1(number * math.log(np.float32(beta))) if beta else 1.0 for beta in betas]
    rate, root = tf.cast(rate, tf.float32), tf.sqrt(corrections[1])
    arrays = zip(_values(variables), gradients, *map(_values, optimizer.moments(variables)), strict=True)
    for weight, gradient, mean, square in arrays:
        if decay:
            _assign(weight, weight * (1.0 - rate * decay))
        tf.raw_ops.ResourceApplyAdam(
            var=weight.handle,
            m=mean.handle,
            v=square.handle,
            beta1_power=0.0,  # `lr` contains the corrections, because one minus a power loses digits
            beta2_power=0.0,
            lr=rate * root / corrections[0],
            beta1=betas[0],
            beta2=betas[1],
            epsilon=optimizer.epsilon * root,  # TensorFlow adds it before the correction
            grad=tf.convert_to_tensor(gradient) * factor,
        )


def average(averages: list[Any], variables: list[Any], share: Any) -> None:
    for mean, weight in zip(_values(averages), _values(variables), strict=True):
        _assign(mean, (1.0 - share) * mean + share * weight)


def accumulate(optimizer: Any, variables: list[Any], gradients: list[Any], sums: list[Any]) -> None:
    totals, part = _values(sums), optimizer.part.value
    for total, gradient in zip(totals, gradients, strict=True):
        if isinstance(gradient, tf.IndexedSlices):
            tf.raw_ops.ResourceScatterAdd(resource=total.handle, indices=gradient.indices, updates=gradient.values)
        else:
            total.assign_add(gradient)
    part.assign_add(1)

    def step() -> None:
        optimizer.step(variables, [total / optimizer.accumulate for total in totals])
        for variable in (*totals, part):
            variable.assign(tf.zeros_like(variable))

    tf.cond(part == optimizer.accumulate, step, lambda: None)


def _assign(variable: Any, value: Any) -> None:
    """Assign within a replica without a word to the others, whose values are the same."""
    tf.raw_ops.AssignVariableOp(resource=variable.handle, value=value)


def _values(variables: list[Any]) -> list[Any]:
    return [variable.value for variable in variables]


def _summed(gradient: Any) -> Any:
    """Indexed slices with one row per index, so that the norm contains the sum of the rows of a repeated word."""
    indices, places = tf.unique(gradient.indices)
    rows = tf.math.unsorted_segment_sum(gradient.values, places, tf.shape(indices)[0])
    return tf.IndexedSlices(rows, indices, gradient.dense_shape)
