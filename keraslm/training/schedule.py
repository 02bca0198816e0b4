"""What the rows of `metrics.jsonl` and the configuration decide: learning rates, averaging, the end. No Keras.

All functions are pure, so that a training that goes on decides as one that was never stopped. Epochs and windows count
from 0; `rows` are those that close the epochs before, in order, each with its `val_perplexity`.
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

        decay      lr * lr_decay ** max(epoch + 1 - lr_decay_from, 0)                        (PTB tutorial)
        plateau    lr * lr_decay ** (how often lr_patience epochs in a row have not beaten the best validation)
        constant   lr, and so for cosine, which falls by its windows' factors

    Args:
        config: of the training.
        epoch: counted from 0.
        rows: of the epochs before.

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
    """How often so many validations in a row were no better than the best before them."""
    found, waited, best = 0, 0, math.inf
    for perplexity in perplexities:
        waited = 0 if perplexity < best else waited + 1
        best = min(best, perplexity)
        if waited == patience:
            found, waited = found + 1, 0
    return found


def window_factors(config: TrainConfig, epoch: int, lengths: NDArray[Any]) -> NDArray[np.float64]:
    """Factor on the epoch's learning rate at each of its windows, `(windows,)`: the product of

        cosine     lr_final + (1 - lr_final) * (1 + cos(pi * p)) / 2, p the share of all windows that are behind
        warm-up    min(1, number of the window, from 1 / (warmup_epochs * windows))
        length     length / num_steps, with variable windows; not for SGD on a loss that is summed over steps

    Args:
        config: of the training.
        epoch: counted from 0.
        lengths: T of each of its windows, `(windows,)`.

    References: Loshchilov and Hutter 2017 for the cosine; Merity, Keskar and Socher 2018, section 4.1, for the length.

    Example:
        >>> window_factors(TrainConfig(lr_schedule="cosine", epochs=2), 0, np.array([20, 20]))
        array([1.        , 0.85355339])
    """
    windows = len(lengths)
    behind = epoch * windows + np.arange(windows, dtype=np.float64)
    factors: NDArray[np.float64] = np.ones(windows)
    if config.lr_schedule == "cosine":
        share = behind / (config.epochs * windows)
        factors *= config.lr_final + (1.0 - config.lr_final) * (1.0 + np.cos(np.pi * share)) / 2.0
    if config.warmup_epochs:
        factors *= np.minimum(1.0, (behind + 1.0) / (config.warmup_epochs * windows))
    if config.rate_follows_lengths:
        factors *= lengths / config.num_steps
    return factors


def averaging_since(interval: int | None, rows: Rows) -> int | None:
    """The epoch from which on weights are averaged; None as long as they are not.

    The one after the first whose validation is worse than the best of all before it but the last `interval`, as in the
    program of Merity et al. (`main.py` of salesforce/awd-lstm-lm).

    Args:
        interval: n of algorithm 1; None means never.
        rows: of all epochs that are over.

    Reference: Merity, Keskar and Socher 2018, algorithm 1.

    Example:
        >>> averaging_since(1, [{"val_perplexity": p} for p in (90.0, 80.0, 85.0, 81.0)])
        3
    """
    found = _validations(rows)
    if interval is None:
        return None
    for epoch in range(interval + 1, len(found)):
        if found[epoch] > min(found[: epoch - interval]):
            return epoch + 1
    return None


def ends_early(patience: int | None, rows: Rows) -> bool:
    """Whether so many epochs in a row have not beaten the best validation before them; None means never.

    Example:
        >>> ends_early(2, [{"val_perplexity": p} for p in (90.0, 80.0, 85.0, 81.0)])
        True
    """
    found = _validations(rows)
    return patience is not None and bool(found) and len(found) - 1 - int(np.argmin(found)) >= patience


def check_validated(config: TrainConfig, has_validation: bool) -> None:
    """Refuse what looks at validations where there is no text for them.

    Raises:
        ConfigError: names the flag.
    """
    asked = {
        "--lr-schedule plateau": config.lr_schedule == "plateau",
        "--early-stopping": config.early_stopping is not None,
        "--nonmonotone-interval": config.nonmonotone_interval is not None,
    }
    for flag in (flag for flag, given in asked.items() if given and not has_validation):
        raise ConfigError(f"{flag} looks at the validation after each epoch, but there is no validation text: --valid.")


def _validations(rows: Rows) -> list[float]:
    return [float(row["val_perplexity"]) for row in rows if row.get("val_perplexity") is not None]
