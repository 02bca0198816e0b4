"""Updates of weights in JAX: the plain formulas, which the compiler fuses into one pass."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keraslm.optimizers.base import AdamWStep


def with_norm(gradients: list[Any]) -> tuple[list[Any], Any]:
    """The gradients, and the square root of the sum of all their squares."""
    squares = [ops.sum(ops.square(g)) for g in gradients]
    return gradients, ops.sqrt(ops.sum(ops.stack(squares)))


def sgd(variables: list[keras.Variable], gradients: list[Any], rate: Any, factor: Any, decay: float) -> None:
    """`w -= rate * (decay * w + factor * g)`"""
    for variable, gradient in zip(variables, gradients, strict=True):
        value = variable.value
        variable.assign(value - rate * factor * gradient - (rate * decay * value if decay else 0.0))


def adamw(
    variables: list[keras.Variable],
    gradients: list[Any],
    means: list[keras.Variable],
    squares: list[keras.Variable],
    step: AdamWStep,
) -> None:
    """The formulas of `ClippedAdamW`."""
    beta_1, beta_2 = step.betas
    # 1 - beta ** number
    corrections = [-ops.expm1(step.number * math.log(beta)) if beta else 1.0 for beta in step.betas]
    for variable, gradient, mean, square in zip(variables, gradients, means, squares, strict=True):
        g = step.factor * gradient
        mean.assign(beta_1 * mean.value + (1.0 - beta_1) * g)
        square.assign(beta_2 * square.value + (1.0 - beta_2) * ops.square(g))
        direction = mean.value / corrections[0] / (ops.sqrt(square.value / corrections[1]) + step.epsilon)
        variable.assign(variable.value - step.rate * (step.decay * variable.value + direction))


def average(averages: list[keras.Variable], variables: list[keras.Variable], share: Any) -> None:
    """Move each average towards its weight by a share of the way; a share of 1 makes it the weight."""
    for mean, variable in zip(averages, variables, strict=True):
        mean.assign((1.0 - share) * mean.value + share * variable.value)
