"""GRU, RNN and variants of the LSTM in NumPy, in float64.

Each runs over `x` (B, T, D) from a state of arrays (B, H) and returns outputs (B, T, H) and the last state. `mask`
(B, H) multiplies h wherever it enters a product; where `keep` (B, T) is 0 the state is zero before that step.
"""

from __future__ import annotations

import numpy as np

from tests.reference.lstm import sigmoid


def numpy_gru(x, state, weights, mask=1.0, keep=None):
    """Gates z, r, h; the reset gate acts after the product. `weights`: kernel, recurrent kernel, bias (2, 3H)."""
    kernel, recurrent, bias = weights

    def step(x, h):
        x_z, x_r, x_h = np.split(x @ kernel + bias[0], 3, axis=1)
        h_z, h_r, h_h = np.split((h * mask) @ recurrent + bias[1], 3, axis=1)
        z, r = sigmoid(x_z + h_z), sigmoid(x_r + h_r)
        return (z * h + (1 - z) * np.tanh(x_h + r * h_h),)

    return _over_time(step, x, state, keep)


def numpy_rnn(x, state, weights, mask=1.0, keep=None):
    """`weights`: kernel, recurrent kernel, bias."""
    kernel, recurrent, bias = weights
    return _over_time(lambda x, h: (np.tanh(x @ kernel + (h * mask) @ recurrent + bias),), x, state, keep)


def numpy_lstm_variant(x, state, weights, mask=1.0, keep=None, rank=0, input_gate="free"):
    """An LSTM with a Mogrifier and an input gate that is free, capped at 1 - f, or tied to 1 - f.

    `weights`: kernel, recurrent kernel, bias of i, f, g, o, or of f, g, o with a tied gate; then the matrices of all
    rounds, if any, two factors each with a rank.
    """
    kernel, recurrent, bias, *factors = weights
    matrices = [a @ b for a, b in zip(factors[::2], factors[1::2], strict=True)] if rank else factors

    def step(x, h, c):
        h = h * mask
        for number, matrix in enumerate(matrices, start=1):
            if number % 2 == 1:
                x = 2 * sigmoid(h @ matrix) * x
            else:
                h = 2 * sigmoid(x @ matrix) * h
        *i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 3 if input_gate == "tied" else 4, axis=1)
        forget = sigmoid(f)
        enters = {
            "free": lambda: sigmoid(*i),
            "capped": lambda: np.minimum(sigmoid(*i), 1 - forget),
            "tied": lambda: 1 - forget,
        }
        c = forget * c + enters[input_gate]() * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    return _over_time(step, x, state, keep)


def _over_time(step, x, state, keep):
    x, outputs = np.asarray(x, np.float64), []
    for t in range(x.shape[1]):
        if keep is not None:
            state = [value * keep[:, t, None] for value in state]
        state = step(x[:, t], *state)
        outputs.append(state[0])
    return np.stack(outputs, axis=1), list(state)
