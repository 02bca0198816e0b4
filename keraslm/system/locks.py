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
    """Hold the lock of a run folder while the block runs; a RunError if a process holds it, possibly this one."""

    def refusal(holder: str) -> RunError:
        return RunError(f"{folder} is locked by {holder}. Wait for it, or choose a different `run`.")

    with hold_lock(folder / ".lock", refusal, log):
        yield


@contextmanager
def hold_lock(path: Path, refusal: Callable[[str], KeraslmError], log: Log = lambda _: None) -> Iterator[None]:
    """Hold a lock file while the block runs; the operating system frees the lock if the process is killed.

    On a file system without locks (some network file systems) the block runs without one, after a warning.

    Args:
        path: the lock file, in a folder that exists.
        refusal: makes the error from a description of the process that holds the lock.
        log: called with the warning.

    Raises:
        KeraslmError: the error from `refusal`, if the lock is held.
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
        with suppress(OSError):  # a full disk: the lock works without a description
            since = datetime.now().strftime("%Y-%m-%d %H:%M")
            holder = f"process {os.getpid()} on host {platform.node()}, which has been working there since {since}\n"
            path.write_text(holder, encoding="utf-8")
        yield
    finally:
        if lock.is_locked:  # False in a forked child
            with suppress(OSError):  # a failing disk
                path.unlink()
            lock.release()


def _holder(path: Path) -> str:
    try:
        text = path.read_bytes()[:300].decode(errors="replace").strip()
    except OSError:
        text = ""
    return text if text.isprintable() and text else "another process"
