"""Fit a model into a run folder: from its start, or from the checkpoint of a run that is resumed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import keras

from keraslm.config import Sections
from keraslm.runs.checkpoint import Checkpoint
from keraslm.runs.create import update_config
from keraslm.runs.files import CURVE, TENSORBOARD
from keraslm.runs.folder import RunFolder
from keraslm.runs.metrics import learning_curve
from keraslm.runs.resume import PreviousRun, environment
from keraslm.system import Log
from keraslm.system.signals import StopSignals
from keraslm.text.store import TextCounts
from keraslm.training.callbacks import (
    Convenience,
    EpochWeights,
    MetricsLog,
    PrepareEpoch,
    ResetStates,
    StopEarly,
    TensorBoard,
)
from keraslm.training.checkpoints import RestoreCheckpoint, SaveCheckpoints
from keraslm.training.dataset import Batches, fit_from
from keraslm.training.devices import Devices
from keraslm.training.divergence import NoteGuessing, StopOnNonFiniteLoss
from keraslm.training.progress import Progress, Throughput, UnreadLogs
from keraslm.training.schedule import early_stop
from keraslm.training.validation import SecondValidation

R = TypeVar("R", bound=RunFolder)


class Corpus(Protocol):
    """The encoded texts of a training run.

    Attributes:
        train: batches of the training text.
        valid: batches of the validation text, if there is one.
        valid_counts: sizes of the validation text, for its cost per word and character; None if they are unknown.
        fingerprints: `keraslm.text.store.fingerprint` of each text, by which a resumed training recognises it.
    """

    @property
    def train(self) -> Batches: ...

    @property
    def valid(self) -> Batches | None: ...

    @property
    def valid_counts(self) -> TextCounts | None: ...

    @property
    def fingerprints(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Extras:
    """What a training shows and does besides filling its run folder.

    Attributes:
        tensorboard: whether to write TensorBoard events.
        verbose: as in `fit()`; `"auto"` is `default_verbosity`.
        log: receives lines of progress.
        callbacks: act before the logs of an epoch are written and before checkpoints are saved.
        also_valid: batches of a second validation text.
    """

    tensorboard: bool = False
    verbose: int | str = "auto"
    log: Log = print
    callbacks: Sequence[keras.callbacks.Callback] = ()
    also_valid: Batches | None = None

    @property
    def verbosity(self) -> int:
        return default_verbosity() if self.verbose == "auto" else int(self.verbose)


def resume_run(
    previous: PreviousRun[R], config: Sections, corpus: Corpus, files: tuple[str, ...], log: Log, devices: int = 1
) -> R:
    """Restore the files of a run to its checkpoint, if the texts are the same; `devices` is their number."""
    backend = keras.backend.backend()
    previous.check_texts(corpus.fingerprints)
    run = update_config(previous.run, config, backend, files)
    previous.restore_files(run, log)
    log(f"run       {run.path} on {backend}, resuming after {previous.checkpoint.position}")
    if changed := previous.changed_environment(environment(backend)):
        log(f"          the result may differ in the last bits: {changed}")
    if (before := previous.checkpoint.state["surroundings"].get("devices", 1)) != devices:
        log(f"          the rows of a window are on {devices} devices now, not {before}; dropout draws other masks")
    return run


def finished(run: RunFolder, checkpoint: Checkpoint) -> str:
    """A line that explains why nothing is left to train; else empty."""
    if checkpoint.epoch >= run.config.train.epochs:
        return f"          all {checkpoint.epoch} epochs are finished; raise `epochs` to train further"
    return "" if checkpoint.window else early_stop(run.config.train.early_stopping, run.epochs())


def fit_run(
    run: RunFolder,
    model: keras.Model,
    corpus: Corpus,
    checkpoint: Checkpoint | None = None,
    extras: Extras = Extras(),
    devices: Devices | None = None,
) -> None:
    """Train a compiled model to the end of its configuration, with everything that a run folder holds.

    Args:
        run: its folder, created or restored, and locked.
        model: compiled with a `ClippedOptimizer`, and with the metric `perplexity`.
        corpus: the texts.
        checkpoint: where the training is resumed.
        extras: what else it shows and does.
        devices: on which the model was built. Default: one.

    Raises:
        NonFiniteLossError: the training diverged.
        WriteError: the run folder cannot be written.
        Interrupted: SIGTERM or SIGINT; a checkpoint was saved.
    """
    devices = devices or Devices()
    with StopSignals() as signals:
        callbacks = run_callbacks(run, corpus, signals, checkpoint, extras, devices)
        steps = {"epochs": run.config.train.epochs, "steps": len(corpus.train)}
        listed = UnreadLogs(callbacks, add_history=True, model=model, verbose=extras.verbosity, **steps)
        listed.parts = devices.rows.parts if devices.rows else 1
        position = (checkpoint.epoch, checkpoint.window) if checkpoint else (0, 0)
        fit_from(model, corpus.train, corpus.valid, run.config.train.epochs, listed, *position, devices.rows)


def default_verbosity() -> int:
    """1, a progress bar, on a terminal that can show it; else 2, one line per epoch."""
    return 1 if sys.stdout.isatty() and "utf" in sys.stdout.encoding.lower() else 2  # the bar is no ASCII


def run_callbacks(
    run: RunFolder,
    corpus: Corpus,
    signals: StopSignals,
    checkpoint: Checkpoint | None = None,
    extras: Extras = Extras(verbose=0),
    devices: Devices | None = None,
) -> list[keras.callbacks.Callback]:
    """The callbacks of a training run, in the order in which they must act."""
    devices = devices or Devices()
    windows, log = corpus.train, extras.log
    throughput = Throughput(windows.predicted / len(windows))
    states = ResetStates(bool(checkpoint and checkpoint.window), devices)
    weights = EpochWeights(run, len(windows))
    metrics_log = MetricsLog(run, windows.predicted, throughput, corpus.valid_counts, weights)
    state: dict[str, Any] = {"config": run.config.to_dict(), "texts": corpus.fingerprints}
    state["surroundings"] = environment(keras.backend.backend()) | {"devices": devices.count}
    checkpoints = SaveCheckpoints(run, len(windows), state, states, metrics_log, weights, signals, devices)
    chosen: list[keras.callbacks.Callback] = []
    if checkpoint:
        chosen.append(RestoreCheckpoint(checkpoint, windows, str(run.checkpoints_path / checkpoint.name), devices))
        metrics_log.resumed = checkpoint.state["log"] if checkpoint.window else None
    chosen += [
        throughput,
        PrepareEpoch(run, windows, log),
        states,
        StopOnNonFiniteLoss(len(windows), log_every=run.config.train.log_every),
        weights,
        *([SecondValidation(extras.also_valid, states, checkpoints, devices.rows)] if extras.also_valid else []),
        *extras.callbacks,
        metrics_log,
        StopEarly(run, log),
        NoteGuessing(run.tokenizer.vocab_size, run.config.train.epochs, log),
    ]
    if extras.verbosity:
        chosen.append(Progress(throughput))
    epochs = run.config.train.epochs
    if devices.leads and importlib.util.find_spec("matplotlib"):
        chosen.append(Convenience(CURVE, lambda *_: learning_curve(run.epochs(), run.path / CURVE), epochs, log))
    if extras.tensorboard:
        chosen.append(Convenience("TensorBoard events", TensorBoard(run.path / TENSORBOARD), epochs, log))
    # Last, so that the metrics of an epoch exist when its checkpoint states that it is finished.
    return [*chosen, checkpoints]
