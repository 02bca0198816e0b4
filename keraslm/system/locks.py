"""Locks on folders: one process at a time writes there, until it ends, however it ends."""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from keraslm.errors import KeraslmError, RunError

Log = Callable[[str], None]

_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


@contextmanager
def run_lock(folder: Path, log: Log = lambda _: None) -> Iterator[None]:
    """Keep every other trainer out of a run folder while the block runs; see `hold_lock`.

    Raises:
        RunError: a process holds the lock, possibly this one.

    Example:
        >>> with run_lock(Path("runs/mine")):
        ...     train()
    """

    def refusal(holder: str) -> RunError:
        return RunError(f"{folder} is locked by {holder}. One trainer per run: wait for it, or choose another `run`.")

    with hold_lock(folder / ".lock", refusal, log):
        yield


@contextmanager
def hold_lock(path: Path, refusal: Callable[[str], KeraslmError], log: Log = lambda _: None) -> Iterator[None]:
    """Hold a lock file while the block runs.

    The operating system frees the lock when the process ends, also by SIGKILL, and also if its children live on. The
    content of the file describes the holder and means nothing after that. The file is removed at the end of the block.

    A file system without locks (some network file systems) does not stop anybody: the block runs, and `log` receives
    a warning.

    Args:
        path: the lock file, in a folder that exists.
        refusal: makes the error from a description of the process that holds the lock.
        log: takes the warning.

    Raises:
        KeraslmError: `refusal`'s, if the lock is held.
        OSError: the lock file cannot be made.
    """
    lock = FileLock(path, blocking=False, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise refusal(_holder(path)) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        log(f"{path.parent}: this file system has no locks. Do not start a second process that writes there.")
        yield
        return
    try:
        with suppress(OSError):  # a full disk: the lock holds without a description
            path.write_text(_description(), encoding="utf-8")
        yield
    finally:
        if lock.is_locked:  # False in a forked child
            with suppress(OSError):  # a failing disk
                path.unlink()
            lock.release()


def _description() -> str:
    started = datetime.now().strftime("%Y-%m-%d %H:%M")
    return f"process {os.getpid()} on host {platform.node()}, which has been working there since {started}\n"


def _holder(path: Path) -> str:
    try:
        text = path.read_bytes()[:300].decode(errors="replace").strip()
    except OSError:
        text = ""
    return text if text.isprintable() and text else "another process"
