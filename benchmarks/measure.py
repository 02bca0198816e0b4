"""The time of operations on arrays, on any backend."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np


class Measure:
    """Measures functions of arrays on the current backend, compiled as `fit()` compiles a step."""

    def __init__(self, repeats: int):
        import keras

        self.backend, self.repeats = keras.backend.backend(), repeats

    def compiled(self, function: Callable) -> Callable:
        if self.backend == "jax":
            import jax

            return jax.jit(function)
        if self.backend == "tensorflow":
            import tensorflow as tf

            return tf.function(function, jit_compile=False)
        return function

    def __call__(self, function: Callable, *arrays: np.ndarray) -> float:
        """The median milliseconds of a call."""
        import keras

        tensors = [keras.ops.convert_to_tensor(a) for a in arrays]
        call = self.compiled(function)
        return self.time(lambda: self.wait(call(*tensors)))

    def time(self, call: Callable[[], Any]) -> float:
        """The median milliseconds of a call that waits for its result; three calls are not counted."""
        times = []
        for _ in range(self.repeats + 3):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        return 1000 * statistics.median(times[3:])

    def wait(self, result: Any) -> None:
        if self.backend == "jax":
            import jax

            jax.block_until_ready(result)

    def with_gradient(self, function: Callable) -> Callable:
        """Compute the gradients of the sum of the first result with respect to all arguments."""
        from keras import ops

        if self.backend == "jax":
            import jax

            return lambda *a: jax.grad(lambda *b: ops.sum(function(*b)), tuple(range(len(a))))(*a)
        if self.backend == "tensorflow":
            import tensorflow as tf

            def gradients(*a: Any) -> Any:
                with tf.GradientTape() as tape:
                    tape.watch(a)
                    value = tf.reduce_sum(function(*a))
                return tape.gradient(value, a)

            return gradients
        import torch

        def torch_gradients(*a: Any) -> Any:
            leaves = [x.detach().requires_grad_() for x in a]
            return torch.autograd.grad(function(*leaves).sum(), leaves)

        return torch_gradients
