"""Projection and cross entropy on TensorFlow, with one array of `N x V` where autodiff keeps three.

Letters: `N` tokens, `H` units, `V` vocabulary.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keraslm.layers.kernels.pieces import rows_of_a_piece

Tensor = Any


def cross_entropy(
    hidden: Tensor,
    kernel: Tensor,
    bias: Tensor,
    targets: Tensor,
    product_dtype: str = "float32",
    transposed: bool = False,
    largest: int | None = None,
) -> Any:
    """`dispatch.cross_entropy` for tensors of TensorFlow.

    `largest` is the greatest number of tokens that there can be, for a graph that does not know how many there are.
    """
    low = tf.bfloat16 if product_dtype == "bfloat16" else hidden.dtype
    ids = tf.reshape(tf.cast(targets, tf.int32), (-1,))
    # In a graph of `fit()` the one has lost its steps, the other its rows.
    size: Any = hidden.shape[:2].merge_with(targets.shape).num_elements() or largest
    rows = rows_of_a_piece(size, bias.shape[0]) if size else None  # None: unknown, all at once

    @tf.custom_gradient
    def nats(hidden: Tensor, kernel: Tensor, bias: Tensor) -> Any:
        if rows is None or rows == size:
            whole, dlogits = _softmax_cost(hidden, kernel, bias, ids, low, transposed)
            return whole, lambda dnats: _gradients(hidden, kernel, dlogits, dnats, low, transposed)
        pieces = [slice(start, start + rows) for start in range(0, size, rows)]

        def gradient(dnats: Tensor) -> Any:
            dhidden, dkernel, dbias = [], tf.zeros_like(kernel), tf.zeros_like(bias)
            for piece in pieces:
                # One piece after the other: without this TensorFlow would start all at once, and hold them all.
                with tf.control_dependencies([dkernel]):
                    own = tf.identity(hidden[piece])
                _, dlogits = _softmax_cost(own, kernel, bias, ids[piece], low, transposed)
                of_hidden, of_kernel, of_bias = _gradients(own, kernel, dlogits, dnats[piece], low, transposed)
                dhidden.append(of_hidden)
                dkernel, dbias = dkernel + of_kernel, dbias + of_bias
            return tf.concat(dhidden, 0), dkernel, dbias

        costs: list[Tensor] = []
        for piece in pieces:
            with tf.control_dependencies(costs[-1:]):
                own = tf.identity(hidden[piece])
            costs.append(_softmax_cost(own, kernel, bias, ids[piece], low, transposed)[0])
        return tf.concat(costs, 0), gradient

    # Values, not variables: those a function with its own gradient may not use.
    weights = tf.convert_to_tensor(kernel), tf.convert_to_tensor(bias)
    return tf.reshape(nats(tf.reshape(hidden, (-1, hidden.shape[-1])), *weights), tf.shape(targets))


def _softmax_cost(
    hidden: Tensor, kernel: Tensor, bias: Tensor, ids: Tensor, low: Any, transposed: bool
) -> tuple[Tensor, Tensor]:
    """Nats `(n,)`, and the gradient of their sum by the logits, `(n, V)`: one kernel gives both."""
    product = tf.matmul(tf.cast(hidden, low), tf.cast(kernel, low), transpose_b=transposed)
    logits = tf.cast(product, bias.dtype) + bias
    cost = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(features=logits, labels=ids)
    return cost.loss, cost.backprop


def _gradients(hidden: Tensor, kernel: Tensor, dlogits: Tensor, dnats: Tensor, low: Any, transposed: bool) -> Any:
    """Of hidden, kernel and bias. The narrow sides of the products are scaled, not the array of `n x V`."""
    wide = tf.cast(dlogits, low)
    dhidden = tf.cast(tf.matmul(wide, tf.cast(kernel, low), transpose_b=not transposed), hidden.dtype)
    scaled = tf.cast(hidden * dnats[:, None], low)
    dkernel = tf.matmul(wide, scaled, transpose_a=True) if transposed else tf.matmul(scaled, wide, transpose_a=True)
    dbias = tf.linalg.matvec(dlogits, dnats, transpose_a=True)
    return dhidden * dnats[:, None], tf.cast(dkernel, kernel.dtype), dbias
