"""Train a run: read the texts, create or resume the run folder, compile, fit."""

from __future__ import annotations

import importlib.util
import math
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import keras

from keraslm.config import Config, StrPath
from keraslm.network.compile import compiled_model
from keraslm.network.parts import describe_cell
from keraslm.runs.checkpoint import Checkpoint
from keraslm.runs.create import create_run, locked_folder, new_folder, update_config
from keraslm.runs.files import CURVE, TENSORBOARD, files_of, state_of
from keraslm.runs.metrics import learning_curve
from keraslm.runs.resume import PreviousRun, environment, find_previous_run
from keraslm.runs.run import Run
from keraslm.system import Log
from keraslm.system.signals import StopSignals
from keraslm.text.corpus import open_texts
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
from keraslm.training.corpus import TrainingCorpus, read_corpus, with_clusters
from keraslm.training.dataset import fit_from
from keraslm.training.divergence import NoteGuessing, StopOnNonFiniteLoss
from keraslm.training.machine import check_dtype, keep_freed_memory
from keraslm.training.progress import Progress, Throughput, UnreadLogs
from keraslm.training.schedule import early_stop


def train_run(
    config: Config,
    path: StrPath | None = None,
    *,
    unfinished: Path | None = None,
    resume: str = "auto",
    overwrite: bool = False,
    tensorboard: bool = False,
    verbose: int | str = "auto",
    log: Log = print,
) -> Run:
    """Train a language model into a run folder, or resume a run that was stopped. Arguments as in `keraslm.train`.

    `unfinished` is a run with this configuration, which is resumed without a `path` if its texts are the same.

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
        verbose = 1 if sys.stdout.isatty() and "utf" in sys.stdout.encoding.lower() else 2  # the bar is no ASCII
    check_dtype(config.train.dtype)
    keep_freed_memory()
    folder, own = Path(path) if path is not None else unfinished, config
    exists = folder is not None and state_of(folder)[0] in ("run", "incomplete")
    with ExitStack() as stack:
        if folder and exists:
            stack.enter_context(locked_folder(folder, log))
        previous = find_previous_run(folder, resume, overwrite, log) if folder else None
        if previous:
            config = previous.resumed_config(config)
        texts = open_texts(config.data)
        corpus = read_corpus(config, texts, log, bool(verbose), previous.run.tokenizer if previous else None)
        if previous and path is None:
            if difference := previous.text_difference(corpus.fingerprints):
                log(f"          not resumed: {difference}")
                stack.close()
                previous, folder, exists, config = None, None, False, own
                corpus = read_corpus(config, texts, log, bool(verbose))
            else:
                log(f'          {folder} was begun with the same arguments; `resume="never"` starts a new run')
        config = with_clusters(config, corpus, log)
        folder = folder or new_folder()
        if not exists:  # a new folder is created only once the texts are known to be good
            stack.enter_context(locked_folder(folder, log))
        files = files_of("valid" in corpus.fingerprints, config.train.keep_weights, tensorboard)
        if previous:
            run, checkpoint = _resume(previous, config, corpus, files, log), previous.checkpoint
        else:
            run, checkpoint = Run(folder, config, corpus.tokenizer, texts=corpus.fingerprints, files=files), None
            create_run(run, keras.backend.backend(), overwrite or exists, log)
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


def _resume(previous: PreviousRun, config: Config, corpus: TrainingCorpus, files: tuple[str, ...], log: Log) -> Run:
    """Restore the files of a run to its checkpoint, if the texts are the same."""
    backend = keras.backend.backend()
    previous.check_texts(corpus.fingerprints)
    run = update_config(previous.run, config, backend, files)
    previous.restore_files(run, log)
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
    weights = EpochWeights(run, len(windows))
    metrics_log = MetricsLog(run, windows.predicted, throughput, valid_counts, weights)
    chosen: list[keras.callbacks.Callback] = []
    if checkpoint:
        chosen.append(RestoreCheckpoint(checkpoint, windows, str(run.checkpoints_path / checkpoint.name)))
        metrics_log.resumed = checkpoint.state["log"] if checkpoint.window else None
    chosen += [
        throughput,
        PrepareEpoch(run, windows, log),
        states,
        StopOnNonFiniteLoss(len(windows), log_every=run.config.train.log_every),
        weights,
        metrics_log,
        StopEarly(run, log),
        NoteGuessing(run.tokenizer.vocab_size, run.config.train.epochs, log),
    ]
    if verbose:
        chosen.append(Progress(throughput))
    epochs = run.config.train.epochs
    if importlib.util.find_spec("matplotlib"):
        chosen.append(Convenience(CURVE, lambda *_: learning_curve(run.epochs(), run.path / CURVE), epochs, log))
    if tensorboard:
        chosen.append(Convenience("TensorBoard events", TensorBoard(run.path / TENSORBOARD), epochs, log))
    state: dict[str, Any] = {"config": run.config.to_dict(), "texts": corpus.fingerprints}
    state["surroundings"] = environment(keras.backend.backend())
    # Last, so that the metrics of an epoch exist when its checkpoint states that it is finished.
    chosen.append(SaveCheckpoints(run, len(windows), state, states, metrics_log, weights, signals))
    return chosen
