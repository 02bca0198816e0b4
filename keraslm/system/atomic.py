"""Files and folders that appear complete or not at all: written beside the target, flushed to the disk, renamed.

Wherever the process fails or is killed, the target is the old or the new file. If flushing the folder after the rename
fails, an error is raised although the new file is there: a power failure may bring the old one back.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from keraslm.errors import WriteError

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

SUFFIX = ".keraslm"  # of temporary files and folders
_SYNCS = 8  # files that are flushed at a time

_UMASK = os.umask(0)  # read once: reading it means setting it, for every thread of the process
os.umask(_UMASK)
_REMEDIES = {
    errno.ENOSPC: "Free some space and try again.",
    errno.EDQUOT: "The quota is used up: free some space and try again.",
    errno.EROFS: "Choose a folder on a disk that can be written.",
    errno.EACCES: "Choose a folder that you may write to.",
    errno.EPERM: "Choose a folder that you may write to.",
    errno.EIO: "The disk or its connection fails: choose a different disk.",
}


@contextmanager
def writing(path: Path, kept: str = "") -> Iterator[None]:
    """Turn an `OSError` of the block, except that of a closed pipe, into a `WriteError` with a remedy.

    `kept` is a sentence on what is still intact.

    Example:
        >>> with writing(Path("model.onnx"), "The older file is untouched."):
        ...     Path("model.onnx").write_bytes(data)
        keraslm.errors.WriteError: model.onnx: cannot be written (No space left on device). The older file is
        untouched. Free some space and try again.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        sentences = (f"{path}: cannot be written ({error.strerror or error}).", kept, _REMEDIES.get(error.errno or 0))
        raise WriteError(" ".join(filter(None, sentences))) from error


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary path that replaces `target` when the block succeeds and is removed when it fails.

    An existing target keeps its permissions.

    Example:
        >>> with atomic_path(Path("model.onnx")) as path:
        ...     path.write_bytes(data)
    """
    with temporary_file(target) as temporary:
        yield temporary
        replace_all([(temporary, target)])


def replace_all(*stages: Sequence[tuple[Path, Path]]) -> None:
    """Replace targets by complete temporary files, given as pairs of `(temporary, target)`.

    All files are on the disk before the first is renamed, and the names of each stage before those of the next. An
    existing target keeps its permissions. The disk flushes many files at a time: 20 take little longer than one.
    """
    pairs = [pair for stage in stages for pair in stage]
    for temporary, target in pairs:
        temporary.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_UMASK)
    sync_files([temporary for temporary, _ in pairs])
    for stage in stages:
        for temporary, target in stage:
            temporary.replace(target)
        for folder in {target.parent: None for _, target in stage}:
            sync_folder(folder)


@contextmanager
def temporary_file(target: Path) -> Iterator[Path]:
    """An empty file `.NAME.RANDOM.keraslm` beside `target`, removed at the end of the block if it is still there."""
    with _temporary(target, _open_new) as path:
        yield path


def sync_file(path: Path) -> None:
    """Flush the content of a file to the disk."""
    with path.open("rb+" if os.name == "nt" else "rb") as file:
        os.fsync(file.fileno())


def sync_files(paths: Sequence[Path]) -> None:
    """Flush the content of files to the disk, several at a time."""
    if len(paths) == 1:
        sync_file(paths[0])
        return
    with ThreadPoolExecutor(_SYNCS) as threads:
        for _ in threads.map(sync_file, paths):
            pass


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, if its file system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems
            raise
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder with its missing parents, and flush their names to the disk."""
    for path in reversed([path for path in (folder, *folder.parents) if not path.is_dir()]):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes `target` when the block succeeds and is removed when it fails.

    If a different process made `target` meanwhile, it stays.
    """
    make_folder(target.parent)
    with _temporary(target, _make_new) as temporary:
        yield temporary
        for path in temporary.iterdir():
            sync_file(path)
        sync_folder(temporary)
        try:
            temporary.rename(target)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
    sync_folder(target.parent)


def remove_folder(folder: Path, names: Iterable[str]) -> None:
    """Remove the files of a folder whose names match one of some patterns; and the folder, if no others are left."""
    for path in [path for name in names for path in folder.glob(name)]:
        path.unlink()
    if not any(folder.iterdir()) and not folder.is_symlink():
        folder.rmdir()


@contextmanager
def _temporary(target: Path, create: Callable[[Path], int | None]) -> Iterator[Path]:
    """A new file or folder, locked until this process ends or the block does."""
    while True:
        path = target.parent / f".{target.name}.{secrets.token_hex(4)}{SUFFIX}"
        handle = create(path)
        if handle is None:
            break
        hold(handle)
        if path.exists():  # no other process removed it before it was locked
            break
        os.close(handle)
    try:
        yield path
        if path.exists():
            _remove(path)
    except BaseException:
        with suppress(OSError):  # report the first error
            _remove(path)
        raise
    finally:
        if handle is not None:
            os.close(handle)


def hold(handle: int) -> None:
    """Lock an open temporary file, so that `remove_abandoned` leaves it alone until it is closed."""
    if fcntl:
        _lock(handle, wait=True)


def _open_new(path: Path) -> int | None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    if fcntl:
        return handle
    os.close(handle)  # on Windows an open file cannot be renamed
    return None


def _make_new(path: Path) -> int | None:
    path.mkdir()
    return os.open(path, os.O_RDONLY) if fcntl else None


def remove_abandoned(folder: Path, names: Iterable[str] | None = None) -> None:
    """Remove the temporary files and folders that killed processes left in a folder.

    Those of living processes are locked and stay, and so do all on a system or disk without such locks.

    Args:
        names: the names of their targets. Default: any.
    """
    if not fcntl:
        return
    wanted = None if names is None else set(names)
    for path in folder.glob(f".*.????????{SUFFIX}"):
        if wanted is not None and path.name[1:].rsplit(".", 2)[0] not in wanted:
            continue
        with suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                if _lock(handle, wait=False):
                    _remove(path)
            finally:
                os.close(handle)


def _lock(handle: int, wait: bool) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
