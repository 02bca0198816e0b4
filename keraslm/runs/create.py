"""Create a run folder, replace the run in it, or update its configuration."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from keraslm.config import Config
from keraslm.errors import RunError
from keraslm.runs.run import FORMAT_VERSION, LATEST, RUNS, Run
from keraslm.system import Log
from keraslm.system.atomic import atomic_path, make_folder, remove_abandoned, sync_file, sync_folder, writing
from keraslm.system.backend import versions
from keraslm.system.locks import folder_lock

# Files besides the tokenizer. config.json marks a folder as a run: it is removed first and created last.
FILES = ("config.json", "weights.safetensors", "best.safetensors", "metrics.jsonl", "learning_curve.png")
FOLDERS = ("checkpoints", "tensorboard")


def files_of(path: Path) -> list[Path]:
    """All files of the run in a folder, whether they exist or not."""
    kept = path.glob("weights-*.safetensors")
    inner = (file for name in FOLDERS for file in (path / name).rglob("*"))
    return [*(path / name for name in (*FILES, "tokenizer.json")), *kept, *inner]


@contextmanager
def locked_folder(folder: Path, log: Log) -> Iterator[None]:
    """Create a run folder if it is missing, and lock out other training processes during the block."""
    with ExitStack() as stack:
        with writing(folder):
            make_folder(folder)
            stack.enter_context(folder_lock(folder, log))
        yield


def create_run(run: Run, backend: str, overwrite: bool) -> None:
    """Create the folder of a run and point `runs/latest` to it; raises as `place_run` does."""
    place_run(run, backend, overwrite)
    with writing(LATEST, f"{run.path} holds the new run, without weights."):
        _point_latest_to(run.path)


def place_run(run: Run, backend: str, overwrite: bool, parts: Sequence[Path] = ()) -> None:
    """Create the folder of a run. `parts` are files on the same disk that are moved into it.

    A previous run is removed once the new files are on the disk beside it. If this is interrupted, the folder holds
    the previous run, the new one or none.

    Raises:
        RunError: the folder already holds a run, and `overwrite` is false.
        WriteError: the folder cannot be written.
    """
    path = run.path
    check_free(path, overwrite)
    with writing(path):
        make_folder(path)
        remove_abandoned(path)
        with atomic_path(path / "config.json") as header, atomic_path(path / "tokenizer.json") as vocabulary:
            header.write_text(_header(run, backend), encoding="utf-8")
            vocabulary.write_text(run.tokenizer.to_json(), encoding="utf-8")
            for file in (header, vocabulary, *parts):
                sync_file(file)
            _remove_previous(run)
            for part in parts:
                part.replace(path / part.name)


def update_config(run: Run, config: Config, backend: str) -> Run:
    """Write the configuration and backend of the training that resumes a run."""
    updated, path = replace(run, config=config), run.path / "config.json"
    remove_abandoned(run.path)
    with writing(path, "The old one is untouched."), atomic_path(path) as file:
        file.write_text(_header(updated, backend), encoding="utf-8")
    return updated


def check_free(path: Path, overwrite: bool, argument: str = "run") -> None:
    """Raise `RunError` if a new run cannot be created in a folder."""
    if (path / "config.json").exists() and not overwrite:
        raise RunError(
            f"{path} already holds a run. Choose a different `{argument}`, or replace it with `overwrite=True`."
        )
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file, but a run needs a folder. Choose a different `{argument}`.")


def _header(run: Run, backend: str) -> str:
    header = {
        "format_version": FORMAT_VERSION,
        "versions": versions(backend),
        "vocab_size": run.tokenizer.vocab_size,
        **({"texts": run.texts} if run.texts else {}),
        **run.config.to_dict(),
    }
    return json.dumps(header, indent=2) + "\n"


def _remove_previous(run: Run) -> None:
    for name in FILES:
        (run.path / name).unlink(missing_ok=True)
        sync_folder(run.path)
    for kept in run.kept_weights().values():
        kept.unlink()
    for name in FOLDERS:
        if (run.path / name).exists():
            shutil.rmtree(run.path / name)


def _point_latest_to(path: Path) -> None:
    make_folder(RUNS)
    link = RUNS / f".latest.{os.getpid()}"
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(os.path.relpath(path.resolve(), RUNS.resolve()), target_is_directory=True)
        link.replace(LATEST)
    except OSError:
        with suppress(OSError):
            link.unlink(missing_ok=True)
        raise
