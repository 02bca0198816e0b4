"""Token embeddings whose gradient can be limited to the rows of a window, and whose rows can be dropped for one."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keraslm.layers.masks import mask_like, seed_generator


@keras.saving.register_keras_serializable(package="keraslm")
class Embedding(keras.layers.Embedding):
    """`keras.layers.Embedding` with a gradient that lists only the rows that were looked up, where that helps.

    A window of 700 tokens touches at most 700 of 10,000 rows; a dense gradient is a table of zeros that is cleared,
    measured by the clipping norm and added to the weights at every step.

    TensorFlow's gradient is such a list anyway. On torch it is one when `sparse_gradient` is set, which needs an
    optimizer that can take it, such as `keraslm.optimizers.sgd.ClippedSGD`. JAX differentiates to dense arrays only. Of
    a table that is the kernel of the softmax too, every backend makes a dense gradient of both parts.

    Args:
        row_dropout: rate at which a row of the table, that is a token wherever it occurs, is dropped for a call in
            training; the other rows are scaled by one over the share that is kept. The mask is applied to what was
            looked up: who reads the table itself finds it whole.
        seed: of the masks.

    Attributes:
        sparse_gradient: whether torch should make a sparse gradient; set it before training. False at first.

    Reference: Gal and Ghahramani 2016, arXiv:1512.05287, section 4.2, and Merity, Keskar and Socher 2018,
    arXiv:1708.02182, section 4.3, for dropping rows.
    """

    def __init__(self, *args: Any, row_dropout: float = 0.0, seed: int | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.row_dropout, self.seed = row_dropout, seed
        self.seed_generator = seed_generator(seed, row_dropout)
        self.sparse_gradient = False

    def call(self, inputs: Any, training: bool = False) -> Any:
        looked_up = self._looked_up(inputs)
        if not training or self.seed_generator is None:
            return looked_up
        mask = mask_like(ops.convert_to_tensor(self.embeddings)[:, 0], self.row_dropout, self.seed_generator)  # [V]
        return looked_up * ops.take(mask, inputs, axis=0)[..., None]

    def _looked_up(self, inputs: Any) -> Any:
        if keras.backend.backend() != "torch":
            return super().call(inputs)
        import torch

        # Time first in memory, as the LSTM wants it; batch first to the eye.
        table = ops.convert_to_tensor(self.embeddings)
        ids = inputs.transpose(0, 1)
        return torch.nn.functional.embedding(ids, table, sparse=self.sparse_gradient).transpose(0, 1)

    def compute_output_spec(self, inputs: Any, training: bool = False) -> Any:
        return super().compute_output_spec(inputs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "row_dropout": self.row_dropout, "seed": self.seed}
