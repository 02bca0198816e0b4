"""Checkpoints: everything that a training needs to go on as if it had never stopped. No Keras here.

    RUN/checkpoints/0003-00000450/      after 3 epochs and 450 windows of the next
      variables.safetensors   every variable of model, optimizer and metrics, by name
      state.json              format version, position, configuration, texts, versions, what callbacks keep
      metrics.jsonl           the run's metrics up to here
      SHA256SUMS              of the three, as `sha256sum` prints them and `sha256sum --check` reads them

How one is committed, so that a kill at any moment leaves either the old ones or the old ones and the new one:

    1. a folder whose name begins with a dot is made beside the others, and the files are written into it
    2. files and folder are flushed to the disk
    3. the folder is renamed to its place, and the folder that holds it is flushed
    4. of the others, all but the newest are renamed to names with a dot, and removed

A reader takes the newest whose files are exactly those that SHA256SUMS says; a damaged one is reported and passed over.
A flipped bit is found wherever it is: in a file its digest changes, and SHA256SUMS itself must be what the files give,
byte for byte. The digests find damage and are no signature.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.system.atomic import atomic_folder
from keraslm.errors import RunError, shown

FORMAT_VERSION = 1
KEPT = 2
VARIABLES, STATE, METRICS, SUMS = "variables.safetensors", "state.json", "metrics.jsonl", "SHA256SUMS"
_FILES = (METRICS, STATE, VARIABLES)  # in the order of SHA256SUMS
_NAME = re.compile(r"[0-9]{4,}-[0-9]{8,}")

Variables = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Checkpoint:
    """A training at a moment between two windows.

    Attributes:
        epoch: epochs that are behind, validation and all.
        window: windows of the next epoch that are behind; all of them where its validation is still ahead.
        variables: of the model, the optimizer and the metrics, by name.
        state: what else the training needs, as JSON has it.
        metrics: `metrics.jsonl` up to here.
    """

    epoch: int
    window: int
    variables: Variables = field(repr=False)
    state: dict[str, Any] = field(repr=False)
    metrics: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """Of its folder; where the numbers outgrow their zeros, they tell the order and not the letters."""
        return f"{self.epoch:04d}-{self.window:08d}"

    @property
    def position(self) -> str:
        """Where it stands, in words.

        Example:
            >>> Checkpoint(2, 450, {}, {}).position
            'window 450 of epoch 3'
        """
        return f"window {self.window} of epoch {self.epoch + 1}" if self.window else f"the end of epoch {self.epoch}"


class CheckpointStore:
    """The checkpoints of a run. One process writes at a time: hold the run's lock.

    Args:
        folder: where they are kept, such as `RUN/checkpoints`; made by the first one.

    Example:
        >>> store = CheckpointStore(run.checkpoints_path)
        >>> store.save(Checkpoint(epoch=3, window=450, variables=values, state={}))
        >>> checkpoint, damaged = store.newest()
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def names(self) -> list[str]:
        """Names of the folders that were committed, oldest first, whole or damaged."""
        if not self.folder.is_dir():
            return []
        found = [path.name for path in self.folder.iterdir() if _NAME.fullmatch(path.name)]
        return sorted(found, key=lambda name: [int(number) for number in name.split("-")])

    def save(self, checkpoint: Checkpoint) -> Path:
        """Commit a checkpoint, and keep the newest two.

        Raises:
            OSError: when the disk does not take it. Those that were there are untouched.
        """
        target = self.folder / checkpoint.name
        for abandoned in self.folder.glob(".*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        if target.exists():
            if _is_whole(target):  # the same moment of the same training
                return target
            self._remove(target)
        with atomic_folder(target) as temporary:
            _write(temporary, checkpoint)
        for name in self.names()[:-KEPT]:
            self._remove(self.folder / name)
        return target

    def newest(self) -> tuple[Checkpoint | None, dict[str, str]]:
        """The newest whole checkpoint, if there is one, and what is wrong with each newer one, by name.

        Raises:
            RunError: the newest whole one is of another format version.
        """
        damaged: dict[str, str] = {}
        for name in reversed(self.names()):
            try:
                return read_checkpoint(self.folder / name), damaged
            except DamagedCheckpointError as error:
                damaged[name] = str(error)
        return None, damaged

    def discard(self, names: Mapping[str, str]) -> None:
        """Remove checkpoints that are damaged, lest they be taken for the newest."""
        for name in names:
            self._remove(self.folder / name)

    def _remove(self, path: Path) -> None:
        """Remove a folder so that nobody finds half of it under its name."""
        aside = path.with_name(f".{path.name}.old")
        path.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


class DamagedCheckpointError(RunError):
    """A checkpoint whose files are not those that were written."""


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint and verify it.

    Raises:
        DamagedCheckpointError: a file is missing, left over, or not the one that was written; the message says which.
        RunError: it is whole, but of another format version, or not one that a training has written.
    """
    data = _read_verified(folder)
    try:
        state = json.loads(data[STATE])
        if not isinstance(state, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError) as error:
        raise RunError(f"{folder / STATE}: not what a training writes ({error}).") from error
    found = state.pop("format_version", None)
    if found != FORMAT_VERSION:
        raise RunError(
            f"{folder}: checkpoint of format version {shown(found)}, but this keraslm reads {FORMAT_VERSION}."
        )
    epoch, window = state.pop("epoch", None), state.pop("window", None)
    if not all(type(number) is int and number >= 0 for number in (epoch, window)):
        raise RunError(f"{folder / STATE}: epoch {shown(epoch)}, window {shown(window)}; both must be numbers from 0.")
    try:
        return Checkpoint(epoch, window, _load(data[VARIABLES]), state, data[METRICS].decode())
    except ValueError as error:
        raise RunError(f"{folder}: not what a training writes ({error}).") from error


def _is_whole(folder: Path) -> bool:
    try:
        _read_verified(folder)
    except DamagedCheckpointError:
        return False
    return True


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    from safetensors.numpy import save

    header = {"format_version": FORMAT_VERSION, "epoch": checkpoint.epoch, "window": checkpoint.window}
    data = {
        METRICS: checkpoint.metrics.encode(),
        STATE: (json.dumps(header | checkpoint.state, indent=2, allow_nan=False) + "\n").encode(),
        VARIABLES: save({name: np.asarray(value, order="C") for name, value in checkpoint.variables.items()}),
    }
    data[SUMS] = _sums(data)
    for name, content in data.items():
        (folder / name).write_bytes(content)


def _sums(data: Mapping[str, bytes]) -> bytes:
    return "".join(f"{hashlib.sha256(data[name]).hexdigest()}  {name}\n" for name in _FILES).encode()


def _read_verified(folder: Path) -> dict[str, bytes]:
    """The files of a checkpoint, which are those that SHA256SUMS names and no others."""
    try:
        found = sorted(path.name for path in folder.iterdir())
        expected = sorted((*_FILES, SUMS))
        if found != expected:
            raise DamagedCheckpointError(f"it holds {', '.join(found) or 'nothing'} instead of {', '.join(expected)}")
        data = {name: (folder / name).read_bytes() for name in expected}
    except OSError as error:
        raise DamagedCheckpointError(f"it cannot be read ({error.strerror or error})") from error
    written, computed = data[SUMS], _sums(data)
    if written != computed:
        changed = [name for name, line in zip(_FILES, computed.splitlines(), strict=True) if line not in written]
        raise DamagedCheckpointError(f"{', '.join(changed) or 'the files'} and {SUMS} do not agree")
    return data


def _load(data: bytes) -> Variables:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(data)
    except (SafetensorError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{VARIABLES}: {error}") from error
