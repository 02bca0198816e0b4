"""Train a translation system into a run folder, or resume a run that was stopped."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path

import keras

from examples.translation.config import TranslationConfig
from examples.translation.data import read_corpus
from examples.translation.run import TranslationRun, ValidationBleu
from keraslm.network.compile import compile_nats, make_optimizer
from keraslm.network.losses import SequenceLoss
from keraslm.network.metrics import Perplexity
from keraslm.runs.create import locked_folder, place_run
from keraslm.runs.files import files_of
from keraslm.runs.resume import find_previous_run
from keraslm.system import Log
from keraslm.training.fit import Extras, finished, fit_run, resume_run
from keraslm.training.machine import check_dtype, keep_freed_memory


def train(
    config: TranslationConfig,
    path: Path,
    resume: str = "auto",
    overwrite: bool = False,
    verbose: int | str = "auto",
    log: Log = print,
) -> TranslationRun:
    """Train with `fit()`; arguments and errors as of `keraslm.training.train.train_run`."""
    check_dtype(config.train.dtype)
    keep_freed_memory()
    with ExitStack() as stack:
        previous = None
        if path.is_dir():
            stack.enter_context(locked_folder(path, log))
            previous = find_previous_run(path, resume, overwrite, log, TranslationRun)
        if previous:
            config = previous.resumed_config(config)
        corpus = read_corpus(config, log, previous.run.tokenizer if previous else None)
        if not path.is_dir():
            stack.enter_context(locked_folder(path, log))
        files, checkpoint = files_of(True, config.train.keep_weights, tensorboard=False), None
        if previous:
            run, checkpoint = resume_run(previous, config, corpus, files, log), previous.checkpoint
            if reason := finished(run, checkpoint):
                log(reason)
                return run
        else:
            run = TranslationRun(path, config, corpus.tokenizer, texts=corpus.fingerprints, files=files)
            place_run(run, keras.backend.backend(), overwrite)
            log(f"run       {path} on {keras.backend.backend()}")
        network = run.build()
        model = network.training
        # The weight of a target is 1 / batch_size: the loss is the sum over a sentence, averaged over sentences.
        loss = SequenceLoss(average_across_timesteps=False, average_across_batch=False)
        compile_nats(model, make_optimizer(config.train, len(corpus.train)), loss, Perplexity())
        log(f"model     {sum(math.prod(shape) for shape in run.shapes().values()):,} parameters")
        bleu = ValidationBleu(run, network, corpus.lines)
        fit_run(run, model, corpus, checkpoint, Extras(verbose=verbose, log=log, callbacks=[bleu]))
    return run
