"""Means of probabilities: ensembles of several runs, and Monte Carlo dropout, an ensemble over one run's masks.

Monte Carlo dropout: p(w) = 1/N sum over n of p(w | masks n). N rows of one batch read the same text, each with its own
masks and state, in windows of the training's `num_steps`, because recurrent and locked masks were trained at that
length. Masks of weights (DropConnect, rows of the embedding) are the same for all rows.

Reference: Gal and Ghahramani 2016, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks",
arXiv:1512.05287, section 4.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from keraslm.errors import UsageError
from keraslm.evaluation.reader import Reader, load_model
from keraslm.network.model import reset_states
from keraslm.runs.run import Run


def mean_nats(members: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cost under the mean of probabilities, `(...)`, from the nats under each of N members, `(N, ...)`."""
    return np.log(len(members)) - np.logaddexp.reduce(-members, axis=0)


def check_tokenizers(first: Run, others: Iterable[Run]) -> None:
    """Raise a UsageError unless all runs have the same tokenizer."""
    for other in others:
        if other.tokenizer.digest != first.tokenizer.digest:
            raise UsageError(
                f"`with_runs`: {other.path} has a different tokenizer than {first.path} "
                f"({other.tokenizer.vocab_size:,} and {first.tokenizer.vocab_size:,} tokens, SHA-256 "
                f"{other.tokenizer.digest[:8]} and {first.tokenizer.digest[:8]}). An ensemble needs runs with the same "
                f'tokenizer: train with `tokenizer="{first.path}/tokenizer.json"`.'
            )


def monte_carlo_nats(reader: Reader, ids: NDArray[Any], passes: int, seed: int = 0) -> NDArray[np.float64]:
    """Cost of each token of a text under the mean of N passes with dropout, `(tokens,)`.

    It needs memory for N x num_steps x V logits. The same seed gives the same cost on the same backend.
    """
    network = load_model(reader.run, passes, reader.context != "document", seed)
    model = _WithDropout(network)
    reset_states(network)
    found = []
    for window in reader.windows(ids, reader.run.config.train.num_steps):
        rows = [np.repeat(part, passes, axis=0) for part in window]
        found.append(mean_nats(np.asarray(model.predict_on_batch(rows), np.float64)))
    return np.concatenate(found)


class _WithDropout(keras.Model):
    """Nats of targets with dropout, under the full softmax."""

    def __init__(self, network: keras.Model):
        super().__init__(name="stochastic")
        self.network = network

    def call(self, inputs: Any, training: bool = False) -> Any:
        ids, targets, *resets = inputs
        logprobs = ops.log_softmax(self.network([ids, *resets] if resets else ids, training=True))
        return -ops.take_along_axis(logprobs, targets[..., None], axis=-1)[..., 0]  # [N, T]
