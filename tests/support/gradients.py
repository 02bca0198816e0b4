"""Gradients of a function of tensors, by the differentiation of the backend of this process."""

from __future__ import annotations

import contextlib

import keras
import numpy as np


def wide():
    """A context in which the backend computes in float64 where it is given float64."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.enable_x64(True)
    return contextlib.nullcontext()


def tensor(array, dtype=None):
    """`array` as a tensor of the backend, in its own type or another; Keras would make all floats float32."""
    array = np.asarray(array, dtype)
    match keras.backend.backend():
        case "jax":
            import jax.numpy as jnp

            return jnp.asarray(array)
        case "tensorflow":
            import tensorflow as tf

            return tf.constant(array)
        case _:
            import torch

            return torch.tensor(array)


def gradients(function, arguments):
    """Derivatives of a scalar function by each of its arguments, as arrays of NumPy."""
    match keras.backend.backend():
        case "jax":
            import jax

            found = jax.grad(function, argnums=tuple(range(len(arguments))))(*arguments)
        case "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                tape.watch(arguments)
                value = function(*arguments)
            found = [tf.convert_to_tensor(g) for g in tape.gradient(value, arguments)]
        case _:
            import torch

            arguments = [a.detach().requires_grad_() for a in arguments]
            found = [g.to_dense() for g in torch.autograd.grad(function(*arguments), arguments)]
    return [keras.ops.convert_to_numpy(g) for g in found]


def compiled(function):
    """`function` as the backend compiles it; torch runs its own as it is."""
    match keras.backend.backend():
        case "jax":
            import jax

            return jax.jit(function)
        case "tensorflow":
            import tensorflow as tf

            return tf.function(function, reduce_retracing=True)
        case _:
            return function
