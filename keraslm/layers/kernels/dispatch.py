"""The public operations, which call the implementation of the current backend.

Shapes: `B` rows, `T` steps, `D` inputs, `H` units, `V` vocabulary, `N = B * T` tokens.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from itertools import pairwise
from types import ModuleType
from typing import Any

import keras
from keras import ops


def lstm(
    x: Any,
    h0: Any,
    c0: Any,
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any,
    mask: Any = None,
    keep: Any = None,
    product_dtype: str = "float32",
) -> tuple[Any, Any, Any]:
    """Run an LSTM over a window; `StatefulLSTM` states the formula.

    A backend's `lstm(x, h0, c0, weights, h_factor, c_factor, low)` has time-first arguments and results: x `(T, B, D)`,
    the factors on h and c before each step, `(T, B, H)` or `(T, B, 1)` or None, and the type of the products' operands.

    Args:
        x: inputs, `(B, T, D)`.
        h0, c0: state before the window, `(B, H)`.
        kernel, recurrent_kernel, bias: `(D, 4H)`, `(H, 4H)`, `(4H,)`; gates i, f, g, o.
        mask: factor on `h` wherever it enters the recurrence, `(B, H)`: recurrent dropout. Not differentiated.
        keep: `(B, T)`, 0 where a row's state is set to zero before that step, and 1 elsewhere.
        product_dtype: "float32", or "bfloat16": operands and result of every matrix product are rounded to bfloat16,
            sums inside it are float32. All else stays float32.

    Returns:
        outputs `(B, T, H)`, and `h` and `c` after the last step, `(B, H)` each.
    """
    x = ops.transpose(x, (1, 0, 2))
    h_factor = c_factor = None if keep is None else ops.transpose(keep)[:, :, None]
    if mask is not None:
        h_factor = ops.broadcast_to(mask, (ops.shape(x)[0], *mask.shape)) if keep is None else mask * c_factor
    weights = _tensors(kernel, recurrent_kernel, bias)
    h, *last = _backend("recurrent").lstm(x, h0, c0, weights, h_factor, c_factor, _low(product_dtype, x))
    return ops.transpose(h, (1, 0, 2)), *last


def scan(
    step: Callable[[tuple[Any, ...], Any], tuple[Any, ...]], state: tuple[Any, ...], inputs: Any, keep: Any = None
) -> tuple[Any, tuple[Any, ...]]:
    """Run a step function over a window in the backend's own loop, differentiated by the backend.

    Args:
        step: maps the state before a step, `(B, H)` each, and the input of that step, `(B, D)`, to the state after it.
        state: the state before the window.
        inputs: `(B, T, D)`.
        keep: as in `lstm`.

    Returns:
        the first tensor of the state after each step, `(B, T, H)`, and the state after the last step.
    """

    def kept_step(state: tuple[Any, ...], x: Any, kept: Any) -> tuple[Any, ...]:
        return tuple(step(state if kept is None else tuple(value * kept for value in state), x))

    return _backend("recurrent").scan(kept_step, tuple(state), inputs, None if keep is None else keep[:, :, None])


def cross_entropy(
    hidden: Any, kernel: Any, bias: Any, targets: Any, product_dtype: str = "float32", transposed: bool = False
) -> Any:
    """Compute the negative log-likelihood of each target under `softmax(hidden @ kernel + bias)`.

    It needs memory for one array of `N x V` numbers, where automatic differentiation needs three, and only for pieces
    of it beyond `kernels.BUDGET`. A backend's `cross_entropy(hidden, kernel, bias, targets, low, transposed)` has
    arguments `(N, H)` and int32 `(N,)`.

    Args:
        hidden: `(B, T, H)`.
        kernel, bias: weights of the projection, `(H, V)` and `(V,)`.
        targets: token ids, `(B, T)`, integers below V.
        product_dtype: as in `lstm`; the softmax is float32.
        transposed: whether the kernel has shape `(V, H)`, as an embedding table.

    Returns:
        nats, `(B, T)`.
    """
    rows, ids, restore = _flattened(hidden, targets)
    weights = _tensors(kernel, bias)
    return restore(_backend("softmax").cross_entropy(rows, *weights, ids, _low(product_dtype, hidden), transposed))


def adaptive_cross_entropy(
    hidden: Any, head: Any, tails: Any, targets: Any, ends: tuple[int, ...], product_dtype: str = "float32"
) -> Any:
    """Compute the negative log-likelihood of each target under an adaptive softmax (Grave et al. 2017).

    The softmax of a cluster is computed for the tokens of that cluster only. A backend's
    `add_tail(nats, hidden, tail, targets, member, low)` adds the costs within a cluster to the nats `(N,)` of its
    members, which the boolean `member` `(N,)` marks.

    Args:
        hidden, targets, product_dtype: as in `cross_entropy`.
        head: kernel `(H, ends[0] + clusters)` and bias; the last entries are the clusters.
        tails: projection `(H, d)`, kernel `(d, words)` and bias `(words,)` of each cluster.
        ends: first id after the head and after each cluster.

    Returns:
        nats, `(B, T)`.
    """
    rows, ids, restore = _flattened(hidden, targets)
    backend, low = _backend("softmax"), _low(product_dtype, hidden)
    members = [(ids >= start) & (ids < end) for start, end in pairwise(ends)]
    in_head = ids
    for cluster, member in enumerate(members):
        in_head = ops.where(member, ends[0] + cluster, in_head)
    nats = backend.cross_entropy(rows, *_tensors(*head), in_head, low, False)
    for tail, start, member in zip(tails, ends, members, strict=False):
        nats = backend.add_tail(nats, rows, _tensors(*tail), ids - start, member, low)
    return restore(nats)


def product(a: Any, b: Any, product_dtype: str) -> Any:
    """Compute `a @ b` with operands of `product_dtype` and a result of the type of `a`."""
    low = _low(product_dtype, a)
    return ops.cast(ops.matmul(ops.cast(a, low), ops.cast(b, low)), a.dtype)


def describe_lstm(recurrent_dropout: float, product_dtype: str, resets: bool = False) -> str:
    """Describe the implementation of `lstm` that a training run will use; `resets`: whether texts reset the state."""
    backend, like = keras.backend.backend(), ops.zeros((0,))
    kernel = f"hand-written {backend} kernel"
    if backend == "torch":
        kernels, factors = _backend("recurrent"), resets or recurrent_dropout > 0.0
        obstacle = kernels.cudnn_obstacle(like, factors, _low(product_dtype, like))
        if not obstacle:
            kernel = "cuDNN kernel"
        elif obstacle != kernels.NO_GPU:
            kernel += f" (cuDNN {obstacle})"
    return f"{kernel}, matrix products in {product_dtype}"


def _flattened(hidden: Any, targets: Any) -> tuple[Any, Any, Callable[[Any], Any]]:
    """Hidden states `(N, H)`, int32 targets `(N,)`, and a function that restores the shape `(B, T)`."""
    time_first = keras.backend.backend() == "torch"  # the memory order of the LSTM's outputs, so that nothing is copied
    if time_first:
        hidden, targets = ops.transpose(hidden, (1, 0, 2)), ops.transpose(targets)
    # In TensorFlow's graph of `fit()`, one shape lacks the number of steps and the other that of rows.
    known = [size or other for size, other in zip(hidden.shape[:2], targets.shape, strict=True)]
    rows = ops.reshape(hidden, (math.prod(known) if all(known) else -1, hidden.shape[-1]))
    shape = ops.shape(targets)

    def restore(nats: Any) -> Any:
        nats = ops.reshape(nats, shape)
        return ops.transpose(nats) if time_first else nats

    return rows, ops.reshape(ops.cast(targets, "int32"), (-1,)), restore


def _low(product_dtype: str, x: Any) -> str:
    return "bfloat16" if product_dtype == "bfloat16" else keras.backend.standardize_dtype(x.dtype)


def _tensors(*weights: Any) -> tuple[Any, ...]:
    return tuple(map(ops.convert_to_tensor, weights))


def _backend(operations: str) -> ModuleType:
    return importlib.import_module(f"{__package__}.{operations}_{keras.backend.backend()}")
