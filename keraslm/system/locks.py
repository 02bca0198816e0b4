"""Locks on folders: one process at a time writes there, until it ends, however it ends."""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from keraslm.errors import KeraslmError, RunError
from keraslm.system import Log

_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


@contextmanager
def folder_lock(
    folder: Path,
    log: Log = lambda _: None,
    error: type[KeraslmError] = RunError,
    field: str = "run",
    file: str = ".lock",
) -> Iterator[None]:
    """Lock a folder while the block runs; the operating system frees the lock if the process is killed.

    On a file system without locks (some network file systems) the block runs without one, after a warning.

    Args:
        error: class of the error if the folder is locked.
        field: name of the argument with which the user chose the folder.
        file: the lock file, in the folder.

    Raises:
        KeraslmError: of class `error`, if a process holds the lock, possibly this one.
        OSError: the lock file cannot be created.
    """
    path = folder / file
    lock = FileLock(path, blocking=False, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise error(f"{folder} is locked by {_holder(path)}. Wait for it, or choose a different `{field}`.") from None
    except OSError as failure:
        if failure.errno not in _NO_LOCKS:
            raise
        log(f"{folder}: this file system has no locks. Do not start a second process that writes there.")
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
