"""A step function over time on JAX: `lax.scan`, which XLA compiles into one loop and JAX differentiates."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array, lax

State = tuple[Array, ...]


def scan(
    step: Callable[[State, Array], State], state: State, inputs: Array, keep: Array | None = None
) -> tuple[Array, State]:
    """`dispatch.scan` for batch-first arrays of JAX."""

    def kept_step(state: State, at: tuple[Array, Array | None]) -> tuple[State, Array]:
        x, kept = at
        state = step(state if kept is None else tuple(value * kept for value in state), x)
        return state, state[0]

    keep = None if keep is None else keep.T[:, :, None]  # [T, B, 1]
    last, outputs = lax.scan(kept_step, tuple(state), (jnp.swapaxes(inputs, 0, 1), keep))
    return jnp.swapaxes(outputs, 0, 1), last
