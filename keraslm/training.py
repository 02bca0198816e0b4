"""From a configuration to a trained run: streams, compile, fit."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import keras
from numpy.typing import NDArray

from keraslm import callbacks
from keraslm.clusters import choose_cutoffs, describe_clusters
from keraslm.config import TOKENIZERS, Config, DataConfig
from keraslm.dataset import WindowDataset
from keraslm.divergence import StopOnNonFiniteLoss
from keraslm.errors import ConfigError
from keraslm.layers.kernels.dispatch import describe_lstm
from keraslm.losses import SequenceLoss
from keraslm.machine import check_dtype, keep_freed_memory
from keraslm.metrics import Perplexity
from keraslm.model import build_model, nats_model
from keraslm.optimizer import ClippedSGD
from keraslm.progress import Progress, Throughput, UnreadLogs
from keraslm.run import RUNS, Run, check_free
from keraslm.text.corpus import Text, open_texts
from keraslm.text.counts import TextCounts
from keraslm.text.encoding import Encoder
from keraslm.text.store import EncodedText, token_counts
from keraslm.text.stream import Windows
from keraslm.text.tokenizer import Tokenizer

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
    corpus = _read_corpus(config, say, show=bool(_verbosity(verbose)))
    config = _with_clusters(config, corpus, say)
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
            run_callbacks(run, corpus.train, tensorboard, _verbosity(verbose), corpus.valid_counts),
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
    resets = config.data.documents != "none"
    network = build_model(config.model, vocab_size, train.batch_size, train.seed, train.dtype, resets)
    model = nats_model(network, train.dtype)
    for layer in (network.get_layer("embedding"), network.get_layer("logits")):
        layer.sparse_gradient = True  # which this optimizer takes
    model.compile(
        optimizer=ClippedSGD(train.learning_rate, train.clip_norm or None),
        loss=SequenceLoss(config.train.average_across_timesteps, config.train.average_across_batch),
        metrics=[Perplexity()],
        # Without XLA TensorFlow multiplies with oneDNN, on a CPU twice as fast at 650 units; see benchmarks/README.md.
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )
    return model


def run_callbacks(
    run: Run,
    windows: Windows,
    tensorboard: bool = False,
    verbose: int = 0,
    valid_counts: TextCounts | None = None,
) -> list[keras.callbacks.Callback]:
    """The callbacks of a training, in the order in which they must act.

    Args:
        run: the run folder.
        windows: that an epoch trains on.
        tensorboard: write TensorBoard events too.
        verbose: 0 shows no progress.
        valid_counts: size of the validation text.
    """
    throughput = Throughput(windows.predicted // len(windows))
    chosen: list[keras.callbacks.Callback] = [
        throughput,
        callbacks.learning_rate_schedule(run.config.train),
        callbacks.ResetStates(),
        callbacks.OrderDocuments(windows),
        StopOnNonFiniteLoss(len(windows), log_every=run.config.train.log_every),
        callbacks.SaveWeights(run, len(windows)),
        callbacks.MetricsLog(run, windows.predicted, throughput, valid_counts),
    ]
    if verbose:
        chosen.append(Progress(throughput))
    if importlib.util.find_spec("matplotlib"):
        chosen.append(callbacks.LearningCurve(run))
    if tensorboard:
        chosen.append(callbacks.TensorBoard(run))
    return chosen


def _with_clusters(config: Config, corpus: _Corpus, say: Say) -> Config:
    """The configuration with the clusters of an adaptive softmax chosen, where they are not given."""
    if config.model.softmax != "adaptive":
        return config
    counts = token_counts(corpus.ids, corpus.tokenizer.vocab_size)
    ends = config.model.cluster_ends or choose_cutoffs(counts, config.model.units)
    if ends[-1] >= len(counts):
        raise ConfigError(f"--cutoffs {config.model.cutoffs} must stay below the vocabulary's {len(counts):,} tokens.")
    say(f"softmax   adaptive: {describe_clusters(counts, ends)}")
    return config.replace(cutoffs=",".join(map(str, ends)))


@dataclass(frozen=True)
class _Corpus:
    tokenizer: Tokenizer
    ids: NDArray[Any]
    train: Windows
    valid: Windows | None
    valid_counts: TextCounts | None


def _read_corpus(config: Config, say: Say, show: bool) -> _Corpus:
    data = config.data
    encoder = Encoder(data.cache, show)
    train, valid = open_texts(data)
    tokenizer = encoder.tokenizer(train, data)
    say(f"tokens    {tokenizer.vocab_size:,} in the vocabulary: {_origin(data, train)}")
    encoded = encoder.encode(train, tokenizer)
    windows = _windows("train", encoded, tokenizer, config, say)
    if valid is None:
        return _Corpus(tokenizer, encoded.ids, windows, None, None)
    held_out = encoder.encode(valid, tokenizer)
    valid_windows = _windows("valid", held_out, tokenizer, config, say)
    return _Corpus(tokenizer, encoded.ids, windows, valid_windows, held_out.counts)


def _origin(data: DataConfig, train: Text) -> str:
    if data.tokenizer in TOKENIZERS:
        return f"{data.tokenizer}, trained on {train.name}"
    return f"of {data.tokenizer}"


def _windows(title: str, text: EncodedText, tokenizer: Tokenizer, config: Config, say: Say) -> Windows:
    data, train, counts = config.data, config.train, text.counts
    shuffled = title == "train" and data.shuffle_documents
    windows = Windows(
        text.ids,
        train.batch_size,
        train.num_steps,
        text.name,
        documents=data.documents,
        eos_id=tokenizer.eos_id,
        shuffle_seed=train.seed if shuffled else None,
    )
    replaced = f"; {text.replaced:,} lines were not UTF-8" if text.replaced else ""
    unknown = f", {counts.oovs:,} of them <unk>" if tokenizer.unk_id >= 0 else ""
    say(
        f"{title:<9} {counts.tokens:,} tokens{unknown}, of {counts.lines:,} lines, {counts.words:,} words, "
        f"{counts.characters:,} characters, {counts.bytes:,} bytes{replaced}"
    )
    say(
        f"          {len(windows):,} windows of {train.batch_size} x {train.num_steps} predict {windows.predicted:,}, "
        f"{windows.left_over:,} are left over"
    )
    return windows


def _verbosity(verbose: int | str) -> int:
    if verbose == "auto":
        return 1 if sys.stdout.isatty() else 2
    return int(verbose)
