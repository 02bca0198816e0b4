"""What an epoch begins with, and whether another one follows: callbacks around the rows of `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keraslm.runs.run import Run
from keraslm.text.stream import Windows
from keraslm.training.schedule import averaging_since, ends_early, learning_rate_of, window_factors

Logs = dict[str, Any] | None
Log = Callable[[str], None]


class PrepareEpoch(keras.callbacks.Callback):
    """Shuffle the stream, cut the windows and set the learning rate before an epoch's first window.

    All of it follows from configuration, number of the epoch and rows of the epochs before, so that an epoch that goes
    on in its middle is prepared as it was. The optimizer is a `ClippedOptimizer`, with a table of factors where the
    rate changes within an epoch, and with averages where `nonmonotone_interval` asks for them.

    Adds to an epoch's logs `learning_rate`, the mean over its windows, and `gradient_norm`, the mean before clipping.

    Args:
        run: the run folder.
        windows: of the training text.
        log: takes a line when averaging begins.
    """

    def __init__(self, run: Run, windows: Windows, log: Log = print):
        super().__init__()
        self.run, self.windows, self.log = run, windows, log
        self._rate = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        config, optimizer = self.run.config.train, self.model.optimizer
        self.windows.set_epoch(epoch)
        rows = self.run.epochs()[:epoch]
        self._rate = learning_rate_of(config, epoch, rows)
        optimizer.learning_rate = self._rate
        optimizer.epoch_start.assign(epoch * len(self.windows))
        if config.rate_varies_within_epoch:
            factors = window_factors(config, epoch, self.windows.lengths)
            optimizer.window_factors.assign(factors)
            self._rate *= float(factors.mean())
        since = averaging_since(config.nonmonotone_interval, rows)
        if since is not None:
            optimizer.averages_from.assign(since * len(self.windows))
        if since == epoch:
            self.log(f"average   from epoch {epoch + 1} on the mean of the weights is what is validated and saved")

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if logs is not None:
            logs["learning_rate"] = self._rate
            logs["gradient_norm"] = float(self.model.optimizer.mean_norm)


class EndEarly(keras.callbacks.Callback):
    """End the training after an epoch when `early_stopping` epochs have not validated better; behind `MetricsLog`.

    Args:
        run: the run folder.
        log: takes a line about it.
    """

    def __init__(self, run: Run, log: Log = print):
        super().__init__()
        self.run, self.log = run, log

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        line = early_end(self.run)
        if line and epoch + 1 < self.run.config.train.epochs:
            self.log(line)
            self.model.stop_training = True


def early_end(run: Run) -> str:
    """A line about a run that has ended early; empty where it has not.

    Example: `"ended     early after epoch 9: none has validated better than epoch 6 (--early-stopping 3)"`.
    """
    rows, patience = run.epochs(), run.config.train.early_stopping
    if not ends_early(patience, rows):
        return ""
    best = min(rows, key=lambda row: row["val_perplexity"])
    return (
        f"ended     early after epoch {rows[-1]['epoch']}: none has validated better than epoch {best['epoch']} "
        f"(`early_stopping={patience}`)"
    )
