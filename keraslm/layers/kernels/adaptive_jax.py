"""Adaptive softmax and cross entropy on JAX.

A compiled step has fixed shapes, and how many tokens fall into a cluster changes from window to window. So the tokens
of a cluster are moved to the front and worked through in pieces of a fixed number of rows, as many pieces as there are;
the backward pass computes each piece's logits again. Letters: `N` tokens, `H` units, `P` rows of a piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from keraslm.layers.kernels.cross_entropy_jax import cross_entropy
from keraslm.layers.kernels.pieces import rows_of_a_piece

ROWS = 32  # of a piece: few enough that a rare cluster wastes little, enough for a product to run at full rate

Tail = tuple[Array, Array, Array]  # projection, kernel, bias


def adaptive_cross_entropy(
    hidden: Array,
    head: tuple[Array, Array],
    tails: Sequence[Tail],
    targets: Array,
    ends: Sequence[int],
    product_dtype: str = "float32",
) -> Array:
    """`dispatch.adaptive_cross_entropy` for arrays of JAX."""
    low = jnp.bfloat16 if product_dtype == "bfloat16" else hidden.dtype
    flat, ids = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1).astype("int32")  # [N, H], [N]
    in_head = ids
    for cluster in range(len(tails)):
        in_head = jnp.where((ids >= ends[cluster]) & (ids < ends[cluster + 1]), ends[0] + cluster, in_head)
    nats = cross_entropy(flat[None], *head, in_head[None], product_dtype)[0]
    for tail, (start, end) in zip(tails, pairwise(ends), strict=True):
        member = (ids >= start) & (ids < end)
        nats = nats + _tail_nats(flat, *tail, ids - start, member, low)
    return nats.reshape(targets.shape)


@partial(jax.custom_vjp, nondiff_argnums=(6,))
def _tail_nats(
    hidden: Array, projection: Array, kernel: Array, bias: Array, targets: Array, member: Array, low: Any
) -> Array:
    """Nats of each member within its cluster, 0 for the others, `(N,)`."""
    return _forward(hidden, projection, kernel, bias, targets, member, low)[0]


def _forward(
    hidden: Array, projection: Array, kernel: Array, bias: Array, targets: Array, member: Array, low: Any
) -> Any:
    rows, places = _places(member, kernel.shape[1])

    def piece(number: Array, nats: Array) -> Array:
        place = lax.dynamic_slice(places, (number * rows,), (rows,))
        own = _at(targets, place)
        log_p, _, _ = _log_softmax(_at(hidden, place), projection, kernel, bias, low)
        picked = jnp.take_along_axis(log_p, own[:, None], axis=1)[:, 0]
        return nats.at[place].set(-picked, mode="drop")

    nats = lax.fori_loop(0, _pieces(member, rows), piece, jnp.zeros(len(hidden), hidden.dtype))
    return nats, (hidden, projection, kernel, bias, targets, member)


def _backward(low: Any, saved: Any, dnats: Array) -> tuple[Any, ...]:
    hidden, projection, kernel, bias, targets, member = saved
    rows, places = _places(member, kernel.shape[1])
    multiply = partial(jnp.matmul, preferred_element_type=hidden.dtype)

    def piece(number: Array, sums: Any) -> Any:
        dhidden, dprojection, dkernel, dbias = sums
        place = lax.dynamic_slice(places, (number * rows,), (rows,))
        own_hidden, own_targets = _at(hidden, place), _at(targets, place)
        scale = jnp.where(place < len(dnats), _at(dnats, place), 0.0)  # rows of padding have no gradient
        log_p, narrow, own_low = _log_softmax(own_hidden, projection, kernel, bias, low)
        one_hot = own_targets[:, None] == jnp.arange(log_p.shape[1])
        dlogits = ((jnp.exp(log_p) - one_hot) * scale[:, None]).astype(low)
        dnarrow = multiply(dlogits, kernel.astype(low).T).astype(low)  # [P, d]
        return (
            dhidden.at[place].add(multiply(dnarrow, projection.astype(low).T), mode="drop"),
            dprojection + multiply(own_low.T, dnarrow),
            dkernel + multiply(narrow.T, dlogits),
            dbias + dlogits.sum(axis=0, dtype=bias.dtype),
        )

    start = tuple(jnp.zeros_like(a) for a in (hidden, projection, kernel, bias))
    return *lax.fori_loop(0, _pieces(member, rows), piece, start), None, None


_tail_nats.defvjp(_forward, _backward)


def _places(member: Array, words: int) -> tuple[int, Array]:
    """Rows of a piece, and where the members stand, `N` behind the last of them; a multiple of the rows."""
    count = len(member)
    rows = rows_of_a_piece(min(ROWS, count), words)
    return rows, jnp.nonzero(member, size=-(-count // rows) * rows, fill_value=count)[0]


def _pieces(member: Array, rows: int) -> Array:
    return (jnp.sum(member) + rows - 1) // rows


def _at(values: Array, place: Array) -> Array:
    """Rows of an array; behind its end the last row, whose result is dropped."""
    return jnp.take(values, place, axis=0, mode="clip")


def _log_softmax(hidden: Array, projection: Array, kernel: Array, bias: Array, low: Any) -> tuple[Array, Array, Array]:
    """Log-probabilities within the cluster, `(P, words)`, and what its products took."""
    own = hidden.astype(low)
    narrow = jnp.matmul(own, projection.astype(low), preferred_element_type=hidden.dtype).astype(low)
    logits = jnp.matmul(narrow, kernel.astype(low), preferred_element_type=hidden.dtype) + bias
    return jax.nn.log_softmax(logits), narrow, own
