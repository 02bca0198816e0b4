"""Stop a training run that diverged before it overwrites good files, and name the step and the cause."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keraslm.errors import NonFiniteLossError
from keraslm.optimizers.clipped import ClippedOptimizer
from keraslm.system import Log
from keraslm.training.progress import Logs
from keraslm.training.variables import synchronise


class StopOnNonFiniteLoss(keras.callbacks.Callback):
    """Raise `NonFiniteLossError` before weights or metrics of a diverged run are saved.

    An epoch has `windows` windows. Losses are checked at its end, after `every` windows, and before the rows of
    `metrics.jsonl`. In between, the logs of each window stay on the device: a failed check searches them for the first
    window that diverged.
    """

    def __init__(self, windows: int, every: int = 50, log_every: int | None = None):
        super().__init__()
        self.windows, self.every, self.log_every = windows, every, log_every
        self._unread: list[Logs] = []

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._unread = []

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._unread.append(logs)
        if any(step and (batch + 1) % step == 0 for step in (self.every, self.log_every)):
            self._check(logs)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._check(logs)

    def _check(self, logs: Logs) -> None:
        if found := _not_finite(logs):
            synchronise(self.model)
            raise self._error(*found)
        self._unread = []

    def _error(self, name: str, value: float) -> NonFiniteLossError:
        optimizer, step = self.model.optimizer, self.model.optimizer.value_of("iterations")
        for offset, logs in enumerate(self._unread, start=1 - len(self._unread)):
            if found := _not_finite(logs):
                name, value, step = *found, step + offset
                break
        size = " (more than 88 nats per token)" if name.endswith("perplexity") and value == math.inf else ""
        when = "after" if name.startswith("val_") else "at"
        return _divergence(f"The {name} became {value}{size}", when, step, optimizer, self.windows)


class NoteGuessing(keras.callbacks.Callback):
    """Say once that the training is worse than guessing: its perplexity exceeds the size of the vocabulary.

    The first epoch, which begins with random weights, counts only if it is the last one.
    """

    def __init__(self, vocab_size: int, epochs: int, log: Log):
        super().__init__()
        self.vocab_size, self.epochs, self.log = vocab_size, epochs, log
        self._said = False

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        perplexity = float((logs or {}).get("perplexity", 0.0))
        if perplexity > self.vocab_size and not self._said and (epoch or self.epochs == 1):
            self._said = True
            rate = self.model.optimizer.value_of("learning_rate")
            self.log(
                f"          perplexity {perplexity:.2f} is worse than guessing one of the {self.vocab_size:,} tokens: "
                f"try a lower `learning_rate` than {rate:g}"
            )


def _not_finite(logs: Logs) -> tuple[str, float] | None:
    """Name and value of the first loss or perplexity that is NaN or infinite; waits for the device."""
    for name, value in (logs or {}).items():
        if name.endswith(("loss", "perplexity")) and not math.isfinite(float(value)):
            return name, float(value)
    return None


def check_finite(tensors: Mapping[str, NDArray[Any]], optimizer: ClippedOptimizer, windows: int) -> None:
    """Raise `NonFiniteLossError` if a tensor to be written contains NaN or infinity, although the loss was finite.

    On JAX, call `synchronise` before; `windows` is the number of windows per epoch.
    """
    for name, value in tensors.items():
        bad = int(value.size - np.isfinite(value).sum())
        if bad:
            found = f"{name} contains NaN or infinity ({bad:,} of {value.size:,} values)"
            raise _divergence(found, "after", optimizer.value_of("iterations"), optimizer, windows)


def _divergence(found: str, when: str, step: int, optimizer: ClippedOptimizer, windows: int) -> NonFiniteLossError:
    """The error for a step counted from 1; `when` is "at" the step, before its update, or "after" it."""
    finite, clip_norm = optimizer.value_of("finite_steps"), optimizer.clip_norm
    norm, rate = f"{optimizer.value_of('gradient_norm'):.4g}", optimizer.value_of("learning_rate")
    if finite == optimizer.value_of("iterations"):
        gradient = f"The norm of every gradient was finite, the last one {norm}"
    elif finite == 0:
        gradient = "The norm of the first gradient was not finite"
    else:
        which = "its gradient" if finite + 1 == step else f"the gradient of {_place(finite + 1, windows)}"
        gradient = f"The norm of {which} was not finite; the previous one was {norm}"
    clip = f"`clip_norm` is {clip_norm:g}" if clip_norm else "gradients are not clipped"
    if finite == 0 or (when, step) == ("at", 1):
        advice = 'Try a smaller `init_scale`, and `dtype="float32"` if it is bfloat16.'
    else:
        lower = "a lower `clip_norm`" if clip_norm else "`clip_norm=5`"
        advice = f"Try a lower `learning_rate`, {lower} or a smaller `init_scale`."
    return NonFiniteLossError(
        f"{found} {when} {_place(step, windows)}. {gradient} ({clip}, the learning rate is "
        f"{rate:g}). The last checkpoint and the weights of the last good epoch, if any, are "
        f"kept. {advice}"
    )


def _place(step: int, windows: int) -> str:
    epoch, window = divmod(step - 1, windows)
    return f"window {window + 1:,} of epoch {epoch + 1}"
