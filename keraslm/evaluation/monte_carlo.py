"""Monte Carlo dropout: the mean of the probabilities of several passes with the training's dropout on.

A network that was trained with dropout is an average over networks without some of their units; evaluation replaces
that average by one pass with scaled weights. Here it is taken by sampling:

    p(w) = 1/N sum over n of p(w | masks n)

N rows of one batch read the same text, each with its own masks and its own state, in windows of the training's
`num_steps`, since masks that hold for a window (recurrent and locked dropout) were trained at that length. Dropout on
weights themselves (DropConnect, rows of the embedding) has one mask a window for all rows: as far as that goes the
passes are one and the same, and only the masks of rows make them differ.

Reference: Gal and Ghahramani 2016, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks",
arXiv:1512.05287, section 4.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from keraslm.evaluation.ensemble import mean_nats
from keraslm.evaluation.evaluate import load_model
from keraslm.evaluation.reader import Reader
from keraslm.network.model import reset_states


class _Stochastic(keras.Model):
    """Nats of targets with dropout as in training, whatever mode it is called in, under the whole softmax."""

    def __init__(self, network: keras.Model):
        super().__init__(name="stochastic")
        self.network = network

    def call(self, inputs: Any, training: bool = False) -> Any:
        ids, targets, *resets = inputs
        logprobs = ops.log_softmax(self.network([ids, *resets] if resets else ids, training=True))
        return -ops.take_along_axis(logprobs, targets[..., None], axis=-1)[..., 0]  # [N, T]


def monte_carlo_nats(reader: Reader, ids: NDArray[Any], passes: int, seed: int = 0) -> NDArray[np.float64]:
    """Cost of each token of a text under the mean of several stochastic passes, `(tokens,)`.

    Takes memory for N x num_steps x V logits. A run without dropout gives the plain cost.

    Args:
        reader: of the run.
        ids: the text.
        passes: N.
        seed: of the masks; the same seed gives the same cost on the same backend.
    """
    network = load_model(reader.run, passes, reader.context != "document", seed)
    model = _Stochastic(network)
    reset_states(network)
    found = []
    for window in reader.windows(ids, reader.run.config.train.num_steps):
        rows = [np.repeat(part, passes, axis=0) for part in window]
        found.append(mean_nats(np.asarray(model.predict_on_batch(rows), np.float64)))
    return np.concatenate(found)
