"""What the computation of one replica needs from the others: its number, and sums over all of them.

A replica computes a part of the rows of a window with its own copy of the weights: a process on torch, a device on
TensorFlow. On JAX there is one computation for all devices, and the compiler divides it.
"""

from __future__ import annotations

import importlib
from typing import Any

import keras


def several() -> bool:
    """Whether there is more than one replica."""
    return _own() is not None


def index() -> Any:
    """The number of this replica, from 0; an integer, or a tensor within a graph of TensorFlow."""
    return 0 if (own := _own()) is None else own.index()


def total(values: list[Any]) -> list[Any]:
    """The sums of float32 scalars over all replicas, in each of them."""
    return values if (own := _own()) is None else own.total(values)


def share_of(loss: Any) -> Any:
    """The loss of this replica as Keras expects it: TensorFlow adds up those of all replicas, so that it is divided.

    Keras' own losses do the same, and its metrics multiply by the number of replicas again.
    """
    return loss if (own := _own()) is None else own.share_of(loss)


def reduced(gradients: list[Any]) -> list[Any]:
    """The gradients of the mean of the losses of all replicas, in each of them with the same bits."""
    return gradients if (own := _own()) is None else own.reduced(gradients)


def _own() -> Any:
    """The functions of this backend; None if there is one replica."""
    if keras.backend.backend() == "jax":
        return None
    module = importlib.import_module(f"keraslm.replicas.replicas_{keras.backend.backend()}")
    return module if module.count() > 1 else None
