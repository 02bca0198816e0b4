"""The trained run that a new run starts from: the configuration that follows from it, and its weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keraslm.config import Config, Overrides, TransferConfig
from keraslm.config.presets import preset
from keraslm.errors import ConfigError, RunError, TextError, UsageError, shown
from keraslm.runs.averaging import Member
from keraslm.runs.folder import LATEST, RUNS
from keraslm.runs.resume import changed_config
from keraslm.runs.run import Run, run_text
from keraslm.runs.weights import Weights
from keraslm.system import Log
from keraslm.text.corpus import open_text
from keraslm.text.encoding import Encoder
from keraslm.text.files import TextFiles
from keraslm.text.stream import Windows

SIZES = ("units", "num_layers", "layer_units")
NETWORK = ["cell", *SIZES, "embedding_dim", "tie_weights", "mogrifier_rounds", "mogrifier_rank", "input_gate"]
NETWORK += ["skip_connections", "softmax", "cutoffs", "num_experts"]
TOKENIZER = ["tokenizer", "vocab_size", "min_count", "lowercase", "split_punctuation", "eos_token", "unk_token"]


def new_config(config: Config | None, overrides: Overrides, run: Path | None, log: Log) -> Config:
    """The configuration of a new run.

    With `init_from`, network and tokenizer are those of that run. Without a `config`, so are all other settings, and
    without texts its texts.

    Args:
        config: None: preset `"tiny"`, or with `init_from` the configuration of that run.
        overrides: fields that replace those of `config`.
        run: folder of the new run.
        log: gets a line if the validation text of `init_from` cannot be validated too.

    Raises:
        ConfigError: a requested field contradicts the network or the tokenizer of `init_from`.
        RunError: there is no such run, or it has no such weights.
        UsageError: `init_from` is the folder of the new run, or the link `runs/latest`.
    """
    given = Config().transfer if config is None else config.transfer
    changes: Any = {name: value for name, value in overrides.items() if name in TransferConfig.__dataclass_fields__}
    transfer = replace(given, **changes)
    if transfer.init_from is None:
        return preset("tiny", **overrides) if config is None else config.replace(**overrides)
    source = open_source(transfer)
    if run is not None and run.resolve() == source.path.resolve():
        raise UsageError(f"{run} is the run to start from. Choose a different `run` for the new one.")
    own = replace(source.config, transfer=TransferConfig())
    try:
        wanted = changed_config(own, config, overrides, str(source.path)).as_chosen_by(own)
    except ConfigError:  # perhaps a contradiction between a given field and one of the run
        _check_kept(source, dict(overrides), bool(transfer.extend_vocab))
        raise
    fields = wanted.fields()
    if wanted.model.sizes == own.model.sizes:
        fields = {name: value for name, value in fields.items() if name not in SIZES}
        if wanted.model.embedding_size == own.model.embedding_size:
            del fields["embedding_dim"]
    _check_kept(source, fields, bool(transfer.extend_vocab))
    if transfer.also_valid is None:
        wanted = wanted.replace(also_valid=_previous_validation(source, wanted, log))
    return wanted


def open_source(transfer: TransferConfig) -> Run:
    """The run `init_from`, with its `init_weights`."""
    path = Path(transfer.init_from or "")
    if (path.parent.resolve(), path.name) == (RUNS.resolve(), LATEST.name) and path.is_dir():
        target = os.path.relpath(path.resolve())
        raise UsageError(f"{path} is a link, which will point to the new run. Use the folder, `init_from={target}`.")
    source = Run.open(path, transfer.weights)
    if not source.weights_path.is_file():
        raise RunError(f"{path}: no weights to start from; no epoch was finished.")
    return source


def _check_kept(source: Run, requested: Mapping[str, Any], extends: bool) -> None:
    """Raise `ConfigError` if requested fields of the network or the tokenizer are not those of a run."""
    own = source.config.fields()
    kept = [name for name in (*NETWORK, *TOKENIZER) if name != "min_count" or not extends]
    differences = [
        f"`{name}` is {shown(own[name])}, not {shown(requested[name])}"
        for name in kept
        if name in requested and requested[name] != own[name]
    ]
    if not differences:
        return
    more = " Words are added with `extend_vocab`." if any("vocab_size" in part for part in differences) else ""
    raise ConfigError(
        f"A run that starts from {source.path} has its network and tokenizer, in which {'; '.join(differences)}. Leave "
        f"these out, and a preset that sets them: all settings that are not given are those of {source.path}.{more}"
    )


def _previous_validation(source: Run, config: Config, log: Log) -> tuple[str, ...] | None:
    """The files of the validation text of a run, if a new run has a different one and can read this one too."""
    own, data, train = source.config.data, config.data, config.train
    if (own.data, own.train, own.valid) == (data.data, data.train, data.valid):
        return None
    try:
        text = open_text(own, "valid")
        if text is None:
            return None
        if not isinstance(text, TextFiles):
            raise TextError("it is no file of its own, which `also_valid` needs")
        if (own.encoding, own.errors) != (data.encoding, data.errors):
            raise TextError(f'it was read with `encoding="{own.encoding}"` and `errors="{own.errors}"`')
        encoded = run_text(source, "valid", Encoder(data.cache))
        assert encoded is not None
        Windows(encoded.ids, train.batch_size, train.num_steps, text.name)
        return tuple(file.path for file in text.files)
    except TextError as error:
        log(f"          the validation text of {source.path} is not validated too: {error}")
        return None


def source_facts(source: Run) -> dict[str, Any]:
    """What a new run records of the weights that it starts from, as a member of an average."""
    return Member(source, source.weights_path, source.trained_epoch()).facts()


def source_difference(run: Run) -> str:
    """Whether the weights that a run started from are now different ones, as a part of a sentence; else empty."""
    before = run.origin.get("weights")
    if before is None or before.get("sha256") == source_facts(open_source(run.config.transfer))["sha256"]:
        return ""
    return f"{run.path} started from earlier weights of {before.get('run')}"


def grown(weights: Weights, shapes: Mapping[str, tuple[int, ...]]) -> Weights:
    """The weights for a larger vocabulary: the rows of new words are the mean of the rows of all old words.

    Kernel and bias of the softmax are averaged too, so that the logit of a new word is the mean of all logits: before
    the softmax is normalised again, its probability is the geometric mean of those of the old words. N new words thus
    take at most N / (V + N) of the probability from V old ones, in any context.

    Args:
        weights: for V words.
        shapes: for a vocabulary with more words at the end.

    Reference: Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models",
    https://nlp.stanford.edu/~johnhew/vocab-expansion.html

    Example:
        >>> grown({"bias": np.array([1, 3], np.float32)}, {"bias": (4,)})["bias"]
        array([1., 3., 2., 2.], dtype=float32)
    """
    found = dict(weights)
    for name, shape in shapes.items():
        value = weights[name]
        for axis in (axis for axis, size in enumerate(shape) if size != value.shape[axis]):
            mean = value.mean(axis, dtype=np.float64, keepdims=True).astype(np.float32)
            found[name] = np.concatenate([value, np.repeat(mean, shape[axis] - value.shape[axis], axis)], axis)
    return found
