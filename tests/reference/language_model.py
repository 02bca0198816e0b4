"""The network and its loss in NumPy, in float64, without dropout."""

from __future__ import annotations

import numpy as np

from tests.reference.cells import numpy_gru, numpy_lstm_variant, numpy_rnn
from tests.reference.lstm import numpy_lstm


def token_nats(targets, logits):
    """Cross entropy (B, T) of targets (B, T) under logits (B, T, V), in nats."""
    logits = np.asarray(logits, np.float64)
    logits = logits - logits.max(axis=-1, keepdims=True)
    logprobs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return -np.take_along_axis(logprobs, np.asarray(targets, np.int64)[..., None], axis=-1)[..., 0]


def language_model(weights, ids, states=None, input_gate="free", skip_connections=False):
    """Logits (B, T, V) of ids (B, T) and the new states, from named weights; zero states by default.

    A Mogrifier has full matrices here.
    """
    weights = {name: value.astype(np.float64) for name, value in weights.items()}
    x, after, outputs = weights["embedding/embeddings"][ids], [], []
    layers = sorted(name.split("/")[0] for name in weights if name.endswith("/recurrent_kernel"))
    for number, layer in enumerate(layers):
        zero = np.zeros((len(ids), len(weights[f"{layer}/recurrent_kernel"])))
        state = states[number] if states else (zero,) * (2 if layer.startswith("lstm") else 1)
        names = [f"{layer}/{name}" for name in ("kernel", "recurrent_kernel", "bias")]
        names += sorted(name for name in weights if name.startswith(f"{layer}/mogrifier"))
        parts = [weights[name] for name in names]
        if layer.startswith("lstm") and (len(parts) > 3 or input_gate != "free"):
            x, state = numpy_lstm_variant(x, state, parts, input_gate=input_gate)
        elif layer.startswith("lstm"):
            x, *state = numpy_lstm(x, *state, *parts)
        else:
            x, state = (numpy_gru if layer.startswith("gru") else numpy_rnn)(x, state, parts)
        after.append(tuple(state))
        outputs.append(x)
    return projection(weights, sum(outputs) if skip_connections else x), after


def projection(weights, hidden):
    """Logits (B, T, V) of hidden states (B, T, H): a softmax with its own or a tied kernel, or a mixture."""
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


def log_mean_exp(logprobs):
    """log(1/M * sum over m of exp(logprobs[m])), `(M, ...)` to `(...)`, in extended precision and range."""
    with np.errstate(divide="ignore"):
        return np.log(np.mean(np.exp(np.asarray(logprobs, np.longdouble)), axis=0)).astype(np.float64)
