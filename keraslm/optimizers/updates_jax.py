"""Updates of weights on JAX: the plain formulas, which the compiler fuses."""

from __future__ import annotations

import math
from typing import Any

from keras import ops


def with_norm(gradients: list[Any]) -> tuple[list[Any], Any]:
    """Return the gradients and their global norm, the square root of the sum of all squares."""
    return gradients, ops.sqrt(ops.sum(ops.stack([ops.sum(ops.square(g)) for g in gradients])))


def sgd(optimizer: Any, variables: list[Any], gradients: list[Any], rate: Any, factor: Any) -> None:
    """`w -= rate * (decay * w + factor * g)`"""
    for variable, gradient in zip(variables, gradients, strict=True):
        value = variable.value
        decay = rate * optimizer.decay * value if optimizer.decay else 0.0
        variable.assign(value - rate * factor * gradient - decay)


def adamw(optimizer: Any, variables: list[Any], gradients: list[Any], rate: Any, factor: Any) -> None:
    """The formulas of `ClippedAdamW`."""
    number, (beta_1, beta_2) = ops.cast(optimizer.iterations.value + 1, "float32"), optimizer.betas
    corrections = [-ops.expm1(number * math.log(b)) if b else 1.0 for b in optimizer.betas]  # 1 - beta ** number
    for variable, gradient, mean, square in zip(variables, gradients, *optimizer.moments(variables), strict=True):
        g = factor * gradient
        mean.assign(beta_1 * mean.value + (1.0 - beta_1) * g)
        square.assign(beta_2 * square.value + (1.0 - beta_2) * ops.square(g))
        direction = mean.value / corrections[0] / (ops.sqrt(square.value / corrections[1]) + optimizer.epsilon)
        variable.assign(variable.value - rate * (optimizer.decay * variable.value + direction))


def average(averages: list[Any], variables: list[Any], share: Any) -> None:
    """Move each average towards its weight by a share of the distance."""
    for mean, variable in zip(averages, variables, strict=True):
        mean.assign((1.0 - share) * mean.value + share * variable.value)
