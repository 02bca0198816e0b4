"""What happens when a training diverges: it stops before anything good is overwritten, and names the step and why.

Whoever writes weights calls `check_finite` first; `StopOnNonFiniteLoss` looks at the losses in between. Both end with
the same sentence. Its step comes from `ClippedOptimizer`, which counts on the device; window and epoch follow from the
count of steps alone, so that they are right in a training that was resumed in the middle of an epoch too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keraslm.errors import NonFiniteLossError
from keraslm.optimizers.clipped import ClippedOptimizer
from keraslm.training.progress import Logs
from keraslm.training.variables import synchronise

_KEPT = "The last checkpoint and the weights of the last good epoch, if there are any, are kept."
_ADVICE_UNTRAINED = "Try a smaller --init-scale, and --dtype float32 where it is bfloat16."


class StopOnNonFiniteLoss(keras.callbacks.Callback):
    """Raise `NonFiniteLossError` before weights or metrics of a diverged training join the good ones.

    Between looks it keeps what each window reported, unread and on the device, and searches it when a look finds
    something: so the first window that went wrong is known, and none is waited for.

    Args:
        windows: that an epoch trains on.
        every: windows between looks; a look waits for the device, so not every window. An epoch's end is always
            looked at, before its weights are saved.
        log_every: windows between rows in `metrics.jsonl`, which read the loss anyway; None means none.
    """

    def __init__(self, windows: int, every: int = 50, log_every: int | None = None):
        super().__init__()
        self.windows = windows
        self.every, self.log_every = every, log_every
        self._unread: list[Logs] = []

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._unread = []

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._unread.append(logs)
        if any(step and (batch + 1) % step == 0 for step in (self.every, self.log_every)):
            self._look(logs)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._look(logs)

    def _look(self, logs: Logs) -> None:
        if found := _not_finite(logs):
            synchronise(self.model)
            raise self._error(*found)
        self._unread = []

    def _error(self, name: str, value: float) -> NonFiniteLossError:
        optimizer, step = self.model.optimizer, int(self.model.optimizer.iterations)
        for later, logs in enumerate(self._unread, start=1 - len(self._unread)):
            if found := _not_finite(logs):
                name, value, step = *found, step + later
                break
        beyond = " (more than 88 nats a token)" if name.endswith("perplexity") and value == math.inf else ""
        when = "after" if name.startswith("val_") else "at"
        return _divergence(f"The {name} became {value}{beyond}", when, step, optimizer, self.windows)


def _not_finite(logs: Logs) -> tuple[str, float] | None:
    """Name and value of the first loss or perplexity that is NaN or infinite; waits for the device."""
    for name, value in (logs or {}).items():
        if name.endswith(("loss", "perplexity")) and not math.isfinite(float(value)):
            return name, float(value)
    return None


def check_finite(tensors: Mapping[str, NDArray[Any]], optimizer: ClippedOptimizer, windows: int) -> None:
    """Refuse tensors of a training that are not fit to be written.

    The loss of an epoch's last window may be finite and its update not: the loss is that of the weights before it.

    Args:
        tensors: what is about to be written, by name.
        optimizer: that made it; on JAX with its variables synchronised (`model.jax_state_sync()`).
        windows: that an epoch trains on.

    Raises:
        NonFiniteLossError: a tensor holds NaN or infinity; names the first such tensor, the step and what to try.

    Example:
        >>> check_finite({"logits/bias": np.array([1.0, np.nan])}, model.optimizer, windows=2323)
        Traceback (most recent call last):
        keraslm.errors.NonFiniteLossError: logits/bias holds NaN or infinity (1 of 2 values) after window 137 of epoch
        3. Its gradient had no finite norm; the one before it had 812.3 (--clip-norm is 5; the learning rate is 1). ...
    """
    for name, value in tensors.items():
        bad = int(value.size - np.isfinite(value).sum())
        if bad:
            found = f"{name} holds NaN or infinity ({bad:,} of {value.size:,} values)"
            raise _divergence(found, "after", int(optimizer.iterations), optimizer, windows)


def _divergence(found: str, when: str, step: int, optimizer: ClippedOptimizer, windows: int) -> NonFiniteLossError:
    """The error: what was found, at which step, the norm of the last good gradient, what is kept, what to try.

    Args:
        found: what is not finite.
        when: "at" a step, before its update, or "after" it.
        step: counted from 1.
        optimizer: as it is now, some steps later it may be.
        windows: that an epoch trains on.
    """
    done, finite = int(optimizer.iterations), int(optimizer.finite_steps)
    norm = f"{float(optimizer.gradient_norm):.4g}"
    if finite == done:
        gradient = f"Every gradient so far had a finite norm, the last one {norm}"
    elif finite == 0:
        gradient = "The very first gradient had no finite norm"
    else:
        which = "Its gradient" if finite + 1 == step else f"The gradient of {_place(finite + 1, windows)}"
        gradient = f"{which} had no finite norm; the one before it had {norm}"
    clip = f"--clip-norm is {optimizer.clip_norm:g}" if optimizer.clip_norm else "--clip-norm is 0, no clipping"
    settings = f"{clip}; the learning rate is {float(optimizer.learning_rate):g}"
    advice = _ADVICE_UNTRAINED if finite == 0 or (when, step) == ("at", 1) else _advice(optimizer)
    place = _place(step, windows)
    return NonFiniteLossError(f"{found} {when} {place}. {gradient} ({settings}). {_KEPT} {advice}")


def _place(step: int, windows: int) -> str:
    epoch, window = divmod(step - 1, windows)
    return f"window {window + 1:,} of epoch {epoch + 1}"


def _advice(optimizer: ClippedOptimizer) -> str:
    clip = "a lower --clip-norm" if optimizer.clip_norm else "--clip-norm 5"
    return f"Try a lower --learning-rate, {clip} or a smaller --init-scale."
