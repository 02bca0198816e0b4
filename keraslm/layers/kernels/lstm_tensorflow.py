"""The LSTM over a window on TensorFlow: two loops, and every product that can leave them outside.

TensorFlow differentiates a loop by adding a rank-B product to the gradients of both weight matrices at every step.
Here the backward loop computes only the gradient of the gates; both weight gradients are one product over the whole
window after it.

Letters: `T` steps, `B` rows, `D` inputs, `H` units. Time comes first in every array here.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

Tensor = Any


def lstm(
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    kernel: Tensor,
    recurrent_kernel: Tensor,
    bias: Tensor,
    mask: Tensor | None = None,
    keep: Tensor | None = None,
    product_dtype: str = "float32",
) -> tuple[Tensor, Tensor, Tensor]:
    """`dispatch.lstm` for batch-first tensors of TensorFlow."""
    x = tf.transpose(x, (1, 0, 2))
    c_factor = None if keep is None else tf.cast(tf.transpose(keep), x.dtype)[:, :, None]  # [T, B, 1]
    h_factor = c_factor
    if mask is not None:
        h_factor = tf.tile(mask[None], (tf.shape(x)[0], 1, 1)) if keep is None else mask * c_factor
    low = tf.bfloat16 if product_dtype == "bfloat16" else x.dtype

    @tf.custom_gradient
    def window(x: Tensor, h0: Tensor, c0: Tensor, kernel: Tensor, recurrent_kernel: Tensor, bias: Tensor) -> Any:
        h, c, gates = _forward(x, h0, c0, kernel, recurrent_kernel, bias, h_factor, c_factor, low)

        def gradient(dh: Tensor, dh_last: Tensor, dc_last: Tensor) -> Any:
            h_before, c_before = tf.concat([h0[None], h[:-1]], 0), tf.concat([c0[None], c[:-1]], 0)
            h_before, c_before = _scaled(h_before, h_factor), _scaled(c_before, c_factor)
            dz, dh0, dc0 = _backward(
                gates, c, c_before, dh, dh_last, dc_last, recurrent_kernel, h_factor, c_factor, low
            )
            dx = _product(dz, kernel, low, transpose_b=True)
            return (
                tf.reshape(dx, tf.shape(x)),
                dh0,
                dc0,
                _product(x, dz, low, transpose_a=True),
                _product(h_before, dz, low, transpose_a=True),
                tf.reduce_sum(dz, (0, 1)),
            )

        return (h, h[-1], c[-1]), gradient

    # Values, not variables: those a function with its own gradient may not use.
    h, h_last, c_last = window(x, h0, c0, *(tf.convert_to_tensor(w) for w in (kernel, recurrent_kernel, bias)))
    return tf.transpose(h, (1, 0, 2)), h_last, c_last


def _forward(
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    kernel: Tensor,
    recurrent_kernel: Tensor,
    bias: Tensor,
    h_factor: Tensor | None,
    c_factor: Tensor | None,
    low: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """h and c after each step, `[T, B, H]`, and the values of the gates, `[T, B, 4H]`."""
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

    arrays = (_array(h0, steps), _array(c0, steps), _array(projected[0], steps))
    _, _, _, hs, cs, gates = tf.while_loop(
        lambda t, *_: t < steps, step, (0, h0, c0, *arrays), parallel_iterations=1, maximum_iterations=steps
    )
    return hs.stack(), cs.stack(), gates.stack()


def _backward(
    gates: Tensor,
    c: Tensor,
    c_before: Tensor,
    dh: Tensor,
    dh_last: Tensor,
    dc_last: Tensor,
    recurrent_kernel: Tensor,
    h_factor: Tensor | None,
    c_factor: Tensor | None,
    low: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient of z, `[T, B, 4H]`, and those of h0 and c0."""
    steps = tf.shape(gates)[0]
    recurrent = tf.cast(recurrent_kernel, low)
    i, f, g, o = tf.split(gates, 4, axis=2)
    tanh_c = tf.tanh(c)
    # All that does not depend on later steps, for the whole window at once.
    of_ifg = tf.stack([g * i * (1 - i), c_before * f * (1 - f), i * (1 - g * g)], axis=2)  # [T, B, 3, H]
    of_o, dc_dh = tanh_c * o * (1 - o), o * (1 - tanh_c * tanh_c)
    width = 3 * c.shape[2]

    def step(t: Tensor, dh_here: Tensor, dc: Tensor, dzs: Any) -> Any:
        dh_here += dh[t]
        dc += dh_here * dc_dh[t]
        dz = tf.concat([tf.reshape(of_ifg[t] * dc[:, None], (-1, width)), of_o[t] * dh_here], 1)
        dh_here = tf.cast(tf.matmul(tf.cast(dz, low), recurrent, transpose_b=True), dz.dtype)
        return t - 1, _scaled(dh_here, h_factor, t), _scaled(dc * f[t], c_factor, t), dzs.write(t, dz)

    _, dh0, dc0, dzs = tf.while_loop(
        lambda t, *_: t >= 0,
        step,
        (steps - 1, dh_last, dc_last, _array(gates[0], steps)),
        parallel_iterations=1,
        maximum_iterations=steps,
    )
    return dzs.stack(), dh0, dc0


def _array(element: Tensor, steps: Tensor) -> Any:
    return tf.TensorArray(element.dtype, size=steps, element_shape=element.shape)


def _product(a: Tensor, b: Tensor, low: Any, **transposed: bool) -> Tensor:
    """Product of matrices, the steps and rows of a window taken as one axis."""
    a, b = (tf.cast(tf.reshape(m, (-1, m.shape[-1])), low) for m in (a, b))
    return tf.cast(tf.matmul(a, b, **transposed), tf.float32 if low == tf.bfloat16 else low)


def _scaled(value: Tensor, factor: Tensor | None, t: Tensor | None = None) -> Tensor:
    if factor is None:
        return value
    return value * (factor if t is None else factor[t])
