"""Cross entropy and the tails of an adaptive softmax on JAX.

A compiled step has fixed shapes, but the number of tokens in a cluster changes from window to window. Therefore the
tokens of a cluster are gathered and processed in as many pieces of a fixed number of rows as needed.

Shapes: `N` tokens, `H` units, `V` vocabulary, `P` rows of a piece.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from keraslm.layers.kernels import rows_per_piece
from keraslm.layers.kernels.recurrent_jax import product
from keraslm.replicas.replicas_jax import on_each_device

Weights = tuple[Array, Array, Array]  # projection, kernel, bias
ROWS = 32  # rows of a piece of a tail: few are wasted on a rare cluster, and products still run at full speed


def cross_entropy(
    hidden: Array, kernel: Array, bias: Array, targets: Array, low: str, transposed: bool = False
) -> Array:
    """`dispatch.cross_entropy` for `(N, H)` and `(N,)`."""
    kernel = kernel.T if transposed else kernel
    return on_each_device(partial(_nats, low), (0, None, None, 0), 0, hidden, kernel, bias, targets)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _nats(low: str, hidden: Array, kernel: Array, bias: Array, targets: Array) -> Array:
    return _forward(low, hidden, kernel, bias, targets)[0]


def _forward(low: str, hidden: Array, kernel: Array, bias: Array, targets: Array) -> Any:
    """Nats `(N,)`, and arrays for the backward pass; beyond the budget without those of the size of the logits."""
    rows = rows_per_piece(len(hidden), len(bias))
    if rows == len(hidden):
        nats, softmax = _softmax_cost(hidden, kernel, bias, targets, low)
        return nats, (hidden, kernel, bias, targets, softmax)
    nats = lax.map(
        lambda row: _softmax_cost(row[0][None], kernel, bias, row[1][None], low)[0][0],
        (hidden, targets),
        batch_size=rows,
    )
    return nats, (hidden, kernel, bias, targets, None)


def _backward(low: str, saved: Any, dnats: Array) -> tuple[Any, ...]:
    hidden, kernel, bias, targets, softmax = saved
    if softmax is not None:
        return *_gradients(hidden, kernel, dnats, _minus_target(softmax, targets), low), None
    rows = rows_per_piece(len(hidden), len(bias))
    pieces = -(-len(hidden) // rows)

    def cut(a: Array) -> Array:
        padding = [(0, pieces * rows - len(a))] + [(0, 0)] * (a.ndim - 1)
        return jnp.pad(a, padding).reshape(pieces, rows, *a.shape[1:])

    def add_piece(sums: Any, piece: Any) -> Any:
        hidden, dnats, targets = piece  # rows of padding have a gradient of 0
        _, softmax = _softmax_cost(hidden, kernel, bias, targets, low)
        dhidden, dkernel, dbias = _gradients(hidden, kernel, dnats, _minus_target(softmax, targets), low)
        return (sums[0] + dkernel, sums[1] + dbias), dhidden

    start = (jnp.zeros_like(kernel), jnp.zeros_like(bias))
    (dkernel, dbias), dhidden = lax.scan(add_piece, start, (cut(hidden), cut(dnats), cut(targets)))
    return dhidden.reshape(-1, hidden.shape[-1])[: len(hidden)], dkernel, dbias, None


_nats.defvjp(_forward, _backward)


def _gradients(hidden: Array, kernel: Array, dnats: Array, dlogits: Array, low: str) -> Any:
    """Gradients of hidden, kernel and bias. The narrow sides of the products are scaled, not the array `(N, V)`."""
    dkernel = product((hidden * dnats[:, None]).T, dlogits, low)
    dhidden = product(dlogits, kernel.T, low) * dnats[:, None]
    return dhidden, dkernel, product(dnats, dlogits, low)


def _softmax_cost(
    hidden: Array, kernel: Array, bias: Array, targets: Array, low: str
) -> tuple[Array, tuple[Array, Array]]:
    """Nats `(n,)`, and numerators `(n, V)` and denominators `(n,)` of the softmax: one exponential per logit."""
    logits = product(hidden, kernel, low) + bias
    top = logits.max(axis=1)
    numerators = jnp.exp(logits - top[:, None])  # not also subtracted from the target's logit: XLA would write both
    denominators = numerators.sum(axis=1)
    at_targets = jnp.take_along_axis(logits, targets[:, None], axis=1)[:, 0]
    return jnp.log(denominators) - (at_targets - top), (numerators, denominators)


def _minus_target(softmax: tuple[Array, Array], targets: Array) -> Array:
    """The gradient of the nats with respect to the logits, `(n, V)`: softmax minus 1 at each target."""
    numerators, denominators = softmax
    return numerators * (1.0 / denominators)[:, None] - (targets[:, None] == jnp.arange(numerators.shape[1]))


def add_tail(nats: Array, hidden: Array, tail: Weights, targets: Array, member: Array, low: str) -> Array:
    """Add the cost within a cluster to the nats `(N,)` of its members; see `dispatch.adaptive_cross_entropy`."""
    if not len(nats):
        return nats
    return nats + on_each_device(partial(_tail_nats, low), (0, None, 0, 0), 0, hidden, tail, targets, member)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _tail_nats(low: str, hidden: Array, weights: Weights, targets: Array, member: Array) -> Array:
    return _tail_forward(low, hidden, weights, targets, member)[0]


def _tail_forward(low: str, hidden: Array, weights: Weights, targets: Array, member: Array) -> Any:
    """Nats of each member within its cluster, 0 for other tokens, `(N,)`, and arrays for the backward pass."""
    projection, kernel, bias = weights
    rows, places, pieces = _pieces(member, kernel.shape[1])

    def piece(number: Array, nats: Array) -> Array:
        place = lax.dynamic_slice(places, (number * rows,), (rows,))
        narrow = product(_at(hidden, place), projection, low)
        cost, _ = _softmax_cost(narrow, kernel, bias, _at(targets, place), low)
        return nats.at[place].set(cost, mode="drop")

    nats = lax.fori_loop(0, pieces, piece, jnp.zeros(len(hidden), hidden.dtype))
    return nats, (hidden, weights, targets, member)


def _tail_backward(low: str, saved: Any, dnats: Array) -> tuple[Any, ...]:
    """Gradients of hidden and weights; the logits of each piece are computed again."""
    hidden, weights, targets, member = saved
    projection, kernel, bias = weights
    rows, places, pieces = _pieces(member, kernel.shape[1])

    def piece(number: Array, sums: Any) -> Any:
        dhidden, dprojection, dkernel, dbias = sums
        place = lax.dynamic_slice(places, (number * rows,), (rows,))
        own = _at(hidden, place)
        scale = jnp.where(place < len(dnats), _at(dnats, place), 0.0)  # rows of padding have no gradient
        narrow = product(own, projection, low)  # [P, d]
        ids = _at(targets, place)
        _, softmax = _softmax_cost(narrow, kernel, bias, ids, low)
        dlogits = _minus_target(softmax, ids) * scale[:, None]
        dnarrow = product(dlogits, kernel.T, low)
        return (
            dhidden.at[place].add(product(dnarrow, projection.T, low), mode="drop"),
            dprojection + product(own.T, dnarrow, low),
            dkernel + product(narrow.T, dlogits, low),
            dbias + dlogits.astype(low).sum(axis=0, dtype=bias.dtype),
        )

    dhidden, *dweights = lax.fori_loop(0, pieces, piece, tuple(jnp.zeros_like(a) for a in (hidden, *weights)))
    return dhidden, tuple(dweights), None, None


_tail_nats.defvjp(_tail_forward, _tail_backward)


def _pieces(member: Array, words: int) -> tuple[int, Array, Array]:
    """Rows per piece; indices of the members, padded with `N` to a multiple of the rows; number of pieces needed."""
    count = len(member)
    rows = rows_per_piece(min(ROWS, count), words)
    places = jnp.nonzero(member, size=-(-count // rows) * rows, fill_value=count)[0]
    return rows, places, (jnp.sum(member) + rows - 1) // rows


def _at(values: Array, place: Array) -> Array:
    """Rows of an array; the last row for an index beyond the end, whose result is dropped."""
    return jnp.take(values, place, axis=0, mode="clip")
