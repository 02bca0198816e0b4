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
    sizes = [weights[f"lstm_{number}/recurrent_kernel"].shape[0] for number in range(layers)]
    states = states or [(np.zeros((len(ids), units)), np.zeros((len(ids), units))) for units in sizes]
    after = []
    for number, (h, c) in enumerate(states):
        parts = (weights[f"lstm_{number}/{name}"] for name in ("kernel", "recurrent_kernel", "bias"))
        x, h, c = numpy_lstm(x, h, c, *parts)
        after.append((h, c))
    return projection({name: value.astype(np.float64) for name, value in weights.items()}, x), after


def projection(weights, hidden):
    """Logits (B, T, V) of hidden states (B, T, H): a softmax with a kernel of its own or a tied one, or a mixture."""
    kernel = weights.get("logits/kernel", weights["embedding/embeddings"].T)
    if "logits/prior_kernel" not in weights:
        return hidden @ kernel + weights["logits/bias"]
    prior = softmax(hidden @ weights["logits/prior_kernel"])  # (B, T, K)
    latents = np.tanh(hidden @ weights["logits/latent_kernel"] + weights["logits/latent_bias"])
    latents = latents.reshape(*prior.shape, len(kernel))
    return np.log(
        sum(
            prior[..., k, None] * softmax(latents[..., k, :] @ kernel + weights["logits/bias"])
            for k in range(prior.shape[-1])
        )
    )


def softmax(logits):
    return np.exp(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))
