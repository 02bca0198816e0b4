"""Keep the weights at given numbers of trained words.

The number of trained words after a window is

    words of the training text * (finished epochs + share of the epoch's targets that were trained)

so an epoch counts every word of the text once, whatever the tokenizer, and although a few tokens are never a target.
The weights are kept after the window in which a number is reached.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from keraslm.runs.folder import RunFolder
from keraslm.runs.weights import digest_of, write_weights
from keraslm.training.callbacks import current_weights
from keraslm.training.dataset import Batches
from keraslm.training.divergence import check_finite
from keraslm.training.progress import Logs
from keraslm.training.variables import synchronise


def windows_at_words(
    numbers: Sequence[int], words: int, epoch: int, lengths: NDArray[np.int64]
) -> dict[int, list[int]]:
    """The numbers of trained words that an epoch reaches, by window.

    Args:
        numbers: of words.
        words: of the training text.
        epoch: counted from 0.
        lengths: steps of each window of the epoch, `(windows,)`.

    Example:
        >>> windows_at_words([10, 25, 30, 40], words=20, epoch=1, lengths=np.array([5, 5, 5, 5]))
        {0: [25], 1: [30], 3: [40]}
    """
    found: dict[int, list[int]] = {}
    ends = np.cumsum(lengths)
    total = int(ends[-1])
    for number in numbers if words else ():
        needed = -(-number * total // words) - epoch * total  # steps of this epoch, rounded up
        if 0 < needed <= total:
            found.setdefault(int(np.searchsorted(ends, needed)), []).append(number)
    return found


class SaveAtWords(keras.callbacks.Callback):
    """Keep the weights at numbers of trained words, each with a row in `metrics.jsonl`; changes nothing else.

    It must act before checkpoints are saved. A file is written before its row: after a kill, a file whose row is not in
    the checkpoint is removed, and written again when the resumed training reaches its number.

    Args:
        run: the run folder.
        numbers: of words.
        words: of the training text.
        windows: of the training.
    """

    def __init__(self, run: RunFolder, numbers: Sequence[int], words: int, windows: Batches):
        super().__init__()
        self.run, self.numbers, self.words, self.windows = run, numbers, words, windows

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._epoch = epoch
        self._due = windows_at_words(self.numbers, self.words, epoch, self.windows.lengths)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        if batch not in self._due:
            return
        synchronise(self.model)
        weights = current_weights(self.model, self.run)
        check_finite(weights, self.model.optimizer, len(self.windows))
        for number in self._due[batch]:
            write_weights(self.run.at_words_path(number), weights)
            row = {"epoch": self._epoch + 1, "window": batch + 1, "words": number, "weights": digest_of(weights)}
            self.run.append(row)
