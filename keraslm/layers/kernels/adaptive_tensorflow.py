"""Adaptive softmax and cross entropy on TensorFlow: the one of `cross_entropy_tensorflow` for the head and each tail.

Letters: `N` tokens, `H` units, `n` tokens of a cluster, known only when it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import tensorflow as tf

from keraslm.layers.kernels.cross_entropy_tensorflow import cross_entropy

Tensor = Any
Tail = tuple[Tensor, Tensor, Tensor]  # projection, kernel, bias


def adaptive_cross_entropy(
    hidden: Tensor,
    head: tuple[Tensor, Tensor],
    tails: Sequence[Tail],
    targets: Tensor,
    ends: Sequence[int],
    product_dtype: str = "float32",
) -> Tensor:
    """`dispatch.adaptive_cross_entropy` for tensors of TensorFlow."""
    size = hidden.shape[:2].merge_with(targets.shape).num_elements()
    low = tf.bfloat16 if product_dtype == "bfloat16" else hidden.dtype
    flat, ids = tf.reshape(hidden, (-1, hidden.shape[-1])), tf.reshape(tf.cast(targets, tf.int32), (-1,))
    in_head = ids
    for cluster in range(len(tails)):
        in_head = tf.where((ids >= ends[cluster]) & (ids < ends[cluster + 1]), ends[0] + cluster, in_head)
    nats = cross_entropy(flat[None], *head, in_head[None], product_dtype, largest=size)[0]
    for (projection, kernel, bias), (start, end) in zip(tails, pairwise(ends), strict=True):
        member = tf.where((ids >= start) & (ids < end))  # [n, 1]
        own_hidden, own_ids = tf.gather_nd(flat, member), tf.gather_nd(ids, member) - start
        narrow = tf.cast(tf.matmul(tf.cast(own_hidden, low), tf.cast(projection, low)), hidden.dtype)  # [n, d]
        own = cross_entropy(narrow[None], kernel, bias, own_ids[None], product_dtype, largest=size)[0]
        nats = tf.tensor_scatter_nd_add(nats, member, own)
    return tf.reshape(nats, tf.shape(targets))
