"""Cross entropy and the tails of an adaptive softmax on TensorFlow.

Shapes: `N` tokens, `H` units, `V` vocabulary, `n` tokens of a piece or a cluster.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keraslm.layers.kernels import rows_per_piece

Tensor = Any
Weights = tuple[Tensor, Tensor, Tensor]  # projection, kernel, bias


def cross_entropy(
    hidden: Tensor, kernel: Tensor, bias: Tensor, targets: Tensor, low: str, transposed: bool = False, most: int = 0
) -> Tensor:
    """`dispatch.cross_entropy` for `(N, H)` and `(N,)`; `most` is the largest possible N if a graph does not know N."""
    size = hidden.shape[0] or most
    rows = rows_per_piece(size, bias.shape[0]) if size else size

    @tf.custom_gradient
    def nats(hidden: Tensor, kernel: Tensor, bias: Tensor) -> Any:
        if rows == size:
            costs, dlogits = _softmax_cost(hidden, kernel, bias, targets, low, transposed)
            return costs, lambda dnats: _gradients(hidden, kernel, dlogits, dnats, low, transposed)
        pieces = [slice(start, start + rows) for start in range(0, size, rows)]

        def gradient(dnats: Tensor) -> Any:
            dhidden, dkernel, dbias = [], tf.zeros_like(kernel), tf.zeros_like(bias)
            for piece in pieces:
                # One piece after the other; otherwise TensorFlow would keep all pieces in memory at once.
                with tf.control_dependencies([dkernel]):
                    own = tf.identity(hidden[piece])
                _, dlogits = _softmax_cost(own, kernel, bias, targets[piece], low, transposed)
                of_hidden, of_kernel, of_bias = _gradients(own, kernel, dlogits, dnats[piece], low, transposed)
                dhidden.append(of_hidden)
                dkernel, dbias = dkernel + of_kernel, dbias + of_bias
            return tf.concat(dhidden, 0), dkernel, dbias

        each: list[Tensor] = []
        for piece in pieces:
            with tf.control_dependencies(each[-1:]):
                own = tf.identity(hidden[piece])
            each.append(_softmax_cost(own, kernel, bias, targets[piece], low, transposed)[0])
        return tf.concat(each, 0), gradient

    # Tensors, because a function with a custom gradient must not use variables.
    return nats(hidden, tf.convert_to_tensor(kernel), tf.convert_to_tensor(bias))


def add_tail(nats: Tensor, hidden: Tensor, tail: Weights, targets: Tensor, member: Tensor, low: str) -> Tensor:
    """Add the cost within a cluster to the nats `(N,)` of its members; see `dispatch.adaptive_cross_entropy`."""
    projection, kernel, bias = tail
    places = tf.where(member)  # [n, 1]
    own = tf.cast(tf.gather_nd(hidden, places), low)
    narrow = tf.cast(tf.matmul(own, tf.cast(projection, low)), hidden.dtype)  # [n, d]
    costs = cross_entropy(narrow, kernel, bias, tf.gather_nd(targets, places), low, most=hidden.shape[0] or 0)
    return tf.tensor_scatter_nd_add(nats, places, costs)


def _softmax_cost(
    hidden: Tensor, kernel: Tensor, bias: Tensor, ids: Tensor, low: str, transposed: bool
) -> tuple[Tensor, Tensor]:
    """Nats `(n,)`, and the gradient of their sum with respect to the logits, `(n, V)`."""
    product = tf.matmul(tf.cast(hidden, low), tf.cast(kernel, low), transpose_b=transposed)
    logits = tf.cast(product, bias.dtype) + bias
    cost = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(features=logits, labels=ids)
    return cost.loss, cost.backprop


def _gradients(hidden: Tensor, kernel: Tensor, dlogits: Tensor, dnats: Tensor, low: str, transposed: bool) -> Any:
    """Gradients of hidden, kernel and bias. The narrow sides of the products are scaled, not the array `(n, V)`."""
    wide = tf.cast(dlogits, low)
    dhidden = tf.cast(tf.matmul(wide, tf.cast(kernel, low), transpose_b=not transposed), hidden.dtype)
    scaled = tf.cast(hidden * dnats[:, None], low)
    dkernel = tf.matmul(wide, scaled, transpose_a=True) if transposed else tf.matmul(scaled, wide, transpose_a=True)
    dbias = tf.linalg.matvec(dlogits, dnats, transpose_a=True)
    return dhidden * dnats[:, None], tf.cast(dkernel, kernel.dtype), dbias
