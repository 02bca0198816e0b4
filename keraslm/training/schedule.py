"""Learning rates, averaging and early stopping, as functions of the configuration and the metrics so far.

Epochs and windows are counted from 0; `rows` are the rows of `metrics.jsonl` of the previous epochs, in order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.config import TrainConfig
from keraslm.errors import ConfigError

Rows = Sequence[Mapping[str, Any]]


def learning_rate_of(config: TrainConfig, epoch: int, rows: Rows = ()) -> float:
    """Learning rate of an epoch, before the factors of its windows.

        decay              lr * lr_decay ** max(epoch + 1 - lr_decay_from, 0)                        (PTB tutorial)
        plateau            lr * lr_decay ** (number of times that lr_patience epochs did not improve the validation)
        others             lr

    Example:
        >>> [learning_rate_of(TrainConfig(), epoch) for epoch in range(6)]
        [1.0, 1.0, 1.0, 1.0, 0.5, 0.25]
    """
    decays = 0
    if config.lr_schedule == "decay":
        decays = max(epoch + 1 - config.lr_decay_from, 0)
    elif config.lr_schedule == "plateau":
        decays = _plateaus(_validations(rows[:epoch]), config.lr_patience)
    return float(config.learning_rate * config.lr_decay**decays)


def _plateaus(perplexities: list[float], patience: int) -> int:
    """How often `patience` validations in a row were no better than the best one before them."""
    found, waited, best = 0, 0, math.inf
    for perplexity in perplexities:
        waited = 0 if perplexity < best else waited + 1
        best = min(best, perplexity)
        if waited == patience:
            found, waited = found + 1, 0
    return found


def window_factors(config: TrainConfig, epoch: int, lengths: NDArray[Any]) -> NDArray[np.float64]:
    """Factor on the learning rate for each window of an epoch, `(windows,)`: the product of

        cosine     lr_final + (1 - lr_final) * (1 + cos(pi * p)) / 2, with p the share of all windows that are finished
        luong234   lr_decay ** floor(12 * p - 8) from p = 2/3 on
        warm-up    min(1, number of the window from 1 / (warmup_epochs * windows))
        length     length / num_steps, with variable windows; not for SGD on a loss that is summed over steps

    `lengths` holds the T of each window, `(windows,)`. References: Loshchilov and Hutter 2017 for the cosine; Merity,
    Keskar and Socher 2018, section 4.1, for the length; `model.py` of TensorFlow's NMT tutorial for luong234, whose
    fourth decay falls on the end.

    Example:
        >>> window_factors(TrainConfig(lr_schedule="cosine", epochs=2), 0, np.array([20, 20]))
        array([1.        , 0.85355339])
    """
    windows = len(lengths)
    finished = epoch * windows + np.arange(windows, dtype=np.float64)
    factors: NDArray[np.float64] = np.ones(windows)
    total = config.epochs * windows
    if config.lr_schedule == "cosine":
        factors *= config.lr_final + (1.0 - config.lr_final) * (1.0 + np.cos(np.pi * finished / total)) / 2.0
    elif config.lr_schedule == "luong234":
        factors *= config.lr_decay ** np.maximum(12 * finished // total - 8, 0)
    if config.warmup_epochs:
        factors *= np.minimum(1.0, (finished + 1.0) / (config.warmup_epochs * windows))
    if config.rate_follows_lengths:
        factors *= lengths / config.num_steps
    return factors


def averaging_since(interval: int | None, rows: Rows) -> int | None:
    """The first epoch whose weights are averaged; None if averaging has not started.

    Averaging starts after the first validation that is worse than the best value from more than `interval` epochs ago
    (Merity, Keskar and Socher 2018, algorithm 1, whose n is `interval`; `main.py` of salesforce/awd-lstm-lm).

    Example:
        >>> averaging_since(1, [{"val_perplexity": p} for p in (90.0, 80.0, 85.0, 81.0)])
        3
    """
    if interval is None:
        return None
    found = _validations(rows)
    worse = (e for e in range(interval + 1, len(found)) if found[e] > min(found[: e - interval]))
    return next((epoch + 1 for epoch in worse), None)


def early_stop(patience: int | None, rows: Rows) -> str:
    """A line if the last `patience` validations are no better than the best one before them; else empty."""
    found = _validations(rows)
    best = int(np.argmin(found)) + 1 if found else 0
    if patience is None or len(found) - best < patience:
        return ""
    return (
        f"stopped   early after epoch {len(found)}: no validation better than that of epoch {best} "
        f"(`early_stopping={patience}`)"
    )


def check_validated(config: TrainConfig, has_validation: bool) -> None:
    """Raise `ConfigError` if a field needs a validation text and there is none."""
    needed = {
        '`lr_schedule="plateau"`': config.lr_schedule == "plateau",
        "`early_stopping`": config.early_stopping is not None,
        "`nonmonotone_interval`": config.nonmonotone_interval is not None,
    }
    for name, given in needed.items():
        if given and not has_validation:
            raise ConfigError(
                f"{name} needs a validation after each epoch, but there is no validation text: give `valid`."
            )


def _validations(rows: Rows) -> list[float]:
    return [float(row["val_perplexity"]) for row in rows if row.get("val_perplexity") is not None]
