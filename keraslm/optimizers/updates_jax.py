"""Updates of weights on JAX: the plain formulas, which the compiler fuses."""

from __future__ import annotations

import math
from typing import Any

import jax
import keras
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


def accumulate(optimizer: Any, variables: list[Any], gradients: list[Any], sums: list[Any]) -> None:
    """Add gradients to their sums; the last of `optimizer.accumulate` calls makes the step of their mean."""
    totals = [total.value + g for total, g in zip(sums, gradients, strict=True)]
    part = optimizer.part.value + 1
    is_last = part == optimizer.accumulate
    own = {id(v) for v in (*sums, optimizer.part)}
    changed = [*(v for v in optimizer.variables if id(v) not in own), *variables]

    def step(values: list[Any]) -> list[Any]:
        with keras.StatelessScope(state_mapping=list(zip(changed, values, strict=True))) as scope:
            optimizer.step(variables, [total / optimizer.accumulate for total in totals])
        return [scope.get_current_value(v) for v in changed]

    values = jax.lax.cond(is_last, step, lambda values: values, [v.value for v in changed])
    for variable, value in zip(changed, values, strict=True):
        variable.assign(value)
    for variable, value in zip((*sums, optimizer.part), (*totals, part), strict=True):
        variable.assign(ops.where(is_last, 0, value))
