"""The batches of an epoch as the dataset of `fit()` and `evaluate()`, and `fit()` from any batch."""

from __future__ import annotations

from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from keraslm.errors import UsageError
from keraslm.training.rows import Rows


class Batches(Protocol):
    """What an epoch trains on, in order: the windows of a stream (`keraslm.text.stream.Windows`), or other batches.

    Attributes:
        predicted: number of tokens that an epoch predicts.
        varies: whether batches have different shapes.
        lengths: steps of each batch of the epoch, `(batches,)`.
    """

    predicted: int

    @property
    def varies(self) -> bool: ...

    @property
    def lengths(self) -> NDArray[np.int64]: ...

    def __len__(self) -> int: ...

    def set_epoch(self, epoch: int) -> None:
        """Use the order of an epoch, counted from 0."""

    def example(self, index: int) -> tuple[Any, ...]:
        """Inputs, targets and, if any, weights of a batch; each array has one row per example."""


class BatchDataset(keras.utils.PyDataset):
    """The batches of an epoch in order, for `fit(shuffle=False)`.

    Args:
        batches: all batches of the epoch.
        first: the number of the first one.
        rows: the rows that this process trains in a step, and the steps of each batch. Default: all rows in one step.
    """

    def __init__(self, batches: Batches, first: int = 0, rows: Rows | None = None):
        super().__init__()
        self.batches, self._first, self._rows = batches, first, rows
        self._next = 0

    def __len__(self) -> int:
        return (len(self.batches) - self._first) * (self._rows.parts if self._rows else 1)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        number, part = divmod(index, self._rows.parts if self._rows else 1)
        number += self._first
        if index not in (0, self._next):
            raise UsageError(
                f"Batch {number} was requested, but batch {self._first + self._next} comes next. "
                "The windows of a text must stay in order: call fit(..., shuffle=False)."
            )
        self._next = index + 1
        example = self.batches.example(number)
        if self._rows is None:
            return example
        rows = self._rows

        def chosen(values: NDArray[Any]) -> NDArray[Any]:
            values = rows.of_step(values, part)
            # The strategies of TensorFlow add up a first batch, and cannot add Booleans.
            return values.view(np.uint8) if rows.devices > 1 and values.dtype == bool else values

        return tuple(keras.tree.map_structure(chosen, example))

    def source(self) -> Any:
        """The input of `fit()`: this dataset, or on TensorFlow with batches of varying shape a `tf.data.Dataset`."""
        if keras.backend.backend() != "tensorflow" or not self.batches.varies:
            return self
        import tensorflow as tf

        # Keras would infer the shapes from the first two batches, which may have the same length.
        signature = keras.tree.map_structure(
            lambda part: tf.TensorSpec((len(part), *[None] * (part.ndim - 1)), part.dtype), self[0]
        )
        made = tf.data.Dataset.from_generator(
            lambda: map(self.__getitem__, range(len(self))), output_signature=signature
        )
        return made.apply(tf.data.experimental.assert_cardinality(len(self))).prefetch(tf.data.AUTOTUNE)


def fit_from(
    model: keras.Model,
    train: Batches,
    valid: Batches | None,
    epochs: int,
    callbacks: Any,
    epoch: int = 0,
    batch: int = 0,
    rows: Rows | None = None,
) -> None:
    """Call `fit()` from any batch of any epoch: once for the rest of an interrupted epoch, once for all others.

    `epoch` is the number of finished epochs out of `epochs`, `batch` that of finished batches of the next epoch: all
    of them if only its validation is missing. `callbacks` is an `UnreadLogs`, `rows` as in `BatchDataset`.
    """
    validation = BatchDataset(valid, rows=rows) if valid else None
    model.stop_training = False

    def fit(first: int, until: int) -> None:
        callbacks.first = first
        options = {"initial_epoch": epoch, "epochs": until, "shuffle": False, "callbacks": callbacks}
        checked = validation.source() if validation else None
        model.fit(BatchDataset(train, first, rows).source(), validation_data=checked, **options)

    if batch:
        if batch == len(train):
            _finish_epoch(model, validation, callbacks, epoch)
        else:
            fit(batch, epoch + 1)
        epoch += 1
    if epoch < epochs and not model.stop_training:
        fit(0, epochs)


def _finish_epoch(model: keras.Model, validation: BatchDataset | None, callbacks: Any, epoch: int) -> None:
    """Validate and end an epoch as `fit()` does after the last batch."""
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(epoch)
    logs = {name: float(value) for name, value in model.get_metrics_result().items()}
    if validation is not None:
        found = model.evaluate(validation.source(), callbacks=callbacks, return_dict=True)
        logs |= {f"val_{name}": value for name, value in found.items()}
    callbacks.on_epoch_end(epoch, logs)
    callbacks.on_train_end(logs)
