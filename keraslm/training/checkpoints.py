"""Checkpoints around `fit()`: when one is saved, what goes into it, and how a training takes it up again."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable
from typing import Any

import keras

from keraslm.config import TrainConfig
from keraslm.errors import Interrupted
from keraslm.runs.checkpoint import Checkpoint, CheckpointStore
from keraslm.runs.run import Run
from keraslm.system.atomic import make_folder, writing
from keraslm.system.signals import StopSignals
from keraslm.training.callbacks import MetricsLog, ResetStates
from keraslm.training.dataset import WindowDataset
from keraslm.training.divergence import check_finite
from keraslm.training.variables import assign_variables, read_variables, synchronise, training_variables

Logs = dict[str, Any] | None


class SaveCheckpoints(keras.callbacks.Callback):
    """Save a checkpoint every so often, at each epoch's end, and before the process gives way to a signal.

    A signal is answered after the window that is being computed: the checkpoint is saved, and `Interrupted` leaves
    `fit()`. In a validation that is the validation's window; the training goes on with a new validation.

    Args:
        run: the run folder.
        windows: of an epoch.
        state: what every checkpoint of this training says of it: configuration, texts, versions.
        states: keeps the training's state while a validation runs.
        log: writes the run's metrics.
        signals: what the process was asked to do.

    Raises:
        Interrupted: by SIGTERM or SIGINT, with everything saved.
        NonFiniteLossError: the training has diverged; the earlier checkpoints are untouched.
        WriteError: the disk does not take a checkpoint; the earlier ones are whole.
    """

    def __init__(
        self,
        run: Run,
        windows: int,
        state: dict[str, Any],
        states: ResetStates,
        log: MetricsLog,
        signals: StopSignals,
    ):
        super().__init__()
        self.run, self.windows, self.state = run, windows, state
        self.states, self.log, self.signals = states, log, signals
        self.store = CheckpointStore(run.checkpoints_path)
        self._due = due(run.config.train)
        self._epoch, self._saved = 0, (time.monotonic(), 0)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._epoch = epoch

    def on_train_begin(self, logs: Logs = None) -> None:
        with writing(self.store.folder):
            make_folder(self.store.folder)  # the mark of a training that keeps checkpoints, before it has one
        self._saved = time.monotonic(), 0

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        since, windows = self._saved
        self._saved = since, windows + 1
        if self.signals.received or self._due(time.monotonic() - since, windows + 1):
            synchronise(self.model)
            self._save(self._epoch, batch + 1)
            self._give_way(f"after window {batch + 1} of epoch {self._epoch + 1}")

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        if self.signals.received:
            synchronise(self.model)
            self.states.give_back()
            self._save(self._epoch, self.windows)
            self._give_way(f"in the validation of epoch {self._epoch + 1}")

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._save(epoch + 1, 0)
        if epoch + 1 < self.run.config.train.epochs and not self.model.stop_training:
            self._give_way(f"after epoch {epoch + 1}")

    def _save(self, epoch: int, window: int) -> None:
        values = read_variables(training_variables(self.model))
        check_finite(values, self.model.optimizer, self.windows)
        state = {**self.state, "log": self.log.progress()}
        metrics = self.run.metrics_path.read_text(encoding="utf-8")
        with writing(self.store.folder, "The checkpoint before is untouched, and the training goes on from it."):
            self.store.save(Checkpoint(epoch, window, values, state, metrics))
        self._saved = time.monotonic(), 0

    def _give_way(self, when: str) -> None:
        signal = self.signals.received
        if signal:
            again = f"keraslm train --run {shlex.quote(str(self.run.path))}"
            raise Interrupted(f"{signal.name} {when}; everything is saved. Go on with: {again}", signal)


def due(config: TrainConfig) -> Callable[[float, int], bool]:
    """Whether a checkpoint is due, from the seconds and the windows since the last one.

    Example:
        >>> due(TrainConfig(checkpoint_windows=500))(0.0, 500)
        True
    """
    most_windows = config.checkpoint_windows or math.inf
    most_minutes = math.inf if config.checkpoint_windows else config.checkpoint_minutes or math.inf
    return lambda seconds, windows: windows >= most_windows or seconds >= 60 * most_minutes


class TakeUp(keras.callbacks.Callback):
    """Give every variable its value of a checkpoint, when the first epoch begins. Stands first in the list.

    Args:
        checkpoint: where the training goes on.
        dataset: of the training, for a model that is not built before it has seen a window.
        where: what messages call the checkpoint.

    Raises:
        RunError: the checkpoint does not fit the model.
    """

    def __init__(self, checkpoint: Checkpoint, dataset: WindowDataset, where: str):
        super().__init__()
        self._checkpoint: Checkpoint | None = checkpoint
        self._dataset, self._where = dataset, where

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        if self._checkpoint is None:
            return
        checkpoint, self._checkpoint = self._checkpoint, None
        self._build()
        assign_variables(training_variables(self.model), checkpoint.variables, self._where)
        if not checkpoint.window:  # the metrics are those of the epoch before
            self.model.reset_metrics()

    def _build(self) -> None:
        """Make the variables that come with the first window: on TensorFlow the sums of the metrics."""
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        if not any(variable.path.startswith("perplexity/") for variable in self.model.metrics_variables):
            self.model.test_on_batch(*self._dataset.example())


def fit_on(
    model: keras.Model,
    train: WindowDataset,
    valid: WindowDataset | None,
    epochs: int,
    callbacks: Any,
    epoch: int = 0,
    window: int = 0,
) -> None:
    """`fit()` from any window of any epoch.

    The rest of a broken epoch is a `fit()` of its own, over the windows that are left; whole epochs follow in another.

    Args:
        model: compiled.
        train: the training windows.
        valid: the validation windows, if there are any.
        epochs: in all.
        callbacks: a list of `keraslm.training.progress.UnreadLogs`.
        epoch: epochs that are behind.
        window: windows of the next one that are behind; all of them where only its validation is left.
    """
    model.stop_training = False
    if window == len(train):
        _close_epoch(model, valid, callbacks, epoch)
        epoch += 1
    elif window:
        callbacks.first = window
        rest = WindowDataset(train.windows, window).source()
        model.fit(
            rest, validation_data=valid, initial_epoch=epoch, epochs=epoch + 1, shuffle=False, callbacks=callbacks
        )
        callbacks.first = 0
        epoch += 1
    if epoch < epochs and not model.stop_training:
        source = train.source()
        model.fit(source, validation_data=valid, initial_epoch=epoch, epochs=epochs, shuffle=False, callbacks=callbacks)


def _close_epoch(model: keras.Model, valid: WindowDataset | None, callbacks: Any, epoch: int) -> None:
    """What `fit()` does between an epoch's last window and the next epoch."""
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(epoch)
    logs = {name: float(value) for name, value in model.get_metrics_result().items()}
    if valid is not None:
        found = model.evaluate(valid, callbacks=callbacks, return_dict=True)
        logs |= {f"val_{name}": value for name, value in found.items()}
    callbacks.on_epoch_end(epoch, logs)
    callbacks.on_train_end(logs)
