"""The loss of a window. Shapes: `B` rows, `T` steps, `V` vocabulary."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keraslm import replicas


def token_nats(targets: Any, predictions: Any) -> Any:
    """Return the nats of each target, `(B, T)`, from logits `(B, T, V)` or from nats `(B, T)` themselves."""
    if len(predictions.shape) == 2:
        return ops.convert_to_tensor(predictions)
    return keras.losses.sparse_categorical_crossentropy(targets, predictions, from_logits=True)


def sequence_loss(
    targets: Any,
    predictions: Any,
    weights: Any = None,
    average_across_timesteps: bool = True,
    average_across_batch: bool = True,
) -> Any:
    """Compute the weighted cross entropy of a window in nats, as `tf.contrib.seq2seq.sequence_loss` defines it.

    Args:
        targets: token ids, `(B, T)`.
        predictions: logits `(B, T, V)`, or nats of the targets `(B, T)`.
        weights: weight of each token, `(B, T)`; None means 1 everywhere.
        average_across_timesteps: divide by the weights summed over steps.
        average_across_batch: divide by the weights summed over rows.

    Returns:
        With both averages a scalar, with one of them `(B,)` or `(T,)`, with none `(B, T)`.

    Example: with uniform logits over 100 words, each token costs ln 100 = 4.605 nats. The PTB tutorial's loss of a
    window, averaged over rows and summed over 20 steps, is then 92.1.
    """
    nats = token_nats(targets, predictions)  # [B, T]
    weights = ops.ones_like(nats) if weights is None else ops.cast(weights, nats.dtype)
    nats = nats * weights
    axes = [axis for axis, average in ((1, average_across_timesteps), (0, average_across_batch)) if average]
    if not axes:
        return nats
    # As in the original, the small number avoids 0 / 0 for a row or step without weight.
    return ops.sum(nats, axis=axes) / (ops.sum(weights, axis=axes) + 1e-12)


@keras.saving.register_keras_serializable(package="keraslm")
class SequenceLoss(keras.losses.Loss):
    """`sequence_loss` for `compile()`, summed to a scalar over the axes that are not averaged.

    The default is that of Zaremba et al. 2014, summed over the steps of a window and averaged over its rows. The
    learning rates and the clipping norm of that recipe assume this scale; Keras' own mean is `num_steps` times smaller.
    The `sample_weight` of `fit()` is the weight of each token.

    If the rows of a window are divided into `shares` (`keraslm.training.rows`), its loss is the mean of theirs: a sum
    over rows is multiplied by their number.
    """

    def __init__(
        self,
        average_across_timesteps: bool = False,
        average_across_batch: bool = True,
        shares: int = 1,
        name: str = "sequence_loss",
    ):
        super().__init__(name=name, reduction="sum")
        self.shares = shares
        self.average_across_timesteps = average_across_timesteps
        self.average_across_batch = average_across_batch

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        loss = sequence_loss(y_true, y_pred, sample_weight, self.average_across_timesteps, self.average_across_batch)
        total = ops.sum(loss)
        return replicas.share_of(total if self.average_across_batch else self.shares * total)

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "average_across_timesteps": self.average_across_timesteps,
            "average_across_batch": self.average_across_batch,
            "shares": self.shares,
        }
