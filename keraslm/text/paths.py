"""From the names that a user gives to the files that are read: names, patterns, folders and standard input."""

from __future__ import annotations

import glob
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from keraslm.config import StrPath, user_path
from keraslm.errors import TextError

STDIN = "-"
PACKED = (".gz", ".bz2", ".xz", ".zst")

_EDITORS = ("~", "#", ".bak", ".swp", ".swo", ".orig", ".tmp")
_SYSTEM = ("desktop.ini", "thumbs.db")


def is_clutter(path: Path) -> bool:
    """Whether a file is no text of the user's, but one of an editor or the system: hidden, a backup, a swap file.

    Example:
        >>> [name for name in (".DS_Store", "._a.txt", "a.txt~", "#a.txt#", "a.txt") if not is_clutter(Path(name))]
        ['a.txt']
    """
    name = path.name.lower()
    return name.startswith((".", "#")) or name.endswith(_EDITORS) or name in _SYSTEM


def find_files(names: Iterable[StrPath]) -> tuple[list[str], list[str]]:
    """The files that names stand for, in order, and a sentence about each folder among the names.

    A name is a file, a folder (its files, by name), a pattern such as `shards/*.gz` (the files that match, by name), or
    `-`, standard input. An existing file or folder is never taken for a pattern. Files of editors and the system are
    left out of folders and patterns.

    Raises:
        TextError: a file that is missing or cannot be opened, or a folder or pattern without files.
    """
    files, notes = [], []
    for name in map(str, names):
        if not name:
            raise TextError("The name of a text is empty.")
        path = user_path(name)
        with reading(name):
            if name == STDIN:
                found = [name]
            elif path.is_dir():
                found = _files_of(path)
                notes.append(f"{name} is a folder; its {len(found)} files are read: {listed(found)}")
            else:
                found = [str(path)] if not glob.has_magic(name) or path.exists() else _matching(path)
            for file in found:
                _check_opens(file)
        files += found
    return files, notes


def find_file(name: StrPath) -> str:
    """The one file that a name stands for; a TextError if it stands for several."""
    files, _ = find_files([name])
    if len(files) > 1:
        raise TextError(f"{name}: stands for {len(files)} files ({listed(files)}), but one is expected.")
    return files[0]


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn an `OSError` of the block, or a name that no file can have, into a `TextError` about a text."""
    try:
        yield
    except TextError:  # a ValueError too
        raise
    except (OSError, ValueError) as error:
        raise TextError(f"{name}: cannot be read ({getattr(error, 'strerror', None) or error}).") from error


def _files_of(folder: Path) -> list[str]:
    found = sorted(path for path in folder.iterdir() if path.is_file() and not is_clutter(path))
    if not found:
        raise TextError(f"{folder}: a folder without texts. Name files, or a pattern such as '{folder}/**/*.txt'.")
    names: dict[str, Path] = {}
    for path in found:
        other = names.setdefault(path.stem if path.suffix in PACKED else path.name, path)
        if other != path:
            raise TextError(f"{folder}: {other.name} and {path.name} look like one text. Name the files to read.")
    return [str(path) for path in found]


def _matching(pattern: Path) -> list[str]:
    folder = next(parent for parent in pattern.parents if parent.exists())  # its name may have brackets
    rest = str(pattern.relative_to(folder))
    matches = sorted(folder / path for path in glob.glob(rest, root_dir=folder, recursive=True))  # noqa: PTH207
    found = [path for path in matches if path.is_file()]
    if not found:
        raise TextError(f"{pattern}: no file matches this pattern.")
    return [str(path) for path in found if not is_clutter(path)] or [str(path) for path in found]


def _check_opens(file: str) -> None:
    with reading(file):
        if file != STDIN and stat.S_ISREG(Path(file).stat().st_mode):  # opening a pipe would end its writer
            Path(file).open("rb").close()


def listed(files: list[str]) -> str:
    """The names of files, without folders: all of them, or the first two and the last one."""
    names = [Path(file).name for file in files]
    return ", ".join(names) if len(names) <= 4 else f"{names[0]}, {names[1]}, ..., {names[-1]}"
