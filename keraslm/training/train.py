"""Train a run: read the texts, create or resume the run folder, compile, fit."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path

import keras

from keraslm.config import Config, StrPath
from keraslm.network.compile import compiled_model
from keraslm.network.parts import describe_cell
from keraslm.runs.create import create_run, locked_folder, new_folder
from keraslm.runs.files import files_of, state_of
from keraslm.runs.resume import find_previous_run
from keraslm.runs.run import Run
from keraslm.system import Log
from keraslm.text.corpus import open_texts
from keraslm.training.corpus import read_corpus, with_clusters
from keraslm.training.fit import default_verbosity, finished, fit_run, resume_run
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
        verbose = default_verbosity()
    check_dtype(config.train.dtype)
    keep_freed_memory()
    folder, own = Path(path) if path is not None else unfinished, config
    exists = folder is not None and state_of(folder)[0] in ("run", "incomplete")
    with ExitStack() as stack:
        if folder and exists:
            stack.enter_context(locked_folder(folder, log))
        previous = find_previous_run(folder, resume, overwrite, log, Run) if folder else None
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
        numbers = config.train.save_at_words or ()
        files = files_of("valid" in corpus.fingerprints, config.train.keep_weights, tensorboard, bool(numbers))
        if previous:
            run, checkpoint = resume_run(previous, config, corpus, files, log), previous.checkpoint
        else:
            run, checkpoint = Run(folder, config, corpus.tokenizer, texts=corpus.fingerprints, files=files), None
            create_run(run, keras.backend.backend(), overwrite or exists, log)
            log(f"run       {run.path} on {keras.backend.backend()}")
        if checkpoint and (reason := finished(run, checkpoint)):
            log(reason)
            return run
        model = compiled_model(config, corpus.tokenizer.vocab_size, len(corpus.train))
        _describe(model, config, log)
        words = corpus.words
        if late := [f"{number:,}" for number in numbers if number > words * config.train.epochs]:
            log(f"          {', '.join(late)} words are not reached: {config.train.epochs} epochs of {words:,}")
        extra = [SaveAtWords(run, numbers, words, corpus.train)] if numbers else []
        fit_run(run, model, corpus, checkpoint, tensorboard=tensorboard, verbose=verbose, log=log, extra=extra)
    return run


def _describe(model: keras.Model, config: Config, log: Log) -> None:
    log(f"model     {sum(math.prod(v.shape) for v in model.trainable_variables):,} parameters")
    resets = config.data.context != "document"
    log(f"{config.model.cell:<10}{describe_cell(config.model, config.train.dtype, resets)}")
    if config.model.not_exportable:
        log(f"export    {config.model.not_exportable}")
