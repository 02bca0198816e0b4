"""Targets that are a folder: whether it may be written, and how its files appear together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from keraslm.errors import UsageError
from keraslm.system.atomic import atomic_folder, writing
from keraslm.system.outputs import write_together


def check_folder(folder: Path, target: str, mark: tuple[str, str, str]) -> bool:
    """Whether a target has written the folder; a UsageError if it holds something else.

    `mark` is how a folder of the target is recognised: the name of a JSON file, a key and its value.
    """
    if not folder.is_dir():
        if folder.exists():
            raise UsageError(f"{folder} is a file, but the target {target} writes a folder. Choose a different name.")
        return False
    held = sorted(path.name for path in folder.iterdir())
    if not held:
        return False
    name, key, value = mark
    try:
        facts = json.loads((folder / name).read_text(encoding="utf-8"))
        own = isinstance(facts, dict) and facts.get(key) == value
    except (OSError, ValueError, RecursionError):
        own = False
    if not own:
        raise UsageError(
            f"{folder} holds {', '.join(held[:3])}, but no model that the target {target} has written. "
            "Choose a new folder."
        )
    return True


def publish(folder: Path, files: Mapping[str, bytes], own: bool) -> None:
    """Write the files of a folder, which is new, or `own`: then they are replaced, and other files in it stay."""
    if own:
        write_together(folder, files)
        return
    with writing(folder, "No partial folder is left there."), atomic_folder(folder) as temporary:
        for name, data in files.items():
            (temporary / name).write_bytes(data)
