"""How a process ends when it is asked to: at a moment of its choosing, or by an exception that cleans up.

A training looks after each window at what `StopSignals` has received. Python runs its own signal handlers between two
bytecodes of the main thread, which may sit in one call for minutes (XLA compiles, a disk hangs in `fsync`). So the C
handler writes each signal's number into a socket, which a thread reads. SIGINT is blocked in the main thread: the
system hands a signal to that thread where it can, and there keeps it back as long as a network disk does not answer.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM

_LINES = {
    signal.SIGINT: "interrupted: finishing this window and saving; press Ctrl-C again to leave at once",
    signal.SIGTERM: "terminated: finishing this window and saving",
}
_LEFT = "left at once; the last checkpoint is intact"
_END = 0  # in the socket, where signals are numbers from 1
_STANDARD_ERROR = 2


def tell(line: str) -> None:
    """Write a line to standard error from any thread: past Python's locks, and not at all where it would wait."""
    start = "\n" if os.isatty(_STANDARD_ERROR) else ""  # below a progress bar
    with suppress(OSError):
        if select.select([], [_STANDARD_ERROR], [], 0)[1]:
            os.write(_STANDARD_ERROR, f"{start}keraslm: {line}\n".encode())


class StopSignals:
    """Within the block SIGTERM and the first SIGINT are only noted; the second SIGINT ends the process at once.

    It ends with code 130, whatever the main thread is doing. A signal that is ignored when the block is entered stays
    ignored, as under `nohup`. At the end of the block the handlers are those of before. In another thread than the
    main one nothing is installed, and `received` stays None: Python allows handlers in the main thread only.

    Forked children get the handlers of before. Programs that are started within the block have SIGINT blocked, so that
    Ctrl-C in a terminal leaves them to this process.

    A SIGINT that a process sends to itself may reach the other thread a moment later; SIGTERM is noted at once.

    Args:
        log: takes one line at the first SIGINT and one at the first SIGTERM, in a thread of its own; by default they
            go to standard error.

    Example:
        >>> with StopSignals() as signals:
        ...     for window in windows:
        ...         train(window)
        ...         if signals.received:
        ...             save()
        ...             raise Interrupted("Stopped; what was trained is saved.", signals.received)
    """

    def __init__(self, log: Callable[[str], None] = tell):
        self._say = log
        self._seen: list[int] = []
        self._before: dict[signal.Signals, Any] = {}
        self._sockets: tuple[socket.socket, ...] = ()
        self._undo = ExitStack()

    @property
    def received(self) -> signal.Signals | None:
        """The first signal that came, also after the block; None without one."""
        return signal.Signals(self._seen[0]) if self._seen else None

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            with ExitStack() as undo:
                self._install(undo)
                self._undo = undo.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._undo.close()

    def _install(self, undo: ExitStack) -> None:
        # Handlers come first and go last: between them and the socket a signal is noted, if not told.
        for number in _LINES:
            before = signal.getsignal(number)
            if before not in (signal.SIG_IGN, None):
                self._before[number] = before
                undo.callback(signal.signal, number, before)
                signal.signal(number, self._note)
        if not self._before:
            return
        self._sockets = ears, mouth = socket.socketpair()
        undo.callback(self._close)
        mouth.setblocking(False)
        _entered.append(self)
        undo.callback(_entered.remove, self)
        thread = threading.Thread(target=self._listen, args=(ears,), name="signals", daemon=True)
        thread.start()
        undo.callback(thread.join)
        undo.callback(mouth.send, bytes([_END]))
        if signal.SIGINT in self._before:
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            undo.callback(signal.pthread_sigmask, signal.SIG_SETMASK, blocked)
        undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False))

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._seen.append(number)

    def _listen(self, ears: socket.socket) -> None:
        told: set[int] = set()
        while True:
            for number in ears.recv(4096):
                if number == _END:
                    return
                if number == signal.SIGINT in told:
                    tell(_LEFT)
                    os._exit(INTERRUPTED)
                if number in self._before and number not in told:
                    told.add(number)
                    self._seen.append(number)
                    with suppress(Exception):  # whatever becomes of the line, this thread must hear the next signal
                        self._say(_LINES[signal.Signals(number)])

    def _close(self) -> None:
        for end in self._sockets:
            end.close()

    def _forget(self) -> None:
        """In a forked child: let go of what is the parent's, whose socket a signal to the child would write into."""
        signal.set_wakeup_fd(-1)
        for number, before in self._before.items():
            signal.signal(number, before)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._before.keys())
        self._close()
        self._undo = ExitStack()


_entered: list[StopSignals] = []


def _forget_in_child() -> None:
    while _entered:
        _entered.pop()._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Within the block SIGTERM is an exception, so that whoever holds something lets go of it; exit code 143.

    In another thread than the main one nothing is installed; a SIGTERM that is ignored stays ignored.

    Raises:
        SystemExit: of code `TERMINATED`.
    """

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
