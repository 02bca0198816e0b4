"""Checkpoints: everything needed to resume a training run as if it had never stopped.

`docs/reference/run-folder.md` describes the files. A kill at any moment leaves all complete checkpoints intact. The
newest one whose files agree with SHA256SUMS is used. The digests find damage; they are not a signature.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.errors import RunError, shown
from keraslm.system.atomic import atomic_folder, remove_abandoned, remove_folder

FORMAT_VERSION = 1
KEPT = 2
VARIABLES, STATE, METRICS, SUMS = "variables.safetensors", "state.json", "metrics.jsonl", "SHA256SUMS"
_FILES = (METRICS, STATE, VARIABLES)  # in the order of SHA256SUMS
_PARTS, _LOG = ("config", "texts", "surroundings", "log"), ("seconds", "seen", "sum")  # of STATE
_NAME = re.compile(r"[0-9]{4,}-[0-9]{8,}", re.ASCII)
_UNFINISHED = re.compile(rf"\.{_NAME.pattern}\.old", re.ASCII)


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training run between two windows.

    Attributes:
        epoch: number of finished epochs, validation included.
        window: number of finished windows of the next epoch; all of them if only its validation is missing.
        variables: variables of the model, the optimizer and the metrics, by name.
        state: everything else the training needs, as JSON values: `config`, `texts`, `surroundings` and `log`.
        metrics: content of `metrics.jsonl`.
    """

    epoch: int
    window: int
    variables: dict[str, NDArray[Any]] = field(repr=False)
    state: dict[str, Any] = field(repr=False)
    metrics: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """Name of its folder; the numbers may have more digits."""
        return f"{self.epoch:04d}-{self.window:08d}"

    def weights(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[Any]]:
        """The weights with these names and shapes after an epoch: their averages if averaging has begun.

        Weights that are not trained have no averages.
        """
        since = self.variables.get("optimizer/averages_from")
        averaged = since is not None and bool(self.variables["optimizer/iteration"] > since)
        found = {}
        for name, shape in shapes.items():
            average = f"optimizer/{name.replace('/', '_')}_average"
            variable = average if averaged and average in self.variables else f"model/{name}"
            value = self.variables.get(variable)
            if value is None or value.shape != shape:
                size = "missing" if value is None else value.shape
                raise RunError(f"checkpoint {self.name}: {variable} is {size}, but the model needs {shape}.")
            found[name] = value
        return found

    @property
    def position(self) -> str:
        """For messages, e.g. `window 450 of epoch 4`."""
        return f"window {self.window} of epoch {self.epoch + 1}" if self.window else f"epoch {self.epoch}"


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of a run. Only one process may write: the one with the lock of the run."""

    folder: Path

    def names(self) -> list[str]:
        """Names of all checkpoints, oldest first, including damaged ones."""
        if not self.folder.is_dir():
            return []
        found = [path.name for path in self.folder.iterdir() if _NAME.fullmatch(path.name)]
        return sorted(found, key=lambda name: [int(number) for number in name.split("-")])

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint, then remove all but the newest two. An `OSError` leaves the previous ones untouched."""
        from safetensors.numpy import save

        target = self.folder / checkpoint.name
        self._clean()
        if target.exists():  # the same position of the same training
            return target
        state = {"format_version": FORMAT_VERSION, "epoch": checkpoint.epoch, "window": checkpoint.window}
        data = {
            METRICS: checkpoint.metrics.encode(),
            STATE: (json.dumps(state | checkpoint.state, indent=2, allow_nan=False) + "\n").encode(),
            VARIABLES: save({name: np.asarray(value, order="C") for name, value in checkpoint.variables.items()}),
        }
        with atomic_folder(target) as temporary:
            for name, content in (data | {SUMS: _sums(data)}).items():
                (temporary / name).write_bytes(content)
        for name in self.names()[:-KEPT]:
            self.remove(name)
        return target

    def newest(self) -> tuple[Checkpoint | None, dict[str, str]]:
        """The newest intact checkpoint or None, and the damage of each newer one, by name."""
        damaged: dict[str, str] = {}
        for name in reversed(self.names()):
            try:
                return read_checkpoint(self.folder / name), damaged
            except DamagedCheckpointError as error:
                damaged[name] = str(error)
        return None, damaged

    def remove(self, name: str) -> None:
        """Remove a checkpoint; a kill leaves no part of it under its name."""
        aside = self.folder / f".{name}.old"
        (self.folder / name).rename(aside)
        self._clean()

    def clear(self) -> None:
        """Remove all checkpoints; and the folder, if nothing else is in it."""
        for name in self.names():
            self.remove(name)
        self._clean()
        remove_folder(self.folder, ())

    def _clean(self) -> None:
        """Remove what a killed process left of a checkpoint. Files that are not part of a checkpoint stay."""
        remove_abandoned(self.folder)
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if _UNFINISHED.fullmatch(path.name) and path.is_dir():
                with suppress(OSError):
                    remove_folder(path, (*_FILES, SUMS))


class DamagedCheckpointError(RunError):
    """The files of a checkpoint are not those that were written."""


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint, or raise `DamagedCheckpointError` if a file is missing, unexpected or changed."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    data = _read_verified(folder)
    try:
        state = json.loads(data[STATE])
        found = state.pop("format_version")
        epoch, window = index(state.pop("epoch")), index(state.pop("window"))
        if found != FORMAT_VERSION:
            raise RunError(f"{folder}: checkpoint format {shown(found)}, but this keraslm reads {FORMAT_VERSION}.")
        if missing := [part for part in _PARTS if not isinstance(state.get(part), dict)]:
            raise ValueError(f"{STATE} has no {', '.join(missing)}")
        for name in _LOG:
            state["log"][name] + 0.0
        return Checkpoint(epoch, window, load(data[VARIABLES]), state, data[METRICS].decode())
    except RunError:  # a ValueError too
        raise
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedCheckpointError(f"it is not a checkpoint of a training run ({error})") from error


def _sums(data: Mapping[str, bytes]) -> bytes:
    return "".join(f"{hashlib.sha256(data[name]).hexdigest()}  {name}\n" for name in _FILES).encode()


def _read_verified(folder: Path) -> dict[str, bytes]:
    """The contents of the files of a checkpoint, by name, if they agree with SHA256SUMS."""
    try:
        found = sorted(path.name for path in folder.iterdir())
        expected = sorted((*_FILES, SUMS))
        if found != expected:
            raise DamagedCheckpointError(
                f"it contains {', '.join(found) or 'nothing'} instead of {', '.join(expected)}"
            )
        data = {name: (folder / name).read_bytes() for name in expected}
    except OSError as error:
        raise DamagedCheckpointError(f"it cannot be read ({error.strerror or error})") from error
    written, computed = data[SUMS], _sums(data)
    if written != computed:
        changed = [name for name, line in zip(_FILES, computed.splitlines(), strict=True) if line not in written]
        raise DamagedCheckpointError(f"{', '.join(changed) or 'the files'} and {SUMS} disagree")
    return data
