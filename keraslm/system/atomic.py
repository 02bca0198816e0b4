"""Files and folders that appear complete or not at all: written beside the target, flushed to the disk, renamed.

Wherever the process fails or is killed, the target is the old or the new file. If flushing the folder after the rename
fails, an error is raised although the new file is there: a power failure may bring the old one back.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from keraslm.errors import UsageError, WriteError

_UMASK = os.umask(0)  # read once: reading it means setting it, for every thread of the process
os.umask(_UMASK)
_RANDOM = r"[a-z0-9_]{8}"  # of `tempfile.mkstemp`
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
    """A temporary path, `.NAME.RANDOM`, that replaces `target` when the block succeeds and is removed when it fails.

    Example:
        >>> with atomic_path(Path("model.onnx")) as path:
        ...     path.write_bytes(data)
    """
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    temporary = Path(name)
    try:
        os.close(handle)
        yield temporary
        temporary.chmod(0o666 & ~_UMASK)
        sync_file(temporary)
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):  # report the first error
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


@contextmanager
def output_file(path: Path, kept: str = "Nothing was changed there.") -> Iterator[Path]:
    """`atomic_path` for a file that the user named, with the errors of `checked_place` and `writing`."""
    checked_place(path)
    with writing(path, kept), atomic_path(path) as temporary:
        yield temporary


def checked_place(path: Path | None) -> None:
    """Raise a `UsageError` for an output path that is a folder or in a folder that does not exist."""
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise UsageError(f"{path}: give the name of a file in a folder that exists.")


def sync_file(path: Path) -> None:
    """Flush the content of a file to the disk."""
    with path.open("rb+" if os.name == "nt" else "rb") as file:
        os.fsync(file.fileno())


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
    """A temporary folder, `.NAME.PROCESS`, that becomes `target` when the block succeeds and is removed when it fails.

    If a different process made `target` meanwhile, it stays.
    """
    make_folder(target.parent)
    temporary = target.parent / f".{target.name}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        yield temporary
        for path in temporary.iterdir():
            sync_file(path)
        sync_folder(temporary)
        try:
            temporary.rename(target)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync_folder(target.parent)


def remove_abandoned(folder: Path, names: str) -> None:
    """Remove the temporary folders of `atomic_folder` whose process has ended, for targets that match a pattern."""
    for path in folder.glob(".*.*"):
        found = re.fullmatch(rf"\.(?:{names})\.([0-9]{{1,10}})", path.name, re.ASCII)
        if found and path.is_dir() and not _is_running(int(found[1])):
            shutil.rmtree(path, ignore_errors=True)


def remove_folder(folder: Path, names: Iterable[str]) -> None:
    """Remove the files of a folder whose names match one of some patterns; and the folder, if no others are left."""
    for path in [path for name in names for path in folder.glob(name)]:
        path.unlink()
    if not any(folder.iterdir()) and not folder.is_symlink():
        folder.rmdir()


def remove_temporaries(targets: Iterable[Path]) -> None:
    """Remove temporary files that killed processes left; no process may be writing these targets."""
    wanted = set(targets)
    for folder in {path.parent for path in wanted}:
        for path in folder.glob(".*.*"):
            name, _, random = path.name[1:].rpartition(".")  # `.NAME.swp` is an editor's
            if folder / name in wanted and re.fullmatch(_RANDOM, random) and path.is_file():
                path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        if os.name != "nt":  # where signal 0 would end the process
            os.kill(process, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True
