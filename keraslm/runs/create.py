"""Create a run folder, replace the run in it, or update its configuration."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import TypeVar

from keraslm.config import Sections
from keraslm.errors import RunError
from keraslm.runs.files import (
    CONFIG,
    EVERY,
    INCOMPLETE,
    TOKENIZER,
    check_unlisted,
    check_unused,
    remove_listed,
    state_of,
)
from keraslm.runs.folder import FORMAT_VERSION, LATEST, RUNS, RunFolder
from keraslm.system import Log
from keraslm.system.atomic import atomic_path, make_folder, remove_abandoned, sync_file, sync_folder, writing
from keraslm.system.backend import versions
from keraslm.system.locks import folder_lock

R = TypeVar("R", bound=RunFolder)


@contextmanager
def locked_folder(folder: Path, log: Log) -> Iterator[None]:
    """Create a run folder if it is missing, and lock out other training processes during the block."""
    with ExitStack() as stack:
        with writing(folder):
            make_folder(folder)
            stack.enter_context(folder_lock(folder, log))
        yield


def new_folder() -> Path:
    """Make the folder `runs/<date>-<time>` of a new run; with a number, if a different training has made it."""
    start = RUNS / datetime.now().strftime("%Y%m%d-%H%M%S")
    with writing(RUNS):
        make_folder(RUNS)
        for number in count(1):
            folder = start if number == 1 else start.with_name(f"{start.name}-{number}")
            with suppress(FileExistsError):
                folder.mkdir()
                sync_folder(RUNS)
                return folder
    raise AssertionError


def create_run(run: RunFolder, backend: str, overwrite: bool, log: Log = lambda _: None) -> None:
    """Create the folder of a run and point `runs/latest` to it; raises as `place_run` does."""
    place_run(run, backend, overwrite)
    _point_latest_to(run.path, log)


def place_run(run: RunFolder, backend: str, overwrite: bool, parts: Sequence[Path] = ()) -> None:
    """Create the folder of a run. `parts` are files on the same disk that are moved into it.

    A previous run is removed once the new files are on the disk beside it. If this is interrupted, the folder holds
    the previous run, the new one or none; then its `config.json` says that it belongs to keraslm.

    Raises:
        RunError: the folder holds a run, and `overwrite` is false; or it holds files that no run has written.
        WriteError: the folder cannot be written.
    """
    path = run.path
    check_free(path, overwrite)
    _, previous = state_of(path)
    check_unlisted(path, run.files, previous)
    with writing(path):
        make_folder(path)
        remove_abandoned(path)
        with atomic_path(path / CONFIG) as header, atomic_path(path / TOKENIZER) as vocabulary:
            header.write_text(_header(run, backend), encoding="utf-8")
            vocabulary.write_text(run.tokenizer.to_json(), encoding="utf-8")
            for file in (header, vocabulary, *parts):
                sync_file(file)
            with atomic_path(path / CONFIG) as marker:
                listed = {"format_version": FORMAT_VERSION, INCOMPLETE: True, "files": [*previous, *run.files]}
                marker.write_text(json.dumps(listed), encoding="utf-8")
            remove_listed(path, previous)
            for part in parts:
                part.replace(path / part.name)


def update_config(run: R, config: Sections, backend: str, files: Collection[str] = ()) -> R:
    """Write the configuration and backend of the training that resumes a run, and the files that it will write too.

    Raises:
        RunError: one of these files exists, but the run has not written it.
    """
    check_unlisted(run.path, files, run.files)
    updated, path = replace(run, config=config, files=tuple({*run.files, *files})), run.path / CONFIG
    remove_abandoned(run.path)
    with writing(path, "The old one is untouched."), atomic_path(path) as file:
        file.write_text(_header(updated, backend), encoding="utf-8")
    return updated


def check_free(path: Path, overwrite: bool, argument: str = "run") -> None:
    """Raise `RunError` if a new run cannot be created in a folder."""
    if (path.parent.resolve(), path.name) == (RUNS.resolve(), LATEST.name):
        raise RunError(f"{path} is the link to the last run. Choose a different `{argument}` for a new one.")
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file, but a run needs a folder. Choose a different `{argument}`.")
    state, _ = state_of(path)
    if state == "run" and not overwrite:
        raise RunError(
            f"{path} already holds a run. Choose a different `{argument}`, or replace it with `overwrite=True`."
        )
    if state in ("none", "other"):
        check_unused(path, argument)


def _header(run: RunFolder, backend: str) -> str:
    header = {
        "format_version": FORMAT_VERSION,
        "versions": versions(backend),
        "vocab_size": run.tokenizer.vocab_size,
        "files": [name for name in EVERY if name in run.files],
        **({"texts": run.texts} if run.texts else {}),
        **({"origin": run.origin} if run.origin else {}),
        **run.config.to_dict(),
    }
    return json.dumps(header, indent=2) + "\n"


def _point_latest_to(path: Path, log: Log) -> None:
    """Point `runs/latest` to a run; a line in the log if this is impossible."""
    link = RUNS / f".latest.{os.getpid()}"
    try:
        make_folder(RUNS)
        if LATEST.exists() and not LATEST.is_symlink():
            raise FileExistsError(errno.EEXIST, "it is not a link")
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(path.resolve(), RUNS.resolve()), target_is_directory=True)
        link.replace(LATEST)
    except (OSError, NotImplementedError) as error:
        with suppress(OSError):
            link.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or error
        log(f"          {LATEST} does not point to this run ({reason}); name it with `run`")
