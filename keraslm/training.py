"""From a configuration to a trained run: streams, compile, fit."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import keras

from keraslm import callbacks
from keraslm.config import Config, TrainConfig
from keraslm.dataset import WindowDataset
from keraslm.layers.kernels.dispatch import describe_lstm
from keraslm.losses import SequenceLoss
from keraslm.machine import check_dtype, keep_freed_memory
from keraslm.metrics import Perplexity
from keraslm.model import build_model, nats_model
from keraslm.optimizer import ClippedSGD
from keraslm.progress import Progress, Throughput, UnreadLogs
from keraslm.run import RUNS, Run, check_free
from keraslm.text.corpus import Text, open_texts
from keraslm.text.stream import Windows
from keraslm.text.tokenizer import WordTokenizer

Say = Callable[[str], None]


def train_run(
    config: Config,
    path: str | Path | None = None,
    *,
    overwrite: bool = False,
    tensorboard: bool = False,
    verbose: int | str = "auto",
    say: Say = print,
) -> Run:
    """Train a language model and leave it in a run folder.

    Args:
        config: what to train on what, and how.
        path: the run folder; None makes `runs/<date>-<time>`.
        overwrite: replace a run that is already there.
        tensorboard: write TensorBoard events too.
        verbose: Keras' progress: 0 nothing, 1 a bar, 2 a line an epoch, "auto" a bar on a terminal and lines elsewhere.
        say: takes each line of progress text.

    Returns:
        the run, with the weights after the last epoch.

    Raises:
        TextError: a text is missing, not UTF-8, or too short for one window.
        RunError: the run folder is taken or cannot be written.
        NonFiniteLossError: the training diverged.
        ConfigError: the dtype would only be slower on this backend and machine.
    """
    check_dtype(config.train.dtype)
    keep_freed_memory()
    folder = Path(path) if path else RUNS / datetime.now().strftime("%Y%m%d-%H%M%S")
    check_free(folder, overwrite)
    corpus = _read_corpus(config, say)
    backend = keras.backend.backend()
    run = Run.create(folder, config, corpus.tokenizer, backend, overwrite)
    say(f"run       {run.path} on {backend}")
    model = compiled_model(config, corpus.tokenizer.vocab_size)
    say(f"model     {sum(math.prod(v.shape) for v in model.trainable_variables):,} parameters")
    say(f"lstm      {describe_lstm(config.model.recurrent_dropout, config.train.dtype)}")
    model.fit(
        WindowDataset(corpus.train),
        validation_data=WindowDataset(corpus.valid) if corpus.valid else None,
        epochs=config.train.epochs,
        shuffle=False,
        callbacks=UnreadLogs(
            run_callbacks(run, corpus.train, tensorboard, _verbosity(verbose)),
            add_history=True,
            model=model,
            verbose=_verbosity(verbose),
            epochs=config.train.epochs,
            steps=len(corpus.train),
        ),
    )
    return run


def compiled_model(config: Config, vocab_size: int) -> keras.Model:
    """The nats model of a configuration, compiled with the recipe's loss, clipping, optimizer and metric."""
    train = config.train
    model = nats_model(build_model(config.model, vocab_size, train.batch_size, train.seed, train.dtype), train.dtype)
    model.get_layer("embedding").sparse_gradient = True  # which this optimizer takes
    model.compile(
        optimizer=ClippedSGD(train.learning_rate, train.clip_norm or None),
        loss=SequenceLoss(config.train.average_across_timesteps, config.train.average_across_batch),
        metrics=[Perplexity()],
        # Without XLA TensorFlow multiplies with oneDNN, on a CPU twice as fast at 650 units; see benchmarks/README.md.
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )
    return model


def run_callbacks(
    run: Run, windows: Windows, tensorboard: bool = False, verbose: int = 0
) -> list[keras.callbacks.Callback]:
    """The callbacks of a training, in the order in which they must act.

    Args:
        run: the run folder.
        windows: that an epoch trains on.
        tensorboard: write TensorBoard events too.
        verbose: 0 shows no progress.
    """
    throughput = Throughput(windows.predicted // len(windows))
    chosen: list[keras.callbacks.Callback] = [
        throughput,
        callbacks.learning_rate_schedule(run.config.train),
        callbacks.ResetStates(),
        callbacks.StopOnNonFiniteLoss(),
        callbacks.SaveWeights(run),
        callbacks.MetricsLog(run, windows.predicted, throughput),
    ]
    if verbose:
        chosen.append(Progress(throughput))
    if importlib.util.find_spec("matplotlib"):
        chosen.append(callbacks.LearningCurve(run))
    if tensorboard:
        chosen.append(callbacks.TensorBoard(run))
    return chosen


@dataclass(frozen=True)
class _Corpus:
    tokenizer: WordTokenizer
    train: Windows
    valid: Windows | None


def _read_corpus(config: Config, say: Say) -> _Corpus:
    data = config.data
    train, valid = open_texts(data)
    tokenizer = WordTokenizer.train(train, data.vocab_size, data.min_count, data.lowercase, data.split_punctuation)
    say(f"words     {tokenizer.vocab_size:,} in the vocabulary of {train.name}")
    return _Corpus(
        tokenizer,
        _windows("train", train, tokenizer, config.train, say),
        _windows("valid", valid, tokenizer, config.train, say) if valid else None,
    )


def _windows(title: str, text: Text, tokenizer: WordTokenizer, config: TrainConfig, say: Say) -> Windows:
    ids = tokenizer.encode_text(text)
    windows = Windows(ids, config.batch_size, config.num_steps, text.name)
    unknown = int((ids == tokenizer.unk_id).sum())
    replaced = f"; {text.replaced:,} lines were not UTF-8" if text.replaced else ""
    say(
        f"{title:<9} {len(ids):,} tokens, {unknown:,} of them <unk>: {len(windows):,} windows of {config.batch_size} x "
        f"{config.num_steps} predict {windows.predicted:,}, {windows.left_over:,} are left over{replaced}"
    )
    return windows


def _verbosity(verbose: int | str) -> int:
    if verbose == "auto":
        return 1 if sys.stdout.isatty() else 2
    return int(verbose)
