"""An LSTM in a few lines of NumPy, in float64: what every LSTM of the toolkit is compared with."""

from __future__ import annotations

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_lstm(x, h, c, kernel, recurrent_kernel, bias):
    """Run over `x` (B, T, D) from state `h`, `c` (B, H); gates i, f, g, o. Returns outputs (B, T, H), h and c."""
    x, h, c, kernel, recurrent_kernel, bias = (
        np.asarray(a, np.float64) for a in (x, h, c, kernel, recurrent_kernel, bias)
    )
    outputs = []
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent_kernel + bias, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs, axis=1), h, c
