"""Save checkpoints during `fit()`, and restore one when a training is resumed."""

from __future__ import annotations

import math
import shlex
import time
from signal import Signals
from typing import Any

import keras

from keraslm.errors import Interrupted
from keraslm.runs.checkpoint import Checkpoint, CheckpointStore
from keraslm.runs.folder import RunFolder
from keraslm.system.atomic import make_folder, writing
from keraslm.system.signals import StopSignals
from keraslm.training.callbacks import EpochWeights, MetricsLog, ResetStates
from keraslm.training.dataset import BatchDataset, Batches
from keraslm.training.devices import Devices
from keraslm.training.divergence import check_finite
from keraslm.training.progress import Logs
from keraslm.training.variables import assign_training, read_training, synchronise

AGREEMENT = 8  # windows after which processes ask each other whether to save or stop


class SaveCheckpoints(keras.callbacks.Callback):
    """Save a checkpoint at regular intervals, at the end of each epoch, and after a signal, which ends the training.

    The weights of an epoch are saved after its checkpoint. After a signal in a validation, the resumed training repeats
    the validation. Of several processes, all read the variables at the same time, and the first one writes.

    `state` is the configuration, texts and versions, for every checkpoint; `windows` is the number of windows per
    epoch.
    """

    def __init__(
        self,
        run: RunFolder,
        windows: int,
        state: dict[str, Any],
        states: ResetStates,
        metrics_log: MetricsLog,
        weights: EpochWeights,
        signals: StopSignals,
        devices: Devices,
    ):
        super().__init__()
        self.devices = devices
        self.run, self.windows, self.state = run, windows, state
        self.states, self.metrics_log, self.weights, self.signals = states, metrics_log, weights, signals
        self.store = CheckpointStore(run.checkpoints_path)
        config = run.config.train
        self._most_windows = config.checkpoint_windows or math.inf
        self._most_seconds = math.inf if config.checkpoint_windows else 60 * (config.checkpoint_minutes or math.inf)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._epoch = epoch

    def on_train_begin(self, logs: Logs = None) -> None:
        with writing(self.store.folder):
            make_folder(self.store.folder)  # shows that this training saves checkpoints, before the first one
        self._unsaved, self._saved = 0, time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._unsaved += 1
        due = time.monotonic() - self._saved >= self._most_seconds
        if self._unsaved >= self._most_windows or self._agreed(batch, due or bool(self.signals.received)):
            synchronise(self.model)
            self._save(self._epoch, batch + 1)
            self._stop_if_signaled(f"after window {batch + 1} of epoch {self._epoch + 1}")

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        if self._agreed(batch, bool(self.signals.received)):
            synchronise(self.model)
            self.states.on_test_end()
            self._save(self._epoch, self.windows)
            self._stop_if_signaled(f"in the validation of epoch {self._epoch + 1}")

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._save(epoch + 1, 0)
        self.weights.save(epoch)
        if epoch + 1 < self.run.config.train.epochs and not self.model.stop_training:
            self._stop_if_signaled(f"after epoch {epoch + 1}")

    def _agreed(self, batch: int, wanted: bool) -> bool:
        """Whether any process wants to save; several processes ask each other after every eighth window."""
        if self.devices.processes == 1:
            return wanted
        return (batch + 1) % AGREEMENT == 0 and self.devices.any(wanted)

    def _save(self, epoch: int, window: int) -> None:
        values = read_training(self.model, self.devices)
        check_finite(values, self.model.optimizer, self.windows)
        if self.devices.leads:
            state = {**self.state, "log": self.metrics_log.progress()}
            metrics = self.run.metrics_path.read_text(encoding="utf-8")
            kept = "The previous checkpoint is untouched; the training can be resumed from it."
            with writing(self.store.folder, kept):
                self.store.save(Checkpoint(epoch, window, values, state, metrics))
        self._unsaved, self._saved = 0, time.monotonic()

    def _stop_if_signaled(self, when: str) -> None:
        received = self.signals.received
        if self.devices.any(bool(received)):
            signal = received or Signals.SIGTERM  # of another process
            command = f"{self.run.COMMAND} --run {shlex.quote(str(self.run.path))}"
            raise Interrupted(f"{signal.name} {when}; everything is saved. Resume with: {command}", signal)


class RestoreCheckpoint(keras.callbacks.Callback):
    """Assign the variables of a checkpoint when the first epoch begins, before other callbacks act.

    On TensorFlow, the first of the `windows` creates the variables of the metrics. `where` is for messages.
    """

    def __init__(self, checkpoint: Checkpoint, windows: Batches, where: str, devices: Devices):
        super().__init__()
        self._checkpoint: Checkpoint | None = checkpoint
        self._windows, self._where, self._devices = windows, where, devices

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        if self._checkpoint is None:
            return
        checkpoint, self._checkpoint = self._checkpoint, None
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        if not any(variable.path.startswith("perplexity/") for variable in self.model.metrics_variables):
            self.model.test_on_batch(*BatchDataset(self._windows, rows=self._devices.rows)[0])
        assign_training(self.model, checkpoint.variables, self._where, self._devices)
        if not checkpoint.window:  # the metrics are those of the previous epoch
            self.model.reset_metrics()
