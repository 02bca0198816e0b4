"""Dynamic evaluation of a stack of LSTMs in NumPy, in float64, with gradients written by hand."""

from __future__ import annotations

import numpy as np

from tests.reference.language_model import token_nats
from tests.reference.lstm import numpy_lstm, numpy_lstm_gradients


def window_gradients(weights, ids, targets, states):
    """Nats (B, T) of a window, the gradients of their mean by name, and the states after it."""
    layers, x, after = [], weights["embedding/embeddings"][ids], []
    for number, (h, c) in enumerate(states):
        parts = [weights[f"lstm_{number}/{name}"] for name in ("kernel", "recurrent_kernel", "bias")]
        layers.append((x, h, c, *parts))
        x, *state = numpy_lstm(*layers[-1])
        after.append(tuple(state))
    logits = x @ weights["logits/kernel"] + weights["logits/bias"]
    nats = token_nats(targets, logits)
    dlogits = np.exp(logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True)))
    np.put_along_axis(dlogits, targets[..., None], np.take_along_axis(dlogits, targets[..., None], 2) - 1, 2)
    dlogits /= targets.size
    found = {"logits/kernel": np.einsum("bth,btv->hv", x, dlogits), "logits/bias": dlogits.sum(axis=(0, 1))}
    dx = dlogits @ weights["logits/kernel"].T
    for number in reversed(range(len(layers))):
        h = layers[number][1]
        dx, _, _, *own = numpy_lstm_gradients(*layers[number], dx, np.zeros_like(h), np.zeros_like(h))
        for name, value in zip(("kernel", "recurrent_kernel", "bias"), own, strict=True):
            found[f"lstm_{number}/{name}"] = value
    found["embedding/embeddings"] = np.zeros_like(weights["embedding/embeddings"])
    np.add.at(found["embedding/embeddings"], ids, dx)
    return nats, found, after


def zero_states(weights, rows):
    units = [value.shape[0] for name, value in weights.items() if name.endswith("recurrent_kernel")]
    return [(np.zeros((rows, size)), np.zeros((rows, size))) for size in units]


def statistics(weights, rows, segment):
    """The mean of squared gradients over segments of `rows` (B, tokens), by name."""
    states, count = zero_states(weights, len(rows)), (rows.shape[1] - 1) // segment
    total = {name: np.zeros(value.shape) for name, value in weights.items()}
    for start in range(0, count * segment, segment):
        window = rows[:, start : start + segment + 1]
        _, found, states = window_gradients(weights, window[:, :-1], window[:, 1:], states)
        for name in total:
            total[name] += found[name] ** 2
    return {name: value / count for name, value in total.items()}


def dynamic_nats(weights, ids, eos_id, learning_rate, decay, epsilon, segment, squares, starts=None):
    """Nats of each token of `ids`; `squares` are those of `statistics`.

    Where `starts` is true, the state before the input is zero; only at the start of a segment.
    """
    weights, states = {name: value.astype(np.float64) for name, value in weights.items()}, zero_states(weights, 1)
    trained = dict(weights)
    roots = {name: np.sqrt(squares[name]) for name in weights}
    mean = np.mean([root.mean() for root in roots.values()])
    inputs, nats = np.concatenate([[eos_id], ids[:-1]]), []
    for start in range(0, len(ids), segment):
        window = slice(start, start + segment)
        if starts is not None and starts[start]:
            states = zero_states(weights, 1)
        costs, found, states = window_gradients(weights, inputs[window][None], ids[window][None], states)
        nats.append(costs[0])
        for name, w in weights.items():
            pull = np.minimum(decay * roots[name] / mean, 1.0)
            weights[name] = w + pull * (trained[name] - w) - learning_rate * found[name] / (roots[name] + epsilon)
    return np.concatenate(nats)
