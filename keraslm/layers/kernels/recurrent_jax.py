"""LSTM and scan on JAX. Arrays of the LSTM are time first: `[T, B, H]`.

Automatic differentiation of a scan adds a product of rank B to the gradients of both weight matrices at every step.
Here the backward scan computes only the gradient of the gates; each weight gradient is then one product over all steps.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from keraslm.replicas.replicas_jax import on_each_device

Weights = tuple[Array, Array, Array]  # kernel, recurrent kernel, bias
State = tuple[Array, ...]


def lstm(
    x: Array, h0: Array, c0: Array, weights: Weights, h_factor: Array | None, c_factor: Array | None, low: str
) -> Any:
    """`dispatch.lstm`: h after each step, `[T, B, H]`, and the last h and c."""
    window = partial(_window, low)
    return on_each_device(window, (1, 0, 0, None, 1, 1), (1, 0, 0), x, h0, c0, weights, h_factor, c_factor)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _window(
    low: str, x: Array, h0: Array, c0: Array, weights: Weights, h_factor: Array | None, c_factor: Array | None
) -> tuple[Array, Array, Array]:
    return _forward(low, x, h0, c0, weights, h_factor, c_factor)[0]


def _forward(low: str, x: Array, h0: Array, c0: Array, weights: Weights, h_factor: Any, c_factor: Any) -> Any:
    kernel, recurrent_kernel, bias = weights
    recurrent = recurrent_kernel.astype(low)
    projected = product(x, kernel, low) + bias  # [T, B, 4H]

    def step(state: Any, inputs: Any) -> Any:
        z, h_factor, c_factor = inputs
        h, c = _scaled(state[0], h_factor), _scaled(state[1], c_factor)
        i, f, g, o = jnp.split(z + product(h, recurrent, low), 4, axis=-1)
        i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
        c = f * c + i * g
        h = o * jnp.tanh(c)
        return (h, c), (h, c, jnp.concatenate([i, f, g, o], axis=-1))

    (h_last, c_last), (h, c, gates) = lax.scan(step, (h0, c0), (projected, h_factor, c_factor))
    return (h, h_last, c_last), (x, h0, c0, weights, h_factor, c_factor, h, c, gates)


def _backward(low: str, saved: Any, gradients: tuple[Array, Array, Array]) -> tuple[Any, ...]:
    x, h0, c0, weights, h_factor, c_factor, h, c, gates = saved
    kernel, recurrent_kernel, _ = weights
    dh_all, dh_last, dc_last = gradients
    transposed = recurrent_kernel.astype(low).T
    h_before, c_before = jnp.concatenate([h0[None], h])[:-1], jnp.concatenate([c0[None], c])[:-1]
    h_before, c_before = _scaled(h_before, h_factor), _scaled(c_before, c_factor)

    def step(state: Any, inputs: Any) -> Any:
        dh, dc = state
        dh_here, gates, c, c_before, h_factor, c_factor = inputs
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        dh, tanh_c = dh + dh_here, jnp.tanh(c)
        dc = dc + dh * o * (1 - tanh_c * tanh_c)
        parts = dc * g * i * (1 - i), dc * c_before * f * (1 - f), dc * i * (1 - g * g), dh * tanh_c * o * (1 - o)
        dz = jnp.concatenate(parts, axis=-1)
        return (_scaled(product(dz, transposed, low), h_factor), _scaled(dc * f, c_factor)), dz

    arrays = (dh_all, gates, c, c_before, h_factor, c_factor)
    (dh0, dc0), dz = lax.scan(step, (dh_last, dc_last), arrays, reverse=True)
    dkernel, drecurrent = _weight_product(x, dz, low), _weight_product(h_before, dz, low)
    dx = product(dz, kernel.astype(low).T, low)
    return dx, dh0, dc0, (dkernel, drecurrent, dz.sum((0, 1))), *jax.tree.map(jnp.zeros_like, (h_factor, c_factor))


_window.defvjp(_forward, _backward)


def product(a: Array, b: Array, low: str) -> Array:
    """`a @ b`, with operands and result rounded to `low`, in the type of `a`."""
    result = jnp.matmul(a.astype(low), b.astype(low)).astype(a.dtype)
    # Without it, XLA leaves out the rounding where it can.
    return lax.reduce_precision(result, 8, 7) if low == "bfloat16" else result


def _weight_product(a: Array, dz: Array, low: str) -> Array:
    """The sum over steps and rows of the outer products of `a` and `dz`."""
    return product(a.reshape(-1, a.shape[-1]).T, dz.reshape(-1, dz.shape[-1]), low)


def _scaled(value: Array, factor: Array | None) -> Array:
    return value if factor is None else value * factor


def scan(
    step: Callable[[State, Array, Any], State], state: State, inputs: Array, keep: Array | None
) -> tuple[Array, State]:
    """`dispatch.scan`; `keep` is `[B, T, 1]` or None."""

    def with_output(state: State, at: tuple[Array, Array | None]) -> tuple[State, Array]:
        state = step(state, *at)
        return state, state[0]

    keep = None if keep is None else jnp.swapaxes(keep, 0, 1)
    last, outputs = lax.scan(with_output, state, (jnp.swapaxes(inputs, 0, 1), keep))
    return jnp.swapaxes(outputs, 0, 1), last
