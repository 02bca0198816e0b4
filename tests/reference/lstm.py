"""An LSTM and its gradients in NumPy, in float64."""

from __future__ import annotations

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_lstm(x, h, c, kernel, recurrent_kernel, bias, mask=None, keep=None):
    """Run over `x` (B, T, D) from state `h`, `c` (B, H); gates i, f, g, o. Returns outputs (B, T, H), h and c.

    `mask` (B, H) multiplies h wherever it enters the recurrence; where `keep` (B, T) is 0 the state is zero before that
    step.
    """
    steps, h, c = _steps(x, h, c, kernel, recurrent_kernel, bias, mask, keep)
    return np.stack([step["h"] for step in steps], axis=1), h, c


def numpy_lstm_gradients(x, h, c, kernel, recurrent_kernel, bias, dh, dh_last, dc_last, mask=None, keep=None):
    """Gradients of `sum(dh * outputs) + sum(dh_last * h) + sum(dc_last * c)` by x, h, c and the three weights.

    Backpropagation through time as in textbooks, step by step.
    """
    steps, _, _ = _steps(x, h, c, kernel, recurrent_kernel, bias, mask, keep)
    kernel, recurrent_kernel = np.asarray(kernel, np.float64), np.asarray(recurrent_kernel, np.float64)
    dx, dkernel, drecurrent = np.zeros(np.shape(x)), np.zeros_like(kernel), np.zeros_like(recurrent_kernel)
    dbias = np.zeros(np.shape(bias))
    dh_next, dc = np.asarray(dh_last, np.float64), np.asarray(dc_last, np.float64)
    for t in reversed(range(len(steps))):
        step = steps[t]
        i, f, g, o = step["gates"]
        tanh_c = np.tanh(step["c"])
        dh_here = dh_next + dh[:, t]
        dc = dc + dh_here * o * (1 - tanh_c**2)
        dz = np.concatenate(
            [
                dc * g * i * (1 - i),
                dc * step["c_before"] * f * (1 - f),
                dc * i * (1 - g**2),
                dh_here * tanh_c * o * (1 - o),
            ],
            axis=1,
        )
        dx[:, t] = dz @ kernel.T
        dkernel += step["x"].T @ dz
        drecurrent += step["h_before"].T @ dz
        dbias += dz.sum(axis=0)
        dh_next, dc = dz @ recurrent_kernel.T * step["h_factor"], dc * f * step["c_factor"]
    return dx, dh_next, dc, dkernel, drecurrent, dbias


def _steps(x, h, c, kernel, recurrent_kernel, bias, mask, keep):
    """All values of each step by name, and the last h and c."""
    x, h, c, kernel, recurrent_kernel, bias = (
        np.asarray(a, np.float64) for a in (x, h, c, kernel, recurrent_kernel, bias)
    )
    steps = []
    for t in range(x.shape[1]):
        c_factor = np.ones((len(x), 1)) if keep is None else np.asarray(keep, np.float64)[:, t, None]
        h_factor = c_factor if mask is None else c_factor * mask
        h, c = h * h_factor, c * c_factor
        i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent_kernel + bias, 4, axis=-1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        before = {"h_before": h, "c_before": c, "h_factor": h_factor, "c_factor": c_factor}
        c = f * c + i * g
        h = o * np.tanh(c)
        steps.append({"x": x[:, t], "gates": (i, f, g, o), "h": h, "c": c, **before})
    return steps, h, c
