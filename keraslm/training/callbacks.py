"""What happens around `fit()`: state resets, weights, metrics, curve, TensorBoard."""

from __future__ import annotations

import math
import time
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keraslm.config.shapes import weight_shapes
from keraslm.network.model import reset_states, stateful_layers
from keraslm.optimizers.clipped import ClippedOptimizer
from keraslm.perplexity import QUOTIENTS, TextCost
from keraslm.runs.run import Run
from keraslm.runs.weights import write_weights
from keraslm.system.atomic import writing
from keraslm.text.store import TextCounts
from keraslm.training.divergence import check_finite
from keraslm.training.progress import TOKENS_PER_SECOND, Throughput
from keraslm.training.variables import synchronise

Logs = dict[str, Any] | None


class ResetStates(keras.callbacks.Callback):
    """Start each epoch and each evaluation from a zero state; give training its state back after a validation.

    The one place where state is reset during `fit()` and `evaluate()`. Keras itself never resets recurrent state in
    `fit()`, and validation runs on the same variables as training: states and the sums of metrics. Where the optimizer
    averages the weights, validation has the averages.

    Args:
        resumed: the first epoch goes on in its middle, from the state that the model has.
    """

    def __init__(self, resumed: bool = False) -> None:
        super().__init__()
        self._resumed = resumed
        self._kept: list[tuple[keras.Variable, NDArray[Any]]] = []

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        if not self._resumed:
            reset_states(self.model)
        self._resumed = False

    def on_test_begin(self, logs: Logs = None) -> None:
        states = [variable for layer in stateful_layers(self.model) for variable in layer.state_variables]
        averages = averaged_weights(self.model)
        weights = self.model.trainable_variables if averages else []
        used = [*states, *self.model.metrics_variables, *weights]
        self._kept = [(variable, np.array(keras.ops.convert_to_numpy(variable))) for variable in used]
        reset_states(self.model)
        for variable in weights:
            variable.assign(averages[variable.path])

    def on_test_end(self, logs: Logs = None) -> None:
        self.give_back()

    def give_back(self) -> None:
        """Put back what the training had when the evaluation began."""
        for variable, value in self._kept:
            variable.assign(value)


def averaged_weights(model: keras.Model) -> dict[str, NDArray[Any]]:
    """The averages of the weights by path, where the optimizer of a model has begun to average them; else empty."""
    return model.optimizer.averaged() if isinstance(model.optimizer, ClippedOptimizer) else {}


class SaveWeights(keras.callbacks.Callback):
    """Write `weights.safetensors` of a run at each epoch's end, and `best.safetensors` where it validates best so far.

    With `keep_weights` also `weights-<epoch>.safetensors` of the last epochs. Where weights are averaged, the averages
    are written. Weights that are not finite are not written.

    Args:
        run: the run folder.
        windows: that an epoch trains on.
    """

    def __init__(self, run: Run, windows: int):
        super().__init__()
        self.run = run
        self.windows = windows

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        names = weight_shapes(self.run.config.model, self.run.tokenizer.vocab_size)
        values = averaged_weights(self.model)
        values = values or {v.path: keras.ops.convert_to_numpy(v) for v in self.model.trainable_variables}
        weights = {name: values[name] for name in names}
        check_finite(weights, self.model.optimizer, self.windows)
        write_weights(self.run.weights_path, weights)
        if self._is_best((logs or {}).get("val_perplexity")):
            write_weights(self.run.best_weights_path, weights)
        if kept := self.run.config.train.keep_weights:
            write_weights(self.run.kept_weights_path(epoch + 1), weights)
            self.run.keep_weights_from(epoch + 2 - kept)

    def _is_best(self, perplexity: float | None) -> bool:
        """Whether a validation perplexity is below that of every epoch before."""
        before = [row.get("val_perplexity") or math.inf for row in self.run.epochs()]
        return perplexity is not None and float(perplexity) < min(before, default=math.inf)


class MetricsLog(keras.callbacks.Callback):
    """Append a JSON row to `metrics.jsonl` for each epoch and, on request, every few windows.

    An epoch's row: `epoch` (from 1), `loss` (nats a window as the loss averages them, with what regularisation adds),
    `perplexity`, `val_loss`, `val_perplexity`, `learning_rate` (mean over its windows), `gradient_norm` (the same,
    before clipping), `tokens`, `seconds` (training and validation), `tokens_per_second` (training alone, without the
    first window); with a validation text also what `TextCost` makes of its perplexity: `val_perplexity_per_word`,
    `val_bits_per_character`, `val_bits_per_byte`. A window row: `epoch`, `window` (from 1), `loss` (mean over the
    windows since the row before), `gradient_norm` (of this window), `tokens_per_second` (of the epoch so far).

    Args:
        run: the run folder.
        tokens: tokens that an epoch predicts.
        throughput: the callback that counts tokens a second, earlier in the list.
        valid_counts: size of the validation text; None without one.
        resumed: `progress()` of the training that goes on; None where an epoch begins.
    """

    def __init__(
        self,
        run: Run,
        tokens: int,
        throughput: Throughput,
        valid_counts: TextCounts | None = None,
        resumed: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.run = run
        self._resumed = resumed
        self.tokens = tokens
        self.valid_counts = valid_counts
        self.throughput = throughput
        self.every = run.config.train.log_every

    def on_train_begin(self, logs: Logs = None) -> None:
        with writing(self.run.metrics_path):
            self.run.metrics_path.touch()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._epoch, self._start = epoch, time.perf_counter()
        self._seen, self._sum = 0, 0.0
        if self._resumed:
            self._start -= self._resumed["seconds"]
            self._seen, self._sum = self._resumed["seen"], self._resumed["sum"]
            self._resumed = None

    def progress(self) -> dict[str, Any]:
        """What the rest of an epoch's rows depends on, for a checkpoint."""
        return {"seconds": time.perf_counter() - self._start, "seen": self._seen, "sum": self._sum}

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        if self.every and (batch + 1) % self.every == 0:
            total = float((logs or {})["loss"]) * (batch + 1)  # Keras' logs hold the epoch's running mean
            mean = (total - self._sum) / (batch + 1 - self._seen)
            self._seen, self._sum = batch + 1, total
            row: dict[str, Any] = {"epoch": self._epoch + 1, "window": batch + 1, "loss": mean}
            synchronise(self.model)
            row["gradient_norm"] = float(self.model.optimizer.gradient_norm)
            if self.throughput.rate:
                row[TOKENS_PER_SECOND] = round(self.throughput.rate, 1)
            self._write(row)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        row: dict[str, Any] = {"epoch": epoch + 1}
        row |= {name: float(value) for name, value in (logs or {}).items()}
        if TOKENS_PER_SECOND in row:
            row[TOKENS_PER_SECOND] = round(row[TOKENS_PER_SECOND], 1)
        row |= self._quotients(row.get("val_perplexity"))
        row |= {"tokens": self.tokens, "seconds": round(time.perf_counter() - self._start, 3)}
        self._write(row)

    def _quotients(self, perplexity: float | None) -> dict[str, float]:
        counts = self.valid_counts
        if perplexity is None or counts is None or not 0.0 < perplexity < math.inf:
            return {}
        cost = TextCost(
            **vars(counts), predicted=counts.tokens, nats=counts.tokens * math.log(perplexity), oov_nats=0.0
        )
        return {f"val_{name}": getattr(cost, name) for name in QUOTIENTS[2:]}

    def _write(self, row: dict[str, Any]) -> None:
        strict = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        self.run.append(strict)


class LearningCurve(keras.callbacks.Callback):
    """Draw perplexity by epoch into `learning_curve.png` at each epoch's end; needs matplotlib.

    Args:
        run: the run folder.
    """

    def __init__(self, run: Run):
        super().__init__()
        self.run = run

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        from keraslm.runs.curve import learning_curve

        learning_curve(self.run.epochs(), self.run.path / "learning_curve.png")


class TensorBoard(keras.callbacks.Callback):
    """Write each epoch's figures as TensorBoard scalars, through tensorboardX, on any backend.

    Keras' own callback of that name imports TensorFlow whatever the backend is.

    Args:
        run: events go to the folder `tensorboard` inside it.
    """

    def __init__(self, run: Run):
        super().__init__()
        from tensorboardX import SummaryWriter

        self._epochs = run.config.train.epochs
        self._writer = SummaryWriter(str(run.path / "tensorboard"))

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        for name, value in (logs or {}).items():
            self._writer.add_scalar(name, float(value), epoch + 1)
        self._writer.flush()
        # Not at each fit()'s end: reopened in the same second, its file would be emptied.
        if epoch + 1 == self._epochs or self.model.stop_training:
            self._writer.close()
