"""A step function over time on TensorFlow: a `while_loop`, so that one graph serves windows of any length.

Steps are read from and written to TensorArrays. A slice `inputs[t]` would do as well in the forward pass, but its
gradient is an array of the size of the whole window, made and added at every step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

Tensor = Any
State = tuple[Tensor, ...]


def scan(
    step: Callable[[State, Tensor], State], state: State, inputs: Tensor, keep: Tensor | None = None
) -> tuple[Tensor, State]:
    """`dispatch.scan` for batch-first tensors of TensorFlow."""
    steps = tf.shape(inputs)[1]
    x = _steps_of(tf.transpose(inputs, (1, 0, 2)))
    kept = None if keep is None else _steps_of(tf.transpose(keep)[:, :, None])  # [B, 1] each

    def kept_step(t: Tensor, state: State, outputs: Any) -> tuple[Tensor, State, Any]:
        if kept is not None:
            factor = kept.read(t)
            state = tuple(value * factor for value in state)
        state = tuple(step(state, x.read(t)))
        return t + 1, state, outputs.write(t, state[0])

    outputs = tf.TensorArray(state[0].dtype, size=steps, element_shape=state[0].shape)
    _, last, outputs = tf.while_loop(
        lambda t, *_: t < steps, kept_step, (0, tuple(state), outputs), parallel_iterations=1, maximum_iterations=steps
    )
    return tf.transpose(outputs.stack(), (1, 0, 2)), last


def _steps_of(value: Tensor) -> Any:
    array = tf.TensorArray(value.dtype, size=tf.shape(value)[0], element_shape=value.shape[1:])
    return array.unstack(value)
