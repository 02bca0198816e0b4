"""The test-time techniques token by token, in float64, as in their papers."""

from __future__ import annotations

import math

import numpy as np

from keraslm.runs.weights import read_weights
from tests.reference.language_model import language_model, token_nats


def outputs(run, ids):
    """Logits, hidden states and nats of each token of a text in one row, the first predicted from the end symbol."""
    weights = read_weights(run.weights_path, run.shapes())
    inputs, units = np.concatenate([[run.tokenizer.eos_id], ids[:-1]])[None], len(weights["logits/kernel"])
    hidden, _ = language_model(weights | {"logits/kernel": np.eye(units), "logits/bias": np.zeros(units)}, inputs)
    logits, _ = language_model(weights, inputs)
    return logits[0], hidden[0], token_nats(ids[None], logits)[0]


def tempered_nats(targets, logits, temperature):
    """Cost of each target (T,) under softmax(logits / temperature), logits (T, V)."""
    return token_nats(targets[None], np.asarray(logits, np.float64)[None] / temperature)[0]


def cached_nats(targets, hidden, nats, history, theta, share, contexts=None):
    """Cost of each target (T,) with the cache; nats (T,) of the network, contexts (T,) the number of its sentence."""
    found = []
    for t, target in enumerate(targets):
        seen = [i for i in range(max(0, t - history), t) if contexts is None or contexts[i] == contexts[t]]
        if not seen:
            found.append(nats[t])
            continue
        # Dividing by the largest changes no quotient.
        products = {i: float(np.dot(hidden[t].astype(np.float64), hidden[i].astype(np.float64))) for i in seen}
        highest = max(products.values())
        powers = {i: math.exp(theta * (product - highest)) for i, product in products.items()}
        cached = sum(power for i, power in powers.items() if targets[i] == target) / sum(powers.values())
        found.append(-math.log((1 - share) * math.exp(-nats[t]) + share * cached))
    return np.array(found)
