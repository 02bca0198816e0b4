"""Keyword arguments that change fields of a configuration, with their types.

A test holds this table to the dataclasses: type checkers and editors need it written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Literal, TypedDict

StrPath = str | PathLike[str]
Paths = StrPath | Sequence[StrPath]
Context = Literal["sentence", "paragraph", "document"]


class Overrides(TypedDict, total=False):
    """Each field of `ModelConfig`, `DataConfig`, `TrainConfig` and `TransferConfig`, all optional."""

    train: Paths | None
    valid: Paths | None
    data: StrPath | None
    valid_share: float | None
    train_weights: tuple[float, ...] | None
    errors: Literal["strict", "replace"]
    encoding: str
    tokenizer: StrPath
    vocab_size: int
    min_count: int
    max_unknown: float
    lowercase: bool
    split_punctuation: bool
    eos_token: str | None
    unk_token: str | None
    context: Context
    shuffle: bool
    cache: StrPath | None
    cell: Literal["lstm", "gru", "rnn"]
    num_layers: int
    units: int
    layer_units: tuple[int, ...] | None
    embedding_dim: int | None
    tie_weights: bool
    embedding_dropout: float
    embedding_row_dropout: float
    recurrent_dropout: float
    dropconnect: float
    output_dropout: float
    last_dropout: float | None
    skip_connections: bool
    locked_dropout: bool
    mogrifier_rounds: int
    mogrifier_rank: int | None
    input_gate: Literal["free", "capped", "tied"]
    forget_bias: float
    softmax: Literal["full", "adaptive", "sampled", "mixture"]
    cutoffs: tuple[int, ...] | None
    num_sampled: int
    num_experts: int
    expert_dropout: float
    init_scale: float
    embedding_init_scale: float | None
    batch_size: int
    accumulate: int
    num_steps: int
    epochs: int
    variable_windows: bool
    optimizer: Literal["sgd", "adamw"]
    learning_rate: float
    beta_1: float
    beta_2: float
    weight_decay: float
    lr_schedule: Literal["decay", "cosine", "luong234", "plateau", "constant"]
    warmup_epochs: float
    lr_final: float
    lr_patience: int
    lr_decay: float
    lr_decay_from: int
    clip_norm: float | None
    activation_regularization: float
    temporal_regularization: float
    nonmonotone_interval: int | None
    average_from: int | None
    early_stopping: int | None
    keep_weights: int
    save_at_words: tuple[int, ...] | None
    average_across_timesteps: bool
    average_across_batch: bool
    dtype: Literal["float32", "bfloat16"]
    seed: int
    log_every: int | None
    checkpoint_minutes: float | None
    checkpoint_windows: int | None
    init_from: StrPath | None
    init_weights: str
    extend_vocab: int
    embeddings: StrPath | None
    freeze: tuple[str, ...] | None
    also_valid: Paths | None
