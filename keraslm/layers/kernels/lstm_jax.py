"""The LSTM over a window on JAX: two scans, and every product that can leave them outside.

Differentiating the forward scan would add a rank-B product to the gradients of both weight matrices at every step: not
arithmetic but traffic, `4H x (D + H)` numbers read and written `T` times. In the backward scan here only the gradient
of the gates is computed; both weight gradients are one product over the whole window after it.

Letters: `T` steps, `B` rows, `D` inputs, `H` units. Time comes first in every array here.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

Weights = tuple[Array, Array, Array]


def lstm(
    x: Array,
    h0: Array,
    c0: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array,
    mask: Array | None = None,
    keep: Array | None = None,
    product_dtype: str = "float32",
) -> tuple[Array, Array, Array]:
    """`dispatch.lstm` for batch-first arrays of JAX."""
    x = jnp.swapaxes(x, 0, 1)
    h_factor, c_factor = _state_factors(x, mask, keep)
    low = jnp.bfloat16 if product_dtype == "bfloat16" else x.dtype
    h, h_last, c_last = _window(x, h0, c0, (kernel, recurrent_kernel, bias), h_factor, c_factor, low)
    return jnp.swapaxes(h, 0, 1), h_last, c_last


def _state_factors(x: Array, mask: Array | None, keep: Array | None) -> tuple[Array | None, Array | None]:
    """Factors on h and c before each step, `[T, B, H]` or `[T, B, 1]`; None where there is nothing to do."""
    c_factor = None if keep is None else keep.T[:, :, None].astype(x.dtype)
    if mask is None:
        return c_factor, c_factor
    h_factor = jnp.broadcast_to(mask, (x.shape[0], *mask.shape))
    return h_factor if c_factor is None else h_factor * c_factor, c_factor


@partial(jax.custom_vjp, nondiff_argnums=(6,))
def _window(
    x: Array, h0: Array, c0: Array, weights: Weights, h_factor: Array | None, c_factor: Array | None, low: Any
) -> tuple[Array, Array, Array]:
    """h after each step, `[T, B, H]`, and the last h and c."""
    return _forward(x, h0, c0, weights, h_factor, c_factor, low)[0]


def _forward(
    x: Array, h0: Array, c0: Array, weights: Weights, h_factor: Array | None, c_factor: Array | None, low: Any
) -> Any:
    kernel, recurrent_kernel, bias = weights
    recurrent = recurrent_kernel.astype(low)
    projected = _product(x, kernel, low) + bias  # [T, B, 4H]

    def step(state: Any, inputs: Any) -> Any:
        z, h_factor, c_factor = inputs
        h, c = _scaled(state[0], h_factor), _scaled(state[1], c_factor)
        i, f, g, o = jnp.split(z + _product(h, recurrent, low), 4, axis=-1)
        i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
        c = f * c + i * g
        h = o * jnp.tanh(c)
        return (h, c), (h, c, jnp.concatenate([i, f, g, o], axis=-1))

    (h_last, c_last), (h, c, gates) = lax.scan(step, (h0, c0), (projected, h_factor, c_factor))
    return (h, h_last, c_last), (x, h0, c0, weights, h_factor, c_factor, h, c, gates)


def _backward(low: Any, saved: Any, gradients: tuple[Array, Array, Array]) -> tuple[Any, ...]:
    x, h0, c0, weights, h_factor, c_factor, h, c, gates = saved
    kernel, recurrent_kernel, _ = weights
    dh_all, dh_last, dc_last = gradients
    transposed = recurrent_kernel.astype(low).T
    h_before, c_before = jnp.concatenate([h0[None], h[:-1]]), jnp.concatenate([c0[None], c[:-1]])
    h_before, c_before = _scaled(h_before, h_factor), _scaled(c_before, c_factor)

    def step(state: Any, inputs: Any) -> Any:
        dh, dc = state
        dh_here, gates, c, c_before, h_factor, c_factor = inputs
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        dh, tanh_c = dh + dh_here, jnp.tanh(c)
        dc = dc + dh * o * (1 - tanh_c * tanh_c)
        parts = dc * g * i * (1 - i), dc * c_before * f * (1 - f), dc * i * (1 - g * g), dh * tanh_c * o * (1 - o)
        dz = jnp.concatenate(parts, axis=-1)
        return (_scaled(_product(dz, transposed, low), h_factor), _scaled(dc * f, c_factor)), dz

    arrays = (dh_all, gates, c, c_before, h_factor, c_factor)
    (dh0, dc0), dz = lax.scan(step, (dh_last, dc_last), arrays, reverse=True)
    dkernel, drecurrent = _weight_product(x, dz, low), _weight_product(h_before, dz, low)
    dx = _product(dz, kernel.astype(low).T, low)
    none = jax.tree.map(jnp.zeros_like, (h_factor, c_factor))
    return dx, dh0, dc0, (dkernel, drecurrent, dz.sum((0, 1))), *none


_window.defvjp(_forward, _backward)


def _product(a: Array, b: Array, low: Any) -> Array:
    """`a @ b` over the last axis of `a`, operands in `low`, result in the type of `a`."""
    return jnp.matmul(a.astype(low), b.astype(low), preferred_element_type=a.dtype)


def _weight_product(a: Array, dz: Array, low: Any) -> Array:
    """The sum over steps and rows of the outer products of `a` and `dz`."""
    a, dz = a.reshape(-1, a.shape[-1]), dz.reshape(-1, dz.shape[-1])
    return jnp.matmul(a.T.astype(low), dz.astype(low), preferred_element_type=a.dtype)


def _scaled(value: Array, factor: Array | None) -> Array:
    return value if factor is None else value * factor
