"""Token embeddings whose gradient can be limited to the rows of a window."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="keraslm")
class Embedding(keras.layers.Embedding):
    """`keras.layers.Embedding` with a gradient that lists only the rows that were looked up, where that helps.

    A window of 700 tokens touches at most 700 of 10,000 rows; a dense gradient is a table of zeros that is cleared,
    measured by the clipping norm and added to the weights at every step.

    TensorFlow's gradient is such a list anyway. On torch it is one when `sparse_gradient` is set, which needs an
    optimizer that can take it, such as `keraslm.optimizers.sgd.ClippedSGD`. JAX differentiates to dense arrays only.

    Attributes:
        sparse_gradient: whether torch should make a sparse gradient; set it before training. False at first.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.sparse_gradient = False

    def call(self, inputs: Any) -> Any:
        if keras.backend.backend() != "torch":
            return super().call(inputs)
        import torch

        # Time first in memory, as the LSTM wants it; batch first to the eye.
        table = keras.ops.convert_to_tensor(self.embeddings)
        ids = inputs.transpose(0, 1)
        return torch.nn.functional.embedding(ids, table, sparse=self.sparse_gradient).transpose(0, 1)
