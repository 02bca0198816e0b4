"""One trainer a run folder: a lock that the system lets go of when its process ends, in whatever way."""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from keraslm.errors import RunError

Log = Callable[[str], None]

LOCK = ".lock"
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_held: set[int] = set()  # descriptors


@contextmanager
def run_lock(folder: Path, log: Log = lambda _: None) -> Iterator[None]:
    """Keep every other trainer out of a run folder while the block runs.

    The lock is `flock(2)` on the file `.lock` in the folder. It is free as soon as the process that took it is gone,
    killed by SIGKILL included, also when children of it live on. The file says who holds the lock, for people; left
    behind by a killed process it means nothing. At the end of the block it is removed.

    Where there are no locks (some network file systems, Windows) the block runs all the same: whoever trains there
    would have no other choice, and two trainers on one run are rare. `log` is told.

    Args:
        folder: the run folder, which exists.
        log: takes the sentence that a second trainer would go unnoticed.

    Raises:
        RunError: somebody holds the lock, another process or this one.
        OSError: the file cannot be made or written.

    Example:
        >>> with run_lock(Path("runs/mine")):
        ...     train()
    """
    try:
        descriptor = _locked(folder, log)
    except ImportError:  # no fcntl
        log(_unnoticed(folder))
        yield
        return
    try:
        _sign(descriptor)
        yield
    finally:
        if descriptor in _held:  # and not in a child, whose parent holds it
            with suppress(OSError):  # of a disk that fails; the file means nothing from now on
                (folder / LOCK).unlink()
            _let_go(descriptor)


def _locked(folder: Path, log: Log) -> int:
    import fcntl

    while True:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        _held.add(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _holder(descriptor)
            _let_go(descriptor)
            raise RunError(
                f"{folder} is locked by {holder}. One trainer a run: wait for it, or choose another --run."
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                _let_go(descriptor)
                raise
            log(_unnoticed(folder))
            return descriptor
        if os.fstat(descriptor).st_nlink:
            return descriptor
        _let_go(descriptor)  # whoever held it has just removed the file


def _unnoticed(folder: Path) -> str:
    return f"{folder}: no locks on this file system; do not start a second trainer there, nothing would stop it."


def _sign(descriptor: int) -> None:
    started = datetime.now().strftime("%Y-%m-%d %H:%M")
    text = f"process {os.getpid()} on host {platform.node()}, which has been training there since {started}\n"
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)


def _holder(descriptor: int) -> str:
    text = os.pread(descriptor, 300, 0).decode(errors="replace").strip()
    return text if text and text.isprintable() else "another process"


def _let_go(descriptor: int) -> None:
    _held.discard(descriptor)
    os.close(descriptor)


def _close_in_child() -> None:
    for descriptor in [*_held]:
        _let_go(descriptor)


# A forked child shares the lock, and would keep it when its parent is gone.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
