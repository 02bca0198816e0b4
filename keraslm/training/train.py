"""From a configuration to a trained run: streams, compile, fit; from its last checkpoint, where there is one."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import keras

from keraslm.config import Config, StrPath
from keraslm.network.compile import compiled_model
from keraslm.network.parts import describe_cell
from keraslm.runs.checkpoint import Checkpoint
from keraslm.runs.resume import (
    Earlier,
    changed_surroundings,
    check_position,
    check_texts,
    continued,
    find_earlier,
    put_back,
    surroundings,
)
from keraslm.runs.run import RUNS, Run
from keraslm.system.atomic import make_folder, writing
from keraslm.system.locks import run_lock
from keraslm.system.signals import StopSignals
from keraslm.training import callbacks
from keraslm.training.checkpoints import SaveCheckpoints, TakeUp, fit_on
from keraslm.training.corpus import Log, TrainingCorpus, read_corpus, with_clusters
from keraslm.training.dataset import WindowDataset
from keraslm.training.divergence import StopOnNonFiniteLoss
from keraslm.training.epoch import EndEarly, PrepareEpoch, early_end
from keraslm.training.machine import check_dtype, keep_freed_memory
from keraslm.training.progress import Progress, Throughput, UnreadLogs


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
    """Train a language model and leave it in a run folder; go on where a run was stopped.

    A training that goes on ends in the same bits as one that was never stopped, on the same backend and versions, on a
    CPU of the same model and as many cores.

    Args:
        config: what to train on what, and how.
        path: the run folder; None makes `runs/<date>-<time>`.
        resume: where the folder holds a run: `"auto"` goes on with it, `"never"` refuses; `"must"` refuses where
            there is none.
        overwrite: replace a run that is already there.
        tensorboard: write TensorBoard events too.
        verbose: Keras' progress: 0 nothing, 1 a bar, 2 a line an epoch, "auto" a bar on a terminal and lines elsewhere.
        log: takes each line of progress text.

    Returns:
        the run, with the weights after the last epoch.

    Raises:
        TextError: a text is missing, not UTF-8, too short for one window, or not the one that the run was begun on.
        RunError: the run folder is taken, locked by another training, or damaged.
        NonFiniteLossError: the training diverged.
        ConfigError: the dtype would only be slower on this backend and machine, or the run was begun with another
            configuration.
        WriteError: the run folder cannot be written.
        Interrupted: by SIGTERM or SIGINT; a checkpoint was saved.
    """
    check_dtype(config.train.dtype)
    keep_freed_memory()
    folder = Path(path) if path else RUNS / datetime.now().strftime("%Y%m%d-%H%M%S")
    with ExitStack() as held:
        is_there = (folder / "config.json").exists()
        if is_there:
            held.enter_context(_locked(folder, log))
        earlier = find_earlier(folder, resume, overwrite, log)
        goes_on = earlier if earlier and earlier.checkpoint else None
        config = continued(goes_on, config) if goes_on else config
        tokenizer = goes_on.run.tokenizer if goes_on else None
        corpus = read_corpus(config, log, bool(_verbosity(verbose)), tokenizer)
        config = with_clusters(config, corpus, log)
        if not is_there:  # a folder is made when the texts are known to be good
            held.enter_context(_locked(folder, log))
        if goes_on:
            run = _take_up(goes_on, config, corpus, log)
        else:
            backend, replaced = keras.backend.backend(), overwrite or earlier is not None
            run = Run(folder, config, corpus.tokenizer, texts=corpus.fingerprints).create(backend, replaced)
            log(f"run       {run.path} on {backend}")
        _fit(run, corpus, earlier.checkpoint if earlier else None, tensorboard, _verbosity(verbose), log)
    return run


@contextmanager
def _locked(folder: Path, log: Log) -> Iterator[None]:
    """Keep other trainers out of a folder, which is made where it is missing."""
    with ExitStack() as held:
        with writing(folder):
            make_folder(folder)
            held.enter_context(run_lock(folder, log))
        yield


def _take_up(earlier: Earlier, config: Config, corpus: TrainingCorpus, log: Log) -> Run:
    """The run that goes on, with its files as they were at its checkpoint."""
    assert earlier.checkpoint
    check_texts(earlier, corpus.fingerprints)
    check_position(earlier, len(corpus.train))
    backend = keras.backend.backend()
    run = earlier.run.changed(config, backend)
    put_back(run, earlier.checkpoint, earlier.damaged)
    changed = changed_surroundings(earlier.checkpoint, surroundings(backend))
    log(f"run       {run.path} on {backend}, going on after {earlier.checkpoint.position}")
    if changed:
        log(f"          not bit for bit what it would have been: {changed}")
    return run


def _fit(
    run: Run, corpus: TrainingCorpus, checkpoint: Checkpoint | None, tensorboard: bool, verbose: int, log: Log
) -> None:
    epochs = run.config.train.epochs
    if checkpoint and checkpoint.epoch >= epochs:
        log(f"          it has its {checkpoint.epoch} epochs; --epochs can be raised")
        return
    line = early_end(run) if checkpoint and not checkpoint.window else ""
    if line:
        log(line)
        return
    model = compiled_model(run.config, corpus.tokenizer.vocab_size, len(corpus.train))
    log(f"model     {sum(math.prod(v.shape) for v in model.trainable_variables):,} parameters")
    log(f"{run.config.model.cell:<10}{describe_cell(run.config.model, run.config.train.dtype)}")
    if run.config.model.not_exportable:
        log(f"export    {run.config.model.not_exportable}")
    train, valid = WindowDataset(corpus.train), WindowDataset(corpus.valid) if corpus.valid else None
    with StopSignals() as signals:
        chosen = run_callbacks(run, corpus, signals, checkpoint, tensorboard, verbose, log)
        listed = UnreadLogs(
            chosen, add_history=True, model=model, verbose=verbose, epochs=epochs, steps=len(corpus.train)
        )
        position = (checkpoint.epoch, checkpoint.window) if checkpoint else (0, 0)
        fit_on(model, train, valid, epochs, listed, *position)


def run_callbacks(
    run: Run,
    corpus: TrainingCorpus,
    signals: StopSignals,
    checkpoint: Checkpoint | None = None,
    tensorboard: bool = False,
    verbose: int = 0,
    log: Log = print,
) -> list[keras.callbacks.Callback]:
    """The callbacks of a training, in the order in which they must act.

    Args:
        run: the run folder.
        corpus: what it trains on.
        signals: what the process is asked to do.
        checkpoint: where the training goes on; None where it begins.
        tensorboard: write TensorBoard events too.
        verbose: 0 shows no progress.
        log: takes lines about averaging and an early end.
    """
    windows = corpus.train
    throughput = Throughput(windows.predicted / len(windows))
    inside = checkpoint if checkpoint and checkpoint.window else None
    states = callbacks.ResetStates(resumed=inside is not None)
    progress = inside.state.get("log") if inside else None
    metrics_log = callbacks.MetricsLog(run, windows.predicted, throughput, corpus.valid_counts, progress)
    chosen: list[keras.callbacks.Callback] = [
        throughput,
        PrepareEpoch(run, windows, log),
        states,
        StopOnNonFiniteLoss(len(windows), log_every=run.config.train.log_every),
        callbacks.SaveWeights(run, len(windows)),
        metrics_log,
        EndEarly(run, log),
    ]
    if checkpoint:
        chosen.insert(0, TakeUp(checkpoint, WindowDataset(windows), str(run.checkpoints_path / checkpoint.name)))
    if verbose:
        chosen.append(Progress(throughput))
    if importlib.util.find_spec("matplotlib"):
        chosen.append(callbacks.LearningCurve(run))
    if tensorboard:
        chosen.append(callbacks.TensorBoard(run))
    # Last, so that whatever an epoch leaves is there when its checkpoint says that it is over.
    chosen.append(SaveCheckpoints(run, len(windows), _description(run, corpus), states, metrics_log, signals))
    return chosen


def _description(run: Run, corpus: TrainingCorpus) -> dict[str, Any]:
    """What every checkpoint of a training says of it."""
    around = surroundings(keras.backend.backend())
    return {"config": run.config.to_dict(), "texts": corpus.fingerprints, "surroundings": around}


def _verbosity(verbose: int | str) -> int:
    if verbose == "auto":
        return 1 if sys.stdout.isatty() else 2
    return int(verbose)
