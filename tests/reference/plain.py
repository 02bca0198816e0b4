"""The operations of `keraslm.layers.kernels` in their plain form, for the backend's own differentiation."""

from __future__ import annotations

from keras import ops

# Operators instead of `ops.matmul`, sigmoid instead of `ops.tanh`: Keras turns float64 into float32 in both.


def _tanh(x):
    return 2 * ops.sigmoid(2 * x) - 1


def plain_lstm(x, h, c, kernel, recurrent_kernel, bias, mask=None, keep=None):
    """An LSTM step by step: outputs (B, T, H), and the last h and c."""
    outputs = []
    for t in range(x.shape[1]):
        if keep is not None:
            h, c = h * keep[:, t, None], c * keep[:, t, None]
        entering = h if mask is None else h * mask
        z = x[:, t] @ kernel + entering @ recurrent_kernel + bias
        i, f, g, o = ops.split(z, 4, axis=1)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * _tanh(g)
        h = ops.sigmoid(o) * _tanh(c)
        outputs.append(h)
    return ops.stack(outputs, axis=1), h, c


def plain_cross_entropy(hidden, kernel, bias, targets):
    """Nats of each target, (B, T): projection, log-softmax, one value picked."""
    log_p = ops.log_softmax(hidden @ kernel + bias, axis=-1)
    return -ops.take_along_axis(log_p, targets[:, :, None], axis=2)[:, :, 0]
