"""Train a run: read the texts, create or resume the run folder, compile, fit."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import keras

from keraslm.config import Config, StrPath
from keraslm.config.shapes import frozen_weights
from keraslm.errors import TextError
from keraslm.network.parts import describe_cell
from keraslm.runs.create import create_run, locked_folder, new_folder
from keraslm.runs.files import files_of, state_of
from keraslm.runs.initial import source_difference
from keraslm.runs.resume import PreviousRun, find_previous_run
from keraslm.runs.run import Run
from keraslm.system import Log
from keraslm.text.corpus import Text, open_texts
from keraslm.text.paths import STDIN
from keraslm.training.corpus import TrainingCorpus, open_second, read_corpus, with_clusters, with_second_validation
from keraslm.training.devices import Devices
from keraslm.training.fit import Extras, default_verbosity, finished, resume_run
from keraslm.training.fit_model import fit_model
from keraslm.training.follow import job_of, waited_for
from keraslm.training.initial import Start, initial_tokenizer, start_of
from keraslm.training.machine import check_dtype, keep_freed_memory
from keraslm.training.words import SaveAtWords


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
    devices: Devices | None = None,
) -> Run:
    """Train a language model into a run folder, or resume a run that was stopped. Arguments as in `keraslm.train`.

    `unfinished` is a run with this configuration, which is resumed without a `path` if its texts are the same.
    `devices` are those of this process. The first of several processes calls this function, the others
    `keraslm.training.follow.follow_run`.

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
        verbose = default_verbosity()
    devices = devices or Devices()
    check_dtype(config.train.dtype)
    keep_freed_memory()
    folder, own = Path(path) if path is not None else unfinished, config
    exists = folder is not None and state_of(folder)[0] in ("run", "incomplete")
    with waited_for(devices) as tell, ExitStack() as stack:
        _check_readable(config, devices)
        if folder and exists:
            stack.enter_context(locked_folder(folder, log))
        previous = find_previous_run(folder, resume, overwrite, log, Run) if folder else None
        if previous:
            config = previous.resumed_config(config)
        texts = (*open_texts(config.data), open_second(config))
        corpus = _read(config, texts, previous, bool(verbose), log)
        if previous and path is None:
            if difference := previous.text_difference(corpus.fingerprints) or source_difference(previous.run):
                log(f"          not resumed: {difference}")
                stack.close()
                previous, folder, exists, config = None, None, False, own
                corpus = _read(config, texts, None, bool(verbose), log)
            else:
                log(f'          {folder} was begun with the same arguments; `resume="never"` starts a new run')
        start = Start() if previous else start_of(config, corpus, log)
        config = with_clusters(config, corpus, log)
        devices.divide(config.train.batch_size, config.train.accumulate)
        folder = folder or new_folder()
        if not exists:  # a new folder is created only once the texts are known to be good
            stack.enter_context(locked_folder(folder, log))
        train = config.train
        files = files_of("valid" in corpus.fingerprints, train.keep_weights, tensorboard, bool(train.save_at_words))
        if previous:
            run = resume_run(previous, config, corpus, files, log, devices.count)
            checkpoint = previous.checkpoint
        else:
            found: Any = {"texts": corpus.fingerprints, "files": files, "origin": start.origin}
            run, checkpoint = Run(folder, config, corpus.tokenizer, **found), None
            create_run(run, keras.backend.backend(), overwrite or exists, log)
            log(f"run       {run.path} on {keras.backend.backend()}")
        if checkpoint and (reason := finished(run, checkpoint)):
            log(reason)
            tell(job_of(run, checkpoint, is_finished=True))
            return run
        tell(job_of(run, checkpoint))
        _describe(run, devices, log)
        extras = Extras(tensorboard, verbose, log, _at_words(run, corpus, log))
        fit_model(run, corpus, start, checkpoint, devices, extras)
    devices.any(False)  # the others wait until everything is written
    return run


def _check_readable(config: Config, devices: Devices) -> None:
    names = (*(config.data.train or ()), *(config.data.valid or ()))
    if devices.processes > 1 and STDIN in names:
        raise TextError("Standard input can be read by one process only. Write the text to a file.")


def _read(
    config: Config,
    texts: tuple[Text, Text | None, Text | None],
    previous: PreviousRun[Run] | None,
    show: bool,
    log: Log,
) -> TrainingCorpus:
    """Encode the training text and both validation texts with the tokenizer of a run, or a new one."""
    train, valid, also = texts
    known = (previous.run.tokenizer, "from the run") if previous else initial_tokenizer(config, train, show)
    corpus = read_corpus(config, (train, valid), log, show, *known or ())
    return with_second_validation(corpus, also, config, log, show)


def _at_words(run: Run, corpus: TrainingCorpus, log: Log) -> list[keras.callbacks.Callback]:
    """The callback that keeps weights at numbers of words, if any are requested."""
    numbers, words, epochs = run.config.train.save_at_words or (), corpus.words, run.config.train.epochs
    if late := [f"{number:,}" for number in numbers if number > words * epochs]:
        log(f"          {', '.join(late)} words are not reached: {epochs} epochs of {words:,}")
    return [SaveAtWords(run, numbers, words, corpus.train)] if numbers else []


def _describe(run: Run, devices: Devices, log: Log) -> None:
    config, sizes = run.config, {name: math.prod(shape) for name, shape in run.shapes().items()}
    frozen = frozen_weights(config.model, config.transfer.freeze or ())
    fixed = f", {sum(sizes[name] for name in frozen):,} of them not trained" if frozen else ""
    log(f"model     {sum(sizes.values()):,} parameters{fixed}")
    resets = config.data.context != "document"
    log(f"{config.model.cell:<10}{describe_cell(config.model, config.train.dtype, resets)}")
    if devices.count > 1:
        processes = f" in {devices.processes} processes" if devices.processes > 1 else ""
        log(
            f"devices   {devices.count}{processes}, {config.train.batch_size // devices.count} rows of a window on each"
        )
