"""Files that the user named for output: checked against the inputs, then written atomically.

A device, a pipe or a terminal must not be replaced by a rename; it is opened and written directly.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from keraslm.errors import UsageError
from keraslm.system.atomic import (
    atomic_path,
    make_folder,
    remove_abandoned,
    sync_file,
    sync_folder,
    temporary_file,
    writing,
)

Place = tuple[object, ...]  # what two names of one file have in common


def check_outputs(outputs: Mapping[str, Path | None], inputs: Iterable[str | os.PathLike[str]] = ()) -> None:
    """Raise a `UsageError` if an output cannot be written, or would destroy an input or a different output.

    Two names are the same file if they lead to one path, or to one file through links.

    Args:
        outputs: the path of each output by the name of its argument; None if it was not given.
        inputs: all files that are read. `"-"` is the file that standard input is redirected from.

    Example:
        >>> check_outputs({"output": Path("text.txt")}, ["model.onnx", "./text.txt"])
        keraslm.errors.UsageError: text.txt: this output would overwrite the input ./text.txt. Choose a different file.
    """
    read = {place: path for path in inputs for place in places(path)}
    written: dict[Place, str] = {}
    for name, path in outputs.items():
        if path is None:
            continue
        check_place(path)
        for place in places(path):
            if place in read:
                shown = "standard input" if read[place] == "-" else read[place]
                raise UsageError(f"{path}: this output would overwrite the input {shown}. Choose a different file.")
            if written.setdefault(place, name) != name:
                raise UsageError(f"`{written[place]}` and `{name}` are the same file, {path}. Choose two files.")


def check_place(path: Path) -> None:
    """Raise a `UsageError` for an output path that is a folder, or in a folder that does not exist."""
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"{path}: give the name of a file in a folder that exists.")


def is_device(path: Path) -> bool:
    """Whether a path leads to something that exists and is no regular file, e.g. `/dev/null` or a pipe."""
    return path.exists() and not path.is_file()


@contextmanager
def output_file(path: Path, kept: str = "Nothing was changed there.") -> Iterator[Path]:
    """The path of a temporary file to write in the block, which becomes the file `path` when the block succeeds.

    If `path` is a link, the file that it leads to is replaced. If it is a device or a pipe, the bytes are copied into
    it. What killed processes left for this file is removed. Raises as `check_place` and `writing` do.
    """
    check_place(path)
    with writing(path, kept):
        if is_device(path):
            target = Path(tempfile.gettempdir()) / path.name
            remove_abandoned(target.parent, [target.name])
            with temporary_file(target) as temporary:
                yield temporary
                with temporary.open("rb") as source, path.open("wb") as device:
                    shutil.copyfileobj(source, device)
            return
        target = Path(os.path.realpath(path))
        remove_abandoned(target.parent, [target.name])
        with atomic_path(target) as temporary:
            yield temporary


def places(path: str | os.PathLike[str]) -> list[Place]:
    """The resolved path of a file, and its device and inode if it exists; nothing for what is no regular file."""
    real: list[Place] = [] if path == "-" else [(os.path.realpath(path),)]
    try:
        status = os.fstat(0) if path == "-" else Path(path).stat()
    except OSError:
        return real
    if not stat.S_ISREG(status.st_mode):
        return []
    return [(status.st_dev, status.st_ino), *real]


def write_together(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files that belong together into a folder: all are on the disk before the first one is renamed."""
    with writing(folder), ExitStack() as stack:
        make_folder(folder)
        remove_abandoned(folder, files)
        ready = {name: stack.enter_context(temporary_file(folder / name)) for name in files}
        for name, path in ready.items():
            path.write_bytes(files[name])
            path.chmod(folder.stat().st_mode & 0o666)  # who can read the folder can read its files
            sync_file(path)
        for name, path in ready.items():
            path.replace(folder / name)
        sync_folder(folder)
