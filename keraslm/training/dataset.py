"""The windows of a stream as what `fit()` and `evaluate()` take."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keraslm.errors import UsageError
from keraslm.text.stream import Window, Windows


class WindowDataset(keras.utils.PyDataset):
    """The windows of a stream in order, one window a batch.

    The order is the text: pass `shuffle=False` to `fit()`, whose default is to shuffle. A dataset that is asked for
    windows out of order raises instead of training on a scrambled text.

    Args:
        windows: the stream, cut into windows.
        first: window to begin with; those before it are left out.

    Example:
        >>> model.fit(WindowDataset(Windows(ids, 20, 35)), shuffle=False)
    """

    def __init__(self, windows: Windows, first: int = 0):
        super().__init__()
        self.windows, self._first = windows, first
        self._next = 0

    def __len__(self) -> int:
        return len(self.windows) - self._first

    def __getitem__(self, index: int) -> tuple[Window, NDArray[np.int32]]:
        """A window for a model of `nats_model`: `((ids, targets), targets)`, int32 of shape `(B, T)` each.

        Where the stream has resets, `((ids, targets, resets), targets)`.

        Raises:
            UsageError: when the window asked for is neither the next one nor the first.
        """
        number, next_one = self._first + index, self._first + self._next
        if index not in (0, self._next):
            raise UsageError(
                f"Window {number} of the stream was asked for where window {next_one} comes next. "
                "The windows of a text must stay in order: call fit(..., shuffle=False)."
            )
        self._next = index + 1
        window = self.windows[number]
        return window, window[1]

    def source(self) -> Any:
        """What `fit()` takes: this dataset; on TensorFlow with windows of varying length one that says so.

        Keras concludes the shapes from the first two windows, which may be of one length by chance.
        """
        if keras.backend.backend() != "tensorflow" or not self.windows.varies:
            return self
        import tensorflow as tf

        signature = keras.tree.map_structure(lambda part: tf.TensorSpec((len(part), None), part.dtype), self.example())
        made = tf.data.Dataset.from_generator(
            lambda: map(self.__getitem__, range(len(self))), output_signature=signature
        )
        return made.apply(tf.data.experimental.assert_cardinality(len(self))).prefetch(tf.data.AUTOTUNE)

    def example(self) -> tuple[Window, NDArray[np.int32]]:
        """The first window, whichever comes next."""
        window = self.windows[0]
        return window, window[1]
