"""The one place that chooses the implementation of an operation: by the backend of the process."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import keras


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
    """Run an LSTM over a window.

    Args:
        x: inputs, `(B, T, D)`.
        h0, c0: state before the window, `(B, H)`.
        kernel, recurrent_kernel, bias: `(D, 4H)`, `(H, 4H)`, `(4H,)`; gates i, f, g, o.
        mask: factor on `h` wherever it enters the recurrence, `(B, H)`: recurrent dropout. Not differentiated.
        keep: `(B, T)`, 0 where a row starts anew, from a zero state, before that step, and 1 elsewhere.
        product_dtype: "float32", or "bfloat16" for the operands of the matrix products. State, gates, weights and
            gradients stay float32.

    Returns:
        outputs `(B, T, H)`, and `h`, `c` after the last step, `(B, H)` each.
    """
    weights = _tensors(kernel, recurrent_kernel, bias)
    return _of_backend("lstm")(x, h0, c0, *weights, mask, keep, product_dtype)


def scan(
    step: Callable[[tuple[Any, ...], Any], tuple[Any, ...]], state: tuple[Any, ...], inputs: Any, keep: Any = None
) -> tuple[Any, tuple[Any, ...]]:
    """Run a step function over a window, in the backend's own loop and with its own differentiation.

    Args:
        step: from the state before a step, `(B, H)` each, and the input of that step, `(B, D)`, to the state after it.
        state: before the window; a tuple of tensors.
        inputs: `(B, T, D)`.
        keep: as in `lstm`.

    Returns:
        the first tensor of the state after each step, `(B, T, H)`, and the state after the last one.

    Example:
        >>> sums, _ = scan(lambda state, x: (state[0] + x,), (ops.zeros((1, 2)),), ops.ones((1, 3, 2)))
        >>> sums[0, :, 0]
        [1., 2., 3.]
    """
    return _of_backend("scan")(step, state, inputs, keep)


def cross_entropy(
    hidden: Any, kernel: Any, bias: Any, targets: Any, product_dtype: str = "float32", transposed: bool = False
) -> Any:
    """Negative log-likelihood of each target under `softmax(hidden @ kernel + bias)`.

    Args:
        hidden: `(B, T, H)`.
        kernel, bias: of the projection, `(H, V)` and `(V,)`.
        targets: token ids, `(B, T)`, integers below V.
        product_dtype: as in `lstm`; the softmax is float32.
        transposed: the kernel is given as `(V, H)`, a row a token, as an embedding table lies in memory.

    Returns:
        nats, `(B, T)`.
    """
    return _of_backend("cross_entropy")(hidden, *_tensors(kernel, bias), targets, product_dtype, transposed)


def adaptive_cross_entropy(
    hidden: Any, head: Any, tails: Any, targets: Any, ends: tuple[int, ...], product_dtype: str = "float32"
) -> Any:
    """Negative log-likelihood of each target under an adaptive softmax; a cluster is computed for its own tokens only.

    Args:
        hidden: `(B, T, H)`.
        head: kernel `(H, ends[0] + clusters)` and bias; the last entries stand for the clusters.
        tails: of each cluster its projection `(H, d)`, kernel `(d, words)` and bias `(words,)`.
        targets: token ids, `(B, T)`.
        ends: id after the head, and after each cluster.
        product_dtype: as in `lstm`; the softmax is float32.

    Returns:
        nats, `(B, T)`.
    """
    parts = [tuple(_tensors(*tail)) for tail in tails]
    return _of_backend("adaptive_cross_entropy", "adaptive")(
        hidden, tuple(_tensors(*head)), parts, targets, ends, product_dtype
    )


def describe_lstm(recurrent_dropout: float, product_dtype: str) -> str:
    """Which implementation of `lstm` a training will run, in words; why not cuDNN, where a GPU has it."""
    ours = f"{keras.backend.backend()}, our own passes"
    if keras.backend.backend() == "torch" and importlib.import_module("torch").cuda.is_available():
        if recurrent_dropout == 0.0 and product_dtype == "float32":
            ours = "torch, cuDNN"
        else:
            ours += " (cuDNN has no recurrent dropout and no float32 state beside bfloat16 products)"
    return f"{ours}, products in {product_dtype}"


def _tensors(*weights: Any) -> list[Any]:
    return [keras.ops.convert_to_tensor(w) for w in weights]


def _of_backend(operation: str, file: str = "") -> Any:
    module = importlib.import_module(f"{__package__}.{file or operation}_{keras.backend.backend()}")
    return getattr(module, operation)
