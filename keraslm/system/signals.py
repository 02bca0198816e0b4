"""Stopping by SIGTERM and SIGINT: the process notes them until it is ready, or ends by an exception.

Python runs its handlers between two bytecodes of the main thread, which may spend minutes in one call (XLA compiles).
Therefore the C handler writes each signal's number into a socket, which a thread reads. SIGINT is blocked in the main
thread, so that the system delivers it to a different thread.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM

_LINES = {
    signal.SIGINT: "interrupted: finishing this window and saving; press Ctrl-C again to leave at once",
    signal.SIGTERM: "terminated: finishing this window and saving",
}
_END = 0  # in the socket, where signals are numbers from 1
_STANDARD_ERROR = 2


def tell(line: str) -> None:
    """Write a line to standard error from any thread, without Python's locks; skip it if the write would block."""
    start = "\n" if os.isatty(_STANDARD_ERROR) else ""  # below a progress bar
    with suppress(OSError):
        if select.select([], [_STANDARD_ERROR], [], 0)[1]:
            os.write(_STANDARD_ERROR, f"{start}keraslm: {line}\n".encode())


class StopSignals:
    """Within the block SIGTERM and the first SIGINT are only noted; the second SIGINT ends the process with code 130.

    Ignored signals stay ignored, as under `nohup`. Outside the main thread, where Python allows no handlers, the block
    has no effect. Forked children get the previous handlers; programs started in the block ignore Ctrl-C.

    Args:
        log: called at the first SIGINT and at the first SIGTERM, in a separate thread.

    Attributes:
        received: the first signal, also after the block; None without one.

    Example:
        >>> with StopSignals() as signals:
        ...     for window in windows:
        ...         train(window)
        ...         if signals.received:
        ...             save()
        ...             raise Interrupted("Stopped; the progress is saved.", signals.received)
    """

    def __init__(self, log: Callable[[str], None] = tell):
        self.received: signal.Signals | None = None
        self._log = log
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        handlers = {number: signal.getsignal(number) for number in _LINES}
        if threading.current_thread() is threading.main_thread():
            self._before = {n: before for n, before in handlers.items() if before not in (signal.SIG_IGN, None)}
        if self._before:
            self._ears, self._mouth = socket.socketpair()
            self._mouth.setblocking(False)
            self._thread = threading.Thread(target=self._listen, name="signals", daemon=True)
            self._thread.start()
            _active.append(self)
            for number in self._before:
                signal.signal(number, self._note)
            if hasattr(signal, "pthread_sigmask"):
                self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT} & self._before.keys())
            self._wakeup = signal.set_wakeup_fd(self._mouth.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._before:
            self._restore()

    def _restore(self) -> None:
        """Undo `__enter__`, also in a forked child, which has no second thread."""
        signal.set_wakeup_fd(self._wakeup)
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)  # a pending SIGINT is noted here
        if self._thread.is_alive():
            self._mouth.send(bytes([_END]))
            self._thread.join()
        for number, before in self._before.items():
            signal.signal(number, before)
        for end in (self._ears, self._mouth):
            end.close()
        _active.remove(self)

    def _note(self, number: int, frame: FrameType | None = None) -> None:
        self.received = self.received or signal.Signals(number)

    def _listen(self) -> None:
        logged: set[int] = set()
        while (number := self._ears.recv(1)[0]) != _END:
            if number == signal.SIGINT in logged:
                tell("left at once; the last checkpoint is intact")
                os._exit(INTERRUPTED)
            if number in self._before and number not in logged:
                logged.add(number)
                self._note(number)
                with suppress(Exception):  # this thread must survive to see the next signal
                    self._log(_LINES[signal.Signals(number)])


_active: list[StopSignals] = []


def _restore_in_child() -> None:
    while _active:
        signals = _active[-1]
        signals._restore()
        signals._before = {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restore_in_child)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Within the block SIGTERM raises `SystemExit` with code `TERMINATED`, if `StopSignals` would note it."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(TERMINATED)

    before = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or before in (signal.SIG_IGN, None):
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
