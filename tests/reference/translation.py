"""The translation network in NumPy, in float64: one sentence at a time and one step at a time, so nothing is padded.

Shapes: `S` source tokens, `T` target tokens, `D` inputs, `E` embeddings, `H` units, `V` vocabulary.
"""

from __future__ import annotations

import numpy as np

from tests.reference.lstm import sigmoid


def lstm_step(x, h, c, kernel, recurrent_kernel, bias):
    """h and c `(H,)` after one step from an input `(D,)`; gates i, f, g, o."""
    i, f, g, o = np.split(x @ kernel + h @ recurrent_kernel + bias, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def sentence_lstm(x, h, c, weights, reverse=False):
    """Run over a sentence `(S, D)` from h and c `(H,)`: outputs `(S, H)` in the order of `x`, and the last h and c."""
    outputs = np.zeros((len(x), len(h)))
    steps = range(len(x))
    for step in reversed(steps) if reverse else steps:
        h, c = lstm_step(x[step], h, c, *weights)
        outputs[step] = h
    return outputs, h, c


def sentences_lstm(x, lengths, h, c, weights, reverse=False):
    """Run over the tokens of each sentence, `x[b, :lengths[b]]`; outputs `(B, S, H)` are 0 after them."""
    outputs, last = np.zeros((*x.shape[:2], h.shape[1])), []
    for b, length in enumerate(lengths):
        outputs[b, :length], *state = sentence_lstm(x[b, :length], h[b], c[b], weights, reverse)
        last.append(state)
    return outputs, *(np.array(part) for part in zip(*last, strict=True))


def attention_weights(h, keys, weights, attention):
    """The weight of each source token, `(S,)`, for the output h of the highest LSTM, `(H,)`, and keys `(S, H)`."""
    if attention == "bahdanau":
        scores = [weights["energy"] @ np.tanh(h @ weights["query"] + key) for key in keys]
    else:
        scores = [h @ key for key in keys]
    if attention == "scaled_luong":
        scores = [weights["scale"][0] * score for score in scores]
    powers = np.exp(np.array(scores) - max(scores))
    return powers / powers.sum()


def attention_decoder(x, keys, memory, state, weights, attention, masks=None):
    """The attentional vector after each step, `(T, H)`, the state after the last, and the weights of each, `(T, S)`.

    Args:
        x: the inputs of one sentence, `(T, E)`.
        keys, memory: `(S, H)` each, of the tokens of the source only.
        state: a, then h and c of each layer, `(H,)` each.
        weights: arrays by name, such as `kernel_0` and `combine`.
        attention: "luong", "scaled_luong" or "bahdanau".
        masks: factor on the output of each LSTM below the last, `(H,)` each, in every step.
    """
    a, *states = state
    outputs, seen = [], []
    for token in x:
        below = np.concatenate([token, a])
        for layer in range(len(states) // 2):
            cell = [weights[f"{name}_{layer}"] for name in ("kernel", "recurrent_kernel", "bias")]
            h, c = lstm_step(below, *states[2 * layer : 2 * layer + 2], *cell)
            states[2 * layer : 2 * layer + 2] = h, c
            below = h * masks[layer] if masks is not None and 2 * layer + 2 < len(states) else h
        seen.append(attention_weights(h, keys, weights, attention))
        a = np.tanh(np.concatenate([seen[-1] @ memory, h]) @ weights["combine"])
        outputs.append(a)
    return np.array(outputs), [a, *states], np.array(seen)


def smoothed_cross_entropy(logits, targets, share=0.0):
    """Cross entropy `(...)` in nats under logits `(..., V)`; each token has `share / V` of every target."""
    logits = np.asarray(logits, np.float64)
    logprobs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    wanted = (1 - share) * np.eye(logits.shape[-1])[targets] + share / logits.shape[-1]
    return -(wanted * logprobs).sum(axis=-1)


def attention_of(weights):
    """The attention that a network with these weights has."""
    names = {"decoder/energy": "bahdanau", "decoder/scale": "scaled_luong", "decoder/combine": "luong"}
    return next((kind for name, kind in names.items() if name in weights), "none")


def encode(weights, source):
    """The outputs `(S, H)` of the highest layer for one sentence, and h and c of each layer, `(H,)` each."""
    x, states, layer = weights["source_embedding/embeddings"][source], [], 0
    while f"encoder_{layer}_forward/kernel" in weights:
        found = []
        for direction in ("forward", "backward"):
            name = f"encoder_{layer}_{direction}"
            if f"{name}/kernel" in weights:
                zero = np.zeros(len(weights[f"{name}/recurrent_kernel"]))
                found.append(sentence_lstm(x, zero, zero, cell_of(weights, name), direction == "backward"))
        x, *state = (np.concatenate(parts, axis=-1) for parts in zip(*found, strict=True))
        states += state
        layer += 1
    return x, states


def translation_logits(weights, source, targets, eos):
    """Logits `(T, V)` of a translation from weights by path, such as `decoder/kernel_0`; without dropout."""
    weights = {path: np.asarray(value, np.float64) for path, value in weights.items()}
    outputs, states = encode(weights, source)
    table = weights["target_embedding/embeddings"]
    x, attention = table[np.concatenate([[eos], targets[:-1]])], attention_of(weights)
    if attention == "none":
        for layer in range(len(states) // 2):
            x, _, _ = sentence_lstm(x, *states[2 * layer : 2 * layer + 2], cell_of(weights, f"decoder_{layer}"))
    else:
        own = {path.removeprefix("decoder/"): value for path, value in weights.items()}
        state = [np.zeros(outputs.shape[1]), *states]
        x, _, _ = attention_decoder(x, outputs @ weights["keys/kernel"], outputs, state, own, attention)
    return x @ weights.get("logits/kernel", table.T) + weights["logits/bias"]


def cell_of(weights, name):
    return [weights[f"{name}/{part}"] for part in ("kernel", "recurrent_kernel", "bias")]
