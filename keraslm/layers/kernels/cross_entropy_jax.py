"""Projection and cross entropy on JAX, with one array of `N x V` where autodiff keeps three.

Letters: `N` tokens, `H` units, `V` vocabulary.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from keraslm.layers.kernels.pieces import rows_of_a_piece


def cross_entropy(
    hidden: Array,
    kernel: Array,
    bias: Array,
    targets: Array,
    product_dtype: str = "float32",
    transposed: bool = False,
) -> Array:
    """`dispatch.cross_entropy` for arrays of JAX."""
    kernel = kernel.T if transposed else kernel  # which the compiler makes a part of the products
    low = jnp.bfloat16 if product_dtype == "bfloat16" else hidden.dtype
    nats = _nats(hidden.reshape(-1, hidden.shape[-1]), kernel, bias, targets.reshape(-1).astype("int32"), low)
    return nats.reshape(targets.shape)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _nats(hidden: Array, kernel: Array, bias: Array, targets: Array, low: Any) -> Array:
    return _forward(hidden, kernel, bias, targets, low)[0]


def _forward(hidden: Array, kernel: Array, bias: Array, targets: Array, low: Any) -> Any:
    """Nats `(N,)`, and for the backward pass log-probabilities `(N, V)`, or None where they pass the budget."""
    rows = rows_of_a_piece(len(hidden), len(bias))
    if rows == len(hidden):
        log_p = _log_softmax(hidden, kernel, bias, low)
        return _picked(log_p, targets), (hidden, kernel, bias, targets, log_p)
    nats = lax.map(
        lambda row: _picked(_log_softmax(row[0][None], kernel, bias, low), row[1][None])[0],
        (hidden, targets),
        batch_size=rows,
    )
    return nats, (hidden, kernel, bias, targets, None)


def _backward(low: Any, saved: Any, dnats: Array) -> tuple[Any, ...]:
    hidden, kernel, bias, targets, log_p = saved
    if log_p is not None:
        return *_gradients(hidden, kernel, dnats, targets, log_p, low), None
    rows = rows_of_a_piece(len(hidden), len(bias))
    pieces = -(-len(hidden) // rows)

    def cut(a: Array) -> Array:
        padding = [(0, pieces * rows - len(a))] + [(0, 0)] * (a.ndim - 1)
        return jnp.pad(a, padding).reshape(pieces, rows, *a.shape[1:])

    def add_piece(sums: Any, piece: Any) -> Any:
        hidden, dnats, targets = piece  # rows of padding have a gradient of 0
        log_p = _log_softmax(hidden, kernel, bias, low)
        dhidden, dkernel, dbias = _gradients(hidden, kernel, dnats, targets, log_p, low)
        return (sums[0] + dkernel, sums[1] + dbias), dhidden

    start = (jnp.zeros_like(kernel), jnp.zeros_like(bias))
    (dkernel, dbias), dhidden = lax.scan(add_piece, start, (cut(hidden), cut(dnats), cut(targets)))
    return dhidden.reshape(-1, hidden.shape[-1])[: len(hidden)], dkernel, dbias, None


_nats.defvjp(_forward, _backward)


def _gradients(hidden: Array, kernel: Array, dnats: Array, targets: Array, log_p: Array, low: Any) -> Any:
    """Of hidden, kernel and bias. The narrow sides of the products are scaled, not the array of `N x V`."""
    one_hot = targets[:, None] == jnp.arange(log_p.shape[1])
    dlogits = (jnp.exp(log_p) - one_hot).astype(low)
    scaled = (hidden * dnats[:, None]).astype(low)
    dkernel = jnp.matmul(scaled.T, dlogits, preferred_element_type=hidden.dtype)
    dhidden = jnp.matmul(dlogits, kernel.astype(low).T, preferred_element_type=hidden.dtype) * dnats[:, None]
    return dhidden, dkernel, jnp.matmul(dnats.astype(low), dlogits, preferred_element_type=hidden.dtype)


def _log_softmax(hidden: Array, kernel: Array, bias: Array, low: Any) -> Array:
    logits = jnp.matmul(hidden.astype(low), kernel.astype(low), preferred_element_type=hidden.dtype) + bias
    return jax.nn.log_softmax(logits)


def _picked(log_p: Array, targets: Array) -> Array:
    return -jnp.take_along_axis(log_p, targets[:, None], axis=1)[:, 0]
