"""Progress of a training run, shown without making the device wait."""

from __future__ import annotations

import time
from typing import Any

import keras

Logs = dict[str, Any] | None

TOKENS_PER_SECOND = "tokens_per_second"


class UnreadLogs(keras.callbacks.CallbackList):
    """A callback list that passes on the logs of each window unread, as numbers of the backend.

    Keras converts them to Python floats after every window, so host and device wait for each other. Here only a
    callback that reads a value waits: `float(value)`.

    If a window takes several steps of `fit()`, its `parts`, the callbacks see the window and not its steps.
    """

    first = 0  # added to each window number, for `fit()` over the rest of an epoch
    parts = 1

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        if batch % self.parts == 0:
            super().on_train_batch_begin(self.first + batch // self.parts, logs)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        if (batch + 1) % self.parts:
            return
        for callback in self.callbacks:
            callback.on_train_batch_end(self.first + batch // self.parts, logs)

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        for callback in self.callbacks:
            callback.on_test_batch_end(batch, logs)


class Throughput(keras.callbacks.Callback):
    """Add `tokens_per_second` to the logs of an epoch: predicted tokens over the time of training.

    The first window, which may compile, and the validation do not count. A window predicts `tokens` tokens on average.
    """

    def __init__(self, tokens: float):
        super().__init__()
        self.tokens = tokens
        self._first, self._windows, self._start, self._seconds = 0, 0, 0.0, 0.0
        self._logs: Logs = None

    @property
    def rate(self) -> float:
        """Tokens per second of the epoch so far, including windows that the device may not have finished."""
        counted = self._windows - self._first - 1
        seconds = self._seconds or time.perf_counter() - self._start
        return counted * self.tokens / seconds if counted > 0 and seconds > 0 else 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._first, self._windows, self._seconds = 0, 0, 0.0

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        is_first, self._windows, self._logs = not self._windows, batch + 1, logs
        if is_first:
            self._first = batch
            self._wait()
            self._start = time.perf_counter()

    def on_test_begin(self, logs: Logs = None) -> None:
        self._stop()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._stop()
        if logs is not None and self.rate:
            logs[TOKENS_PER_SECOND] = self.rate

    def _stop(self) -> None:
        if self._windows and not self._seconds:
            self._wait()
            self._seconds = time.perf_counter() - self._start

    def _wait(self) -> None:
        for value in (self._logs or {}).values():
            float(value)


class Progress(keras.callbacks.ProgbarLogger):
    """Keras' progress bar with tokens per second, updated every `interval` seconds; an update waits for the device."""

    def __init__(self, throughput: Throughput, interval: float = 0.5):
        super().__init__()
        self.throughput, self.interval = throughput, interval
        self._shown = 0.0

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self.seen = batch + 1
        if self.verbose != 1 or time.perf_counter() - self._shown < self.interval:
            return
        values = [(name, float(value)) for name, value in sorted((logs or {}).items())]
        if self.throughput.rate:
            values.append((TOKENS_PER_SECOND, round(self.throughput.rate)))
        self.progbar.update(batch + 1, values, finalize=False)
        self._shown = time.perf_counter()
