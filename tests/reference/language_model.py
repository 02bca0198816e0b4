"""The whole network and its loss in NumPy, in float64, without dropout."""

from __future__ import annotations

import numpy as np

from tests.reference.lstm import numpy_lstm


def token_nats(targets, logits):
    """Cross entropy (B, T) of targets (B, T) under logits (B, T, V), in nats."""
    logits = np.asarray(logits, np.float64)
    logits = logits - logits.max(axis=-1, keepdims=True)
    logprobs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return -np.take_along_axis(logprobs, np.asarray(targets, np.int64)[..., None], axis=-1)[..., 0]


def language_model(weights, ids, states=None):
    """Logits (B, T, V) of ids (B, T) and the new states, from named weights; zero states when none are given."""
    x = weights["embedding/embeddings"].astype(np.float64)[ids]
    layers = sum(name.endswith("/recurrent_kernel") for name in weights)
    units = weights["logits/kernel"].shape[0]
    states = states or [(np.zeros((len(ids), units)), np.zeros((len(ids), units)))] * layers
    after = []
    for number, (h, c) in enumerate(states):
        parts = (weights[f"lstm_{number}/{name}"] for name in ("kernel", "recurrent_kernel", "bias"))
        x, h, c = numpy_lstm(x, h, c, *parts)
        after.append((h, c))
    return x @ weights["logits/kernel"].astype(np.float64) + weights["logits/bias"], after
