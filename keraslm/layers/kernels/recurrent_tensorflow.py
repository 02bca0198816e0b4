"""LSTM and scan on TensorFlow. Arrays of the LSTM are time first: `[T, B, H]`.

The backward pass is that of `recurrent_jax`. Loops are `tf.while_loop`, so that one graph runs windows of any length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

Tensor = Any
State = tuple[Tensor, ...]


def lstm(x: Tensor, h0: Tensor, c0: Tensor, weights: Any, h_factor: Any, c_factor: Any, low: str) -> Any:
    """`dispatch.lstm`: h after each step, `[T, B, H]`, and the last h and c."""
    factors = h_factor, c_factor

    @tf.custom_gradient
    def window(x: Tensor, h0: Tensor, c0: Tensor, kernel: Tensor, recurrent_kernel: Tensor, bias: Tensor) -> Any:
        h, c, gates, *last = _forward(x, h0, c0, (kernel, recurrent_kernel, bias), factors, low)

        def gradient(*gradients: Tensor) -> Any:
            h_before, c_before = tf.concat([h0[None], h], 0)[:-1], tf.concat([c0[None], c], 0)[:-1]
            h_before, c_before = _scaled(h_before, factors[0]), _scaled(c_before, factors[1])
            dz, dh0, dc0 = _backward(gates, c, c_before, gradients, recurrent_kernel, factors, low)
            dx = tf.reshape(_product(dz, kernel, low, transpose_b=True), tf.shape(x))
            of_weights = (_product(own, dz, low, transpose_a=True) for own in (x, h_before))
            return dx, dh0, dc0, *of_weights, tf.reduce_sum(dz, (0, 1))

        return (h, *last), gradient

    # Tensors, because a function with a custom gradient must not use variables.
    return window(x, h0, c0, *map(tf.convert_to_tensor, weights))


def _forward(x: Tensor, h0: Tensor, c0: Tensor, weights: Any, factors: Any, low: str) -> tuple[Tensor, ...]:
    """h and c after each step, `[T, B, H]`, the values of the gates, `[T, B, 4H]`, and the last h and c."""
    (kernel, recurrent_kernel, bias), (h_factor, c_factor) = weights, factors
    steps, batch = tf.shape(x)[0], tf.shape(x)[1]
    recurrent = tf.cast(recurrent_kernel, low)
    projected = tf.reshape(_product(x, kernel, low) + bias, (steps, batch, kernel.shape[1]))

    def step(t: Tensor, h: Tensor, c: Tensor, hs: Any, cs: Any, gates: Any) -> Any:
        h, c = _scaled(h, h_factor, t), _scaled(c, c_factor, t)
        z = projected[t] + tf.cast(tf.matmul(tf.cast(h, low), recurrent), x.dtype)
        i, f, g, o = tf.split(z, 4, axis=1)
        i, f, g, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g), tf.sigmoid(o)
        c = f * c + i * g
        h = o * tf.tanh(c)
        return t + 1, h, c, hs.write(t, h), cs.write(t, c), gates.write(t, tf.concat([i, f, g, o], 1))

    arrays = (_array(x.dtype, shape, steps) for shape in (h0.shape, c0.shape, (h0.shape[0], kernel.shape[1])))
    _, h, c, hs, cs, gates = _loop(lambda t, *_: t < steps, step, (0, h0, c0, *arrays), steps)
    return hs.stack(), cs.stack(), gates.stack(), h, c


def _backward(
    gates: Tensor, c: Tensor, c_before: Tensor, gradients: Any, recurrent_kernel: Tensor, factors: Any, low: str
) -> tuple[Tensor, ...]:
    """The gradient of z, `[T, B, 4H]`, and those of h0 and c0."""
    (dh, dh_last, dc_last), (h_factor, c_factor) = gradients, factors
    steps = tf.shape(gates)[0]
    recurrent = tf.cast(recurrent_kernel, low)
    i, f, g, o = tf.split(gates, 4, axis=2)
    tanh_c = tf.tanh(c)
    # Everything that does not depend on later steps, for all steps at once.
    of_ifg = tf.stack([g * i * (1 - i), c_before * f * (1 - f), i * (1 - g * g)], axis=2)  # [T, B, 3, H]
    of_o, dc_dh = tanh_c * o * (1 - o), o * (1 - tanh_c * tanh_c)

    def step(t: Tensor, dh_here: Tensor, dc: Tensor, dzs: Any) -> Any:
        dh_here += dh[t]
        dc += dh_here * dc_dh[t]
        dz = tf.concat([tf.reshape(of_ifg[t] * dc[:, None], (-1, 3 * c.shape[2])), of_o[t] * dh_here], 1)
        dh_here = tf.cast(tf.matmul(tf.cast(dz, low), recurrent, transpose_b=True), dz.dtype)
        return t - 1, _scaled(dh_here, h_factor, t), _scaled(dc * f[t], c_factor, t), dzs.write(t, dz)

    start = (steps - 1, dh_last, dc_last, _array(gates.dtype, gates.shape[1:], steps))
    _, dh0, dc0, dzs = _loop(lambda t, *_: t >= 0, step, start, steps)
    return dzs.stack(), dh0, dc0


def _loop(condition: Any, step: Any, start: tuple[Any, ...], steps: Tensor) -> Any:
    return tf.while_loop(condition, step, start, parallel_iterations=1, maximum_iterations=steps)


def _array(dtype: Any, shape: Any, steps: Tensor) -> Any:
    return tf.TensorArray(dtype, size=steps, element_shape=shape)


def _product(a: Tensor, b: Tensor, low: str, **transposed: bool) -> Tensor:
    """Product of matrices of the type of `a`, with steps and rows flattened to one axis."""
    flat = (tf.cast(tf.reshape(m, (-1, m.shape[-1])), low) for m in (a, b))
    return tf.cast(tf.matmul(*flat, **transposed), a.dtype)


def _scaled(value: Tensor, factor: Tensor | None, t: Tensor | None = None) -> Tensor:
    return value if factor is None else value * (factor if t is None else factor[t])


def scan(
    step: Callable[[State, Tensor, Any], State], state: State, inputs: Tensor, keep: Tensor | None
) -> tuple[Tensor, State]:
    """`dispatch.scan`; `keep` is `[B, T, 1]` or None."""
    # Steps are read from TensorArrays, because the gradient of a slice `inputs[t]` has the size of the window.
    steps = tf.shape(inputs)[1]
    x, kept = _unstacked(inputs), None if keep is None else _unstacked(keep)

    def with_output(t: Tensor, state: State, outputs: Any) -> tuple[Tensor, State, Any]:
        state = step(state, x.read(t), None if kept is None else kept.read(t))
        return t + 1, state, outputs.write(t, state[0])

    array = _array(state[0].dtype, state[0].shape, steps)
    _, last, outputs = _loop(lambda t, *_: t < steps, with_output, (0, state, array), steps)
    return tf.transpose(outputs.stack(), (1, 0, 2)), last


def _unstacked(value: Tensor) -> Any:
    value = tf.transpose(value, (1, 0, 2))
    return _array(value.dtype, value.shape[1:], tf.shape(value)[0]).unstack(value)
