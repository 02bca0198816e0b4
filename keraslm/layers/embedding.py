"""Token embeddings with sparse gradients and with dropout of whole rows."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keraslm.layers.dropout import mask_like


@keras.saving.register_keras_serializable(package="keraslm")
class Embedding(keras.layers.Embedding):
    """`keras.layers.Embedding` with a sparse gradient on torch and dropout of whole rows.

    A window of 700 tokens looks up at most 700 of 10,000 rows, but a dense gradient has the size of the table. The
    gradient is always sparse on TensorFlow and always dense on JAX.

    Args:
        row_dropout: share of the rows, that is of the tokens of the vocabulary, to drop in each call in training; the
            other rows are divided by the share that is kept.

    Attributes:
        sparse_gradient: whether torch makes a sparse gradient. Set it before training, with an optimizer that accepts
            it, such as `ClippedSGD`, and not if the table is also the kernel of the softmax.

    Reference: for dropping rows, Gal and Ghahramani 2016, arXiv:1512.05287, section 4.2, and Merity, Keskar and Socher
    2018, arXiv:1708.02182, section 4.3.
    """

    def __init__(self, *args: Any, row_dropout: float = 0.0, seed: int | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.row_dropout, self.seed = row_dropout, seed
        self.seed_generator = keras.random.SeedGenerator(seed) if row_dropout else None
        self.sparse_gradient = False

    def call(self, inputs: Any, training: bool = False) -> Any:
        if keras.backend.backend() == "torch":  # time first in memory, as the LSTM needs it
            table = ops.convert_to_tensor(self.embeddings)
            looked_up = look_up(table, inputs.transpose(0, 1), self.sparse_gradient).transpose(0, 1)
        else:
            looked_up = super().call(inputs)
        if not training or self.seed_generator is None:
            return looked_up
        table = ops.convert_to_tensor(self.embeddings)
        mask = mask_like(table[:, 0], self.row_dropout, self.seed_generator, of_weights=True)  # [V]
        return looked_up * ops.take(mask, inputs, axis=0)[..., None]

    def compute_output_spec(self, inputs: Any, training: bool = False) -> Any:
        return super().compute_output_spec(inputs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "row_dropout": self.row_dropout, "seed": self.seed}


def look_up(table: Any, ids: Any, sparse: bool) -> Any:
    """Rows of a table; `sparse` requests a sparse gradient from torch."""
    if keras.backend.backend() != "torch":
        return ops.take(table, ids, axis=0)
    import torch

    return torch.nn.functional.embedding(ids, ops.convert_to_tensor(table), sparse=sparse)
