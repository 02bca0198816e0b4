"""Train a run: read the texts, create or resume the run folder, compile, fit."""

from __future__ import annotations

import importlib.util
import math
import sys
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import keras

from keraslm.config import Config, StrPath
from keraslm.network.compile import compiled_model
from keraslm.network.parts import describe_cell
from keraslm.runs.checkpoint import Checkpoint
from keraslm.runs.create import create_run, locked_folder, update_config
from keraslm.runs.metrics import learning_curve
from keraslm.runs.resume import PreviousRun, environment, find_previous_run
from keraslm.runs.run import RUNS, Run
from keraslm.system import Log
from keraslm.system.signals import StopSignals
from keraslm.training.callbacks import MetricsLog, PrepareEpoch, ResetStates, SaveWeights, StopEarly, TensorBoard
from keraslm.training.checkpoints import RestoreCheckpoint, SaveCheckpoints
from keraslm.training.corpus import TrainingCorpus, read_corpus, with_clusters
from keraslm.training.dataset import fit_from
from keraslm.training.divergence import StopOnNonFiniteLoss
from keraslm.training.machine import check_dtype, keep_freed_memory
from keraslm.training.progress import Progress, Throughput, UnreadLogs
from keraslm.training.schedule import early_stop


def train_run(
    config: Config,
    path: StrPath | None = None,
    *,
    resume: str = "auto",
    overwrite: bool = False,
    tensorboard: bool = False,
    verbose: int | str = "auto",
    log: Log = print,
) -> Run:
    """Train a language model into a run folder, or resume a run that was stopped. Arguments as in `keraslm.train`.

    A resumed training ends with the same bits as an uninterrupted one, given the same backend, versions, CPU model and
    number of cores.

    Raises:
        ConfigError: the dtype would be slower on this machine, or the run was created with a different configuration.
        TextError: a text is missing, not UTF-8, too short for one window, or not the one the run was created with.
        RunError: the folder already holds a run, is locked by another process, or is damaged.
        NonFiniteLossError: the training diverged.
        WriteError: the run folder cannot be written.
        Interrupted: SIGTERM or SIGINT; a checkpoint was saved.
    """
    if verbose == "auto":
        verbose = 1 if sys.stdout.isatty() else 2
    check_dtype(config.train.dtype)
    keep_freed_memory()
    folder = Path(path) if path else RUNS / datetime.now().strftime("%Y%m%d-%H%M%S")
    exists = (folder / "config.json").exists()
    with ExitStack() as stack:
        if exists:
            stack.enter_context(locked_folder(folder, log))
        previous = find_previous_run(folder, resume, overwrite, log)
        if previous:
            config = previous.resumed_config(config)
        corpus = read_corpus(config, log, bool(verbose), previous.run.tokenizer if previous else None)
        config = with_clusters(config, corpus, log)
        if not exists:  # a new folder is created only once the texts are known to be good
            stack.enter_context(locked_folder(folder, log))
        if previous:
            run, checkpoint = _resume(previous, config, corpus, log), previous.checkpoint
        else:
            run, checkpoint = Run(folder, config, corpus.tokenizer, texts=corpus.fingerprints), None
            create_run(run, keras.backend.backend(), overwrite=overwrite or exists)
            log(f"run       {run.path} on {keras.backend.backend()}")
        if checkpoint and (reason := _finished(run, checkpoint)):
            log(reason)
            return run
        model = compiled_model(config, corpus.tokenizer.vocab_size, len(corpus.train))
        _describe(model, config, log)
        with StopSignals() as signals:
            callbacks = run_callbacks(run, corpus, signals, checkpoint, tensorboard, int(verbose), log)
            steps = {"epochs": config.train.epochs, "steps": len(corpus.train)}
            listed = UnreadLogs(callbacks, add_history=True, model=model, verbose=verbose, **steps)
            position = (checkpoint.epoch, checkpoint.window) if checkpoint else (0, 0)
            fit_from(model, corpus.train, corpus.valid, config.train.epochs, listed, *position)
    return run


def _resume(previous: PreviousRun, config: Config, corpus: TrainingCorpus, log: Log) -> Run:
    """Restore the files of a run to its checkpoint, if the texts are the same."""
    backend = keras.backend.backend()
    previous.check_texts(corpus.fingerprints)
    run = update_config(previous.run, config, backend)
    previous.restore_files()
    log(f"run       {run.path} on {backend}, resuming after {previous.checkpoint.position}")
    if changed := previous.changed_environment(environment(backend)):
        log(f"          the result may differ in the last bits: {changed}")
    return run


def _finished(run: Run, checkpoint: Checkpoint) -> str:
    """A line that explains why nothing is left to train; else empty."""
    if checkpoint.epoch >= run.config.train.epochs:
        return f"          all {checkpoint.epoch} epochs are finished; raise `epochs` to train further"
    return "" if checkpoint.window else early_stop(run.config.train.early_stopping, run.epochs())


def _describe(model: keras.Model, config: Config, log: Log) -> None:
    log(f"model     {sum(math.prod(v.shape) for v in model.trainable_variables):,} parameters")
    resets = config.data.context != "document"
    log(f"{config.model.cell:<10}{describe_cell(config.model, config.train.dtype, resets)}")
    if config.model.not_exportable:
        log(f"export    {config.model.not_exportable}")


def run_callbacks(
    run: Run,
    corpus: TrainingCorpus,
    signals: StopSignals,
    checkpoint: Checkpoint | None = None,
    tensorboard: bool = False,
    verbose: int = 0,
    log: Log = print,
) -> list[keras.callbacks.Callback]:
    """The callbacks of a training run, in the order in which they must act."""
    windows = corpus.train
    throughput = Throughput(windows.predicted / len(windows))
    states = ResetStates(resumed=bool(checkpoint and checkpoint.window))
    valid_counts = corpus.valid_text.counts if corpus.valid_text else None
    metrics_log = MetricsLog(run, windows.predicted, throughput, valid_counts)
    chosen: list[keras.callbacks.Callback] = []
    if checkpoint:
        chosen.append(RestoreCheckpoint(checkpoint, windows, str(run.checkpoints_path / checkpoint.name)))
        metrics_log.resumed = checkpoint.state["log"] if checkpoint.window else None
    chosen += [
        throughput,
        PrepareEpoch(run, windows, log),
        states,
        StopOnNonFiniteLoss(len(windows), log_every=run.config.train.log_every),
        SaveWeights(run, len(windows)),
        metrics_log,
        StopEarly(run, log),
    ]
    if verbose:
        chosen.append(Progress(throughput))
    if importlib.util.find_spec("matplotlib"):
        curve = run.path / "learning_curve.png"
        chosen.append(keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: learning_curve(run.epochs(), curve)))
    if tensorboard:
        chosen.append(TensorBoard(run))
    state: dict[str, Any] = {"config": run.config.to_dict(), "texts": corpus.fingerprints}
    state["surroundings"] = environment(keras.backend.backend())
    # Last, so that all files of an epoch exist when its checkpoint states that it is finished.
    chosen.append(SaveCheckpoints(run, len(windows), state, states, metrics_log, signals))
    return chosen
