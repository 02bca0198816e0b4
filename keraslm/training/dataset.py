"""The windows of a text as the dataset of `fit()` and `evaluate()`, and `fit()` from any window."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keraslm.errors import UsageError
from keraslm.text.stream import Window, Windows


class WindowDataset(keras.utils.PyDataset):
    """The windows of a text in order, one per batch, for `fit(shuffle=False)`; `first` is the number of the first."""

    def __init__(self, windows: Windows, first: int = 0):
        super().__init__()
        self.windows, self._first = windows, first
        self._next = 0

    def __len__(self) -> int:
        return len(self.windows) - self._first

    def __getitem__(self, index: int) -> tuple[Window, NDArray[np.int32]]:
        """`((ids, targets), targets)`, int32 `(B, T)` each; with resets `((ids, targets, resets), targets)`."""
        number, expected = self._first + index, self._first + self._next
        if index not in (0, self._next):
            raise UsageError(
                f"Window {number} was requested, but window {expected} comes next. "
                "The windows of a text must stay in order: call fit(..., shuffle=False)."
            )
        self._next = index + 1
        window = self.windows[number]
        return window, window[1]

    def source(self) -> Any:
        """The input of `fit()`: this dataset, or on TensorFlow with windows of varying length a `tf.data.Dataset`."""
        if keras.backend.backend() != "tensorflow" or not self.windows.varies:
            return self
        import tensorflow as tf

        # Keras would infer the shapes from the first two windows, which may have the same length.
        signature = keras.tree.map_structure(lambda part: tf.TensorSpec((len(part), None), part.dtype), self[0])
        made = tf.data.Dataset.from_generator(
            lambda: map(self.__getitem__, range(len(self))), output_signature=signature
        )
        return made.apply(tf.data.experimental.assert_cardinality(len(self))).prefetch(tf.data.AUTOTUNE)


def fit_from(
    model: keras.Model,
    train: Windows,
    valid: Windows | None,
    epochs: int,
    callbacks: Any,
    epoch: int = 0,
    window: int = 0,
) -> None:
    """Call `fit()` from any window of any epoch: once for the rest of an interrupted epoch, once for all others.

    `epoch` is the number of finished epochs out of `epochs`, `window` that of finished windows of the next epoch: all
    of them if only its validation is missing. `callbacks` is an `UnreadLogs`.
    """
    validation = WindowDataset(valid) if valid else None
    model.stop_training = False

    def fit(first: int, until: int) -> None:
        callbacks.first = first
        options = {"initial_epoch": epoch, "epochs": until, "shuffle": False, "callbacks": callbacks}
        model.fit(WindowDataset(train, first).source(), validation_data=validation, **options)

    if window:
        if window == len(train):
            _finish_epoch(model, validation, callbacks, epoch)
        else:
            fit(window, epoch + 1)
        epoch += 1
    if epoch < epochs and not model.stop_training:
        fit(0, epochs)


def _finish_epoch(model: keras.Model, validation: WindowDataset | None, callbacks: Any, epoch: int) -> None:
    """Validate and end an epoch as `fit()` does after the last window."""
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(epoch)
    logs = {name: float(value) for name, value in model.get_metrics_result().items()}
    if validation is not None:
        found = model.evaluate(validation, callbacks=callbacks, return_dict=True)
        logs |= {f"val_{name}": value for name, value in found.items()}
    callbacks.on_epoch_end(epoch, logs)
    callbacks.on_train_end(logs)
