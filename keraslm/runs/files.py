"""Which files of a folder belong to its run: `config.json` lists them, and no others are replaced or removed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from keraslm.errors import RunError
from keraslm.runs.checkpoint import CheckpointStore
from keraslm.system.atomic import SUFFIX, remove_folder, sync_folder

CONFIG, TOKENIZER, WEIGHTS, METRICS = "config.json", "tokenizer.json", "weights.safetensors", "metrics.jsonl"
BEST, KEPT, CURVE = "best.safetensors", "weights-*.safetensors", "learning_curve.png"
AT_WORDS = "weights-at-*.safetensors"
CHECKPOINTS, TENSORBOARD = "checkpoints", "tensorboard"
EVERY = (TOKENIZER, WEIGHTS, METRICS, BEST, KEPT, AT_WORDS, CURVE, CHECKPOINTS, TENSORBOARD)  # of runs without a list
AVERAGE = ".average"  # folder of an average that is being made
INCOMPLETE = "incomplete"  # a key of config.json while a run is created or replaced
KEPT_NAME = re.compile(r"weights-([0-9]{3,18})\.safetensors", re.ASCII)
AT_WORDS_NAME = re.compile(r"weights-at-([1-9][0-9]{0,17})\.safetensors", re.ASCII)
_EVENTS = "events.out.tfevents.*"
_LEFT = re.compile(rf"\.lock|\{AVERAGE}|\.(config|tokenizer)\.json\.[0-9a-f]{{8}}\{SUFFIX}")  # by a killed process

State = Literal["none", "run", "incomplete", "other"]


def state_of(folder: Path) -> tuple[State, tuple[str, ...]]:
    """The owner of the `config.json` of a folder, and the files that it lists.

    `"none"` without the file, `"incomplete"` if the creation of a run was interrupted, `"other"` if not of keraslm.
    """
    try:
        header = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return "none", ()
    except (OSError, ValueError, RecursionError):
        return "other", ()
    if not isinstance(header, dict) or type(header.get("format_version")) is not int:
        return "other", ()
    if header.get(INCOMPLETE) is True:
        return "incomplete", listed_in(header)
    is_run = all(isinstance(header.get(part), dict) for part in ("model", "data", "train"))
    return ("run", listed_in(header)) if is_run else ("other", ())


def listed_in(header: dict[str, Any]) -> tuple[str, ...]:
    """The files of a run that its `config.json` lists; all that a run may have if it was written without a list."""
    found = header.get("files")
    return tuple(name for name in EVERY if name in found) if isinstance(found, list) else EVERY


def paths_of(folder: Path) -> list[Path]:
    """Every file of the run in a folder."""
    listed = (CONFIG, *state_of(folder)[1])
    inside = (path for path in sorted(folder.iterdir()) if _is_listed(path.name, listed))
    return [file for path in inside for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]


def files_of(valid: bool, keep_weights: int, tensorboard: bool, at_words: bool = False) -> tuple[str, ...]:
    """The files that a training may write besides `config.json`."""
    optional = {BEST: valid, KEPT: bool(keep_weights), AT_WORDS: at_words, TENSORBOARD: tensorboard}
    return tuple(name for name in EVERY if optional.get(name, True))


def check_unused(folder: Path, argument: str) -> None:
    """Raise `RunError` if a folder that holds no run is not empty."""
    others = sorted(path.name for path in folder.iterdir() if not _LEFT.fullmatch(path.name)) if folder.is_dir() else []
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise RunError(
            f"{folder} holds {', '.join(others[:3])}{more}, but no run of keraslm. Choose a new or empty folder as "
            f"`{argument}`. Only a run is replaced, with `overwrite=True`; other files are never removed."
        )


def check_unlisted(folder: Path, wanted: Collection[str], listed: Collection[str]) -> None:
    """Raise `RunError` if a file that a run will write exists, and the run in the folder did not list it."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if _is_listed(path.name, wanted) and not _is_listed(path.name, listed):
            raise RunError(
                f"{path} was not written by the run in this folder and would be replaced. Move it elsewhere."
            )


def remove_listed(folder: Path, listed: Collection[str]) -> None:
    """Remove the files of a run: of the folders that it lists, only the files that keraslm writes there."""
    for path in sorted(folder.iterdir()):
        if not _is_listed(path.name, listed):
            continue
        if path.name == CHECKPOINTS:
            CheckpointStore(path).clear()
        elif path.name == TENSORBOARD:
            remove_folder(path, (_EVENTS,))
        else:
            path.unlink(missing_ok=True)
        sync_folder(folder)


def remove_average(folder: Path) -> None:
    """Remove the folder of an average that was not finished."""
    if os.path.lexists(folder / AVERAGE):
        remove_folder(folder / AVERAGE, (WEIGHTS, METRICS, f".{WEIGHTS}.????????{SUFFIX}"))


def _is_listed(name: str, listed: Collection[str]) -> bool:
    patterns = ((KEPT, KEPT_NAME), (AT_WORDS, AT_WORDS_NAME))
    return name in listed or any(kind in listed and pattern.fullmatch(name) for kind, pattern in patterns)
