"""Callbacks of a training run: schedule, state resets, weights, metrics, early stopping, TensorBoard."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
from numpy.typing import NDArray

from keraslm.network.model import reset_states, stateful_layers
from keraslm.optimizers.clipped import ClippedOptimizer
from keraslm.perplexity import QUOTIENTS, TextCost
from keraslm.runs.folder import RunFolder
from keraslm.runs.saving import save_weights
from keraslm.runs.weights import Weights, digest_of
from keraslm.system import Log
from keraslm.system.atomic import writing
from keraslm.text.store import TextCounts
from keraslm.training.dataset import Batches
from keraslm.training.devices import Devices
from keraslm.training.divergence import check_finite
from keraslm.training.progress import TOKENS_PER_SECOND, Logs, Throughput
from keraslm.training.schedule import averaging_since, early_stop, learning_rate_of, window_factors
from keraslm.training.variables import mean_loss, read_variables, synchronise


class PrepareEpoch(keras.callbacks.Callback):
    """Shuffle the texts, cut the batches and set the learning rate before each epoch, in the same way if it is resumed.

    Adds `learning_rate` and `gradient_norm` to the logs of an epoch, both the mean over its windows.
    """

    def __init__(self, run: RunFolder, windows: Batches, log: Log = print):
        super().__init__()
        self.run, self.windows, self.log = run, windows, log

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
        since = config.average_from - 1 if config.average_from else averaging_since(config.nonmonotone_interval, rows)
        if since is not None:
            optimizer.averages_from.assign(since * len(self.windows))
        if since == epoch:
            self.log(f"average   from epoch {epoch + 1} on, averaged weights are validated and saved")

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if logs is not None:
            logs["learning_rate"] = self._rate
            logs["gradient_norm"] = self.model.optimizer.value_of("mean_norm")


class ResetStates(keras.callbacks.Callback):
    """Start each epoch and each evaluation from a zero state, and restore the training state after a validation.

    Keras never resets states, and a validation uses the same states and metrics as the training. Averaged weights are
    validated, if there are any. `resumed`: the first epoch continues from the current state of the model.
    """

    def __init__(self, resumed: bool = False, devices: Devices | None = None) -> None:
        super().__init__()
        self._resumed, self._devices = resumed, devices or Devices()
        self._saved: list[tuple[keras.Variable, NDArray[Any], bool]] = []  # and whether each device has its own rows

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        if not self._resumed:
            reset_states(self.model)
        self._resumed = False

    def on_test_begin(self, logs: Logs = None) -> None:
        states = [variable for layer in stateful_layers(self.model) for variable in layer.state_variables]
        averages = _averaged_weights(self.model)
        weights = self.model.trainable_variables if averages else []
        changed = [(v, False) for v in (*self.model.metrics_variables, *weights)] + [(v, True) for v in states]
        self._saved = [(v, self._devices.read(v, of_rows), of_rows) for v, of_rows in changed]
        reset_states(self.model)
        for variable in weights:
            variable.assign(averages[variable.path])

    def on_test_end(self, logs: Logs = None) -> None:
        for variable, value, of_rows in self._saved:
            self._devices.assign(variable, value, of_rows)


def _averaged_weights(model: keras.Model) -> dict[str, NDArray[Any]]:
    return model.optimizer.averaged() if isinstance(model.optimizer, ClippedOptimizer) else {}


def current_weights(model: keras.Model, run: RunFolder) -> Weights:
    """The weights of a run, or their averages if averaging has begun. Within an epoch, call `synchronise` before."""
    shapes = run.shapes()
    values = read_variables({v.path: v for v in model.weights if v.path in shapes}) | _averaged_weights(model)
    return {name: values[name] for name in shapes}


class EpochWeights(keras.callbacks.Callback):
    """Hold the weights of the last epoch, or averaged weights, until they are saved; unless they are not finite.

    They are saved after the checkpoint of their epoch, from which they can be restored: whenever the process is killed,
    the files of weights agree with the metrics, or the resumed training repairs them.
    """

    weights: Weights
    digest: str

    def __init__(self, run: RunFolder, windows: int):
        super().__init__()
        self.run, self.windows = run, windows

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self.weights = current_weights(self.model, self.run)
        check_finite(self.weights, self.model.optimizer, self.windows)
        self.digest = digest_of(self.weights)

    def save(self, epoch: int) -> None:
        """Save the weights of an epoch, counted from 0."""
        save_weights(self.run, epoch + 1, self.weights)


class MetricsLog(keras.callbacks.Callback):
    """Append a row to `metrics.jsonl` for each epoch and every `log_every` windows; see `docs/reference/run-folder.md`.

    `tokens` is the number of tokens that an epoch predicts, `valid_counts` the size of the validation text.
    """

    def __init__(
        self,
        run: RunFolder,
        tokens: int,
        throughput: Throughput,
        valid_counts: TextCounts | None = None,
        weights: EpochWeights | None = None,
    ):
        super().__init__()
        self.run, self.tokens, self.throughput, self.valid_counts = run, tokens, throughput, valid_counts
        self.weights = weights
        self.resumed: dict[str, Any] | None = None  # `progress()` of an interrupted epoch that is resumed

    def on_train_begin(self, logs: Logs = None) -> None:
        with writing(self.run.metrics_path):
            self.run.metrics_path.touch()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        before, self.resumed = self.resumed or {"seconds": 0.0, "seen": 0, "sum": 0.0}, None
        self._epoch, self._start = epoch, time.perf_counter() - before["seconds"]
        self._seen, self._sum = before["seen"], before["sum"]

    def progress(self) -> dict[str, Any]:
        """The state of the epoch, for a checkpoint."""
        return {"seconds": time.perf_counter() - self._start, "seen": self._seen, "sum": self._sum}

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        every = self.run.config.train.log_every
        if every and (batch + 1) % every == 0:
            synchronise(self.model)
            total = mean_loss(self.model) * (batch + 1)  # of the epoch so far
            mean = (total - self._sum) / (batch + 1 - self._seen)
            self._seen, self._sum = batch + 1, total
            row: dict[str, Any] = {"epoch": self._epoch + 1, "window": batch + 1, "loss": mean}
            row["gradient_norm"] = self.model.optimizer.value_of("gradient_norm")
            if self.throughput.rate:
                row[TOKENS_PER_SECOND] = round(self.throughput.rate, 1)
            self._write(row)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        row: dict[str, Any] = {"epoch": epoch + 1}
        row |= {name: float(value) for name, value in (logs or {}).items()}
        if TOKENS_PER_SECOND in row:
            row[TOKENS_PER_SECOND] = round(row[TOKENS_PER_SECOND], 1)
        if (counts := self.valid_counts) and "val_perplexity" in row:
            nats = counts.tokens * math.log(row["val_perplexity"])
            cost = TextCost(**vars(counts), predicted=counts.tokens, nats=nats)
            row |= {f"val_{name}": getattr(cost, name) for name in QUOTIENTS[3:]}
        row |= {"tokens": self.tokens, "seconds": round(time.perf_counter() - self._start, 3)}
        if self.weights:
            row["weights"] = self.weights.digest
        self._write(row)

    def _write(self, row: dict[str, Any]) -> None:
        # JSON has no NaN or infinity.
        self.run.append({k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()})


class StopEarly(keras.callbacks.Callback):
    """Stop after `early_stopping` epochs without a better validation. Needs the rows that `MetricsLog` writes."""

    def __init__(self, run: RunFolder, log: Log = print):
        super().__init__()
        self.run, self.log = run, log

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        line = early_stop(self.run.config.train.early_stopping, self.run.epochs())
        if line and epoch + 1 < self.run.config.train.epochs:
            self.log(line)
            self.model.stop_training = True


class Convenience(keras.callbacks.Callback):
    """Call a function after each epoch that a training can do without: if it fails, a line says so, and it ends.

    Args:
        what: its result, for the line.
        act: called with the epoch, from 0, its logs, and whether it is the last one.
    """

    def __init__(self, what: str, act: Callable[[int, dict[str, Any], bool], None], epochs: int, log: Log = print):
        super().__init__()
        self.what, self.epochs, self.log = what, epochs, log
        self._act: Callable[[int, dict[str, Any], bool], None] | None = act

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if self._act is None:
            return
        try:
            self._act(epoch, logs or {}, epoch + 1 == self.epochs or self.model.stop_training)
        except Exception as error:
            self._act = None
            self.log(f"          without {self.what} from epoch {epoch + 1} on: {type(error).__name__}: {error}")


class TensorBoard:
    """Writes the logs of each epoch as TensorBoard scalars; Keras' own callback imports TensorFlow on any backend."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._writer: Any = None

    def __call__(self, epoch: int, logs: dict[str, Any], is_last: bool) -> None:
        from tensorboardX import SummaryWriter

        if self._writer is None:
            self._writer = SummaryWriter(str(self._folder))
        for name, value in logs.items():
            self._writer.add_scalar(name, float(value), epoch + 1)
        self._writer.flush()
        if is_last:  # not at the end of each fit(): a file reopened within the same second would be emptied
            self._writer.close()
