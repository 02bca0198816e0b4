"""Named configurations. Each states only what differs from the defaults, which are those of `small`."""

from __future__ import annotations

from typing import Any, Unpack

from keraslm import arguments
from keraslm.config import Config, Overrides
from keraslm.config.model import check_sizes
from keraslm.errors import ConfigError

# With characters, at rate 1, preset `tiny` stays at a perplexity of 8.1 on four random letters, where guessing gives
# 4.3; at 0.25 it reaches 4.3, and learns Shakespeare as well as at 1: docs/how-to/training.md.
_SPELLING_RATE = 0.25

_SPELLING: dict[str, Any] = {
    "units": 512,
    "embedding_dim": 64,
    "skip_connections": True,
    "locked_dropout": True,
    "output_dropout": 0.2,
    "batch_size": 32,
    "num_steps": 100,
    "optimizer": "adamw",
    "learning_rate": 6e-3,
    "weight_decay": 0.05,
    "lr_schedule": "cosine",
    "warmup_epochs": 0.2,
    "average_across_timesteps": True,
    "clip_norm": 1.0,
    "init_scale": 0.05,
    "epochs": 12,
}

PRESETS: dict[str, dict[str, Any]] = {
    # A first model in about a minute on two cores. Sizes and schedule were tuned on the corpus that Python contains.
    "tiny": {
        "units": 128,
        "output_dropout": 0.2,
        "embedding_dropout": 0.2,
        "epochs": 8,
        "lr_decay_from": 5,
        "min_count": 2,
        "lowercase": True,
        "split_punctuation": True,
    },
    # Characters and bytes: for five million of them in one hour on two cores; see examples/ptb.
    "char": {"tokenizer": "char", "vocab_size": 1000, **_SPELLING},
    "byte": {"tokenizer": "byte", **_SPELLING},
    # Zaremba et al. 2014, section 4.1, with the numbers of the PTB tutorial: 37.99 / 121.39 / 115.91.
    "small": {},
    # The same, "medium": 48.45 / 86.16 / 82.07.
    "medium": {
        "units": 650,
        "num_steps": 35,
        "init_scale": 0.05,
        "embedding_dropout": 0.5,
        "output_dropout": 0.5,
        "epochs": 39,
        "lr_decay": 0.8,
        "lr_decay_from": 6,
    },
    # The same, "large": 37.87 / 82.62 / 78.29.
    "large": {
        "units": 1500,
        "num_steps": 35,
        "init_scale": 0.04,
        "embedding_dropout": 0.65,
        "output_dropout": 0.65,
        "epochs": 55,
        "lr_decay": 1 / 1.15,
        "lr_decay_from": 14,
        "clip_norm": 10.0,
    },
    # The best found on PTB for one hour on two cores, by the search in examples/ptb/search_cpu_hour.py.
    "cpu-hour": {
        "layer_units": (300, 300),
        "tie_weights": True,
        "locked_dropout": True,
        "skip_connections": True,
        "embedding_dropout": 0.25,
        "embedding_row_dropout": 0.1,
        "dropconnect": 0.2,
        "output_dropout": 0.25,
        "last_dropout": 0.35,
        "batch_size": 32,
        "num_steps": 35,
        "optimizer": "adamw",
        "learning_rate": 8e-3,
        "weight_decay": 0.05,
        "lr_schedule": "cosine",
        "warmup_epochs": 0.5,
        "average_across_timesteps": True,
        "clip_norm": 1.0,
        "init_scale": 0.05,
        "embedding_init_scale": 0.1,
        "epochs": 42,
    },
    # Merity, Keskar and Socher 2018, PTB. After these 500 epochs their program is at 60.7 / 58.8 (table 1 of Yang et
    # al. 2018; its own page says 61.2 / 58.8); a second program, which fine-tunes the result and is not here, reaches
    # the paper's 60.0 / 57.3. Dropout, windows and schedule are the program's; it starts biases at random too, and
    # each LSTM's weights by its own 1 / sqrt(units).
    "awd": {
        "layer_units": (1150, 1150, 400),
        "tie_weights": True,
        "locked_dropout": True,
        "embedding_dropout": 0.4,
        "embedding_row_dropout": 0.1,
        "dropconnect": 0.5,
        "output_dropout": 0.25,
        "last_dropout": 0.4,
        "init_scale": 0.03,
        "embedding_init_scale": 0.1,
        "num_steps": 70,
        "variable_windows": True,
        "learning_rate": 30.0,
        "lr_schedule": "constant",
        "clip_norm": 0.25,
        "average_across_timesteps": True,
        "weight_decay": 1.2e-6,
        "activation_regularization": 2.0,
        "temporal_regularization": 1.0,
        "nonmonotone_interval": 5,
        "epochs": 500,
    },
    # Melis, Kocisky and Blunsom 2020, PTB, 24 M parameters: 51.4 / 50.1, from the settings published with it (RMSprop
    # is Adam without momentum). Theirs also resets one state in a hundred, gives each Mogrifier gate a bias, and
    # penalises weights inside the gradient (here: weight_decay, not tuned). 200,000 steps are 965 epochs.
    "mogrifier": {
        "units": 912,
        "input_gate": "capped",
        "skip_connections": True,
        "mogrifier_rounds": 5,
        "mogrifier_rank": 84,
        "tie_weights": True,
        "embedding_dropout": 0.729,
        "recurrent_dropout": 0.387,
        "output_dropout": 0.291,
        "last_dropout": 0.716,
        "forget_bias": 1.0,
        "init_scale": 0.03,
        "batch_size": 64,
        "num_steps": 70,
        "optimizer": "adamw",
        "learning_rate": 0.0023,
        "beta_1": 0.0,
        "weight_decay": 0.1,
        "lr_schedule": "constant",
        "clip_norm": 10.0,
        "nonmonotone_interval": 48,
        "epochs": 965,
    },
}


# Fields of the preset's own tokenizer; a different kind of tokenizer starts from the defaults.
_OF_THE_TOKENIZER = ("tokenizer", "vocab_size", "min_count", "lowercase", "split_punctuation")


def preset(name: str, **changes: Unpack[Overrides]) -> Config:
    """The configuration of a preset, with some fields changed.

    Example:
        >>> preset("medium", epochs=2).train.epochs
        2

    Raises:
        ConfigError: an unknown preset or field, a value out of range, or `units` where the preset sets `layer_units`.
    """
    if arguments.text(name, "name") not in PRESETS:
        raise ConfigError(f"Unknown preset {name!r}. Known presets: {', '.join(PRESETS)}.")
    fields = PRESETS[name]
    kind = changes.get("tokenizer", fields.get("tokenizer", "word"))
    if kind != fields.get("tokenizer", "word"):
        fields = {field: value for field, value in fields.items() if field not in _OF_THE_TOKENIZER}
    sums = changes.get("optimizer", "sgd") == "sgd" and not changes.get("average_across_timesteps")
    if kind in ("char", "byte") and sums and fields.get("optimizer", "sgd") == "sgd":
        fields = {"learning_rate": _SPELLING_RATE} | fields
    config = Config().replace(**(fields | dict(changes)))
    check_sizes(config.model, changes, f"preset {name}")
    return config
