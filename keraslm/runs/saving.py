"""Save the weights of an epoch, and repair the files of weights of a run that is resumed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.runs.checkpoint import Checkpoint
from keraslm.runs.files import AT_WORDS, KEPT
from keraslm.runs.folder import RunFolder
from keraslm.runs.weights import digest_of, read_note, write_weights
from keraslm.system import Log
from keraslm.system.atomic import atomic_path, writing


def save_weights(run: RunFolder, epoch: int, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Save the weights of an epoch, counted from 1, whose row is in `metrics.jsonl` and whose checkpoint is saved.

    They are also saved as the best ones if no file holds better ones, and kept with `keep_weights`.
    """
    kept = run.config.train.keep_weights
    targets = [run.weights_path] + ([run.kept_weights_path(epoch)] if kept else [])
    digest = digest_of(weights)
    for path in targets:
        if read_note(path).get("sha256") != digest:
            write_weights(path, weights, epoch)
    own, best = _row(run, run.weights_path), _row(run, run.best_weights_path)
    stale = own == best and read_note(run.best_weights_path).get("sha256") != digest  # of an earlier version
    if run.validation_cost(own) < run.validation_cost(best) or (best and stale):
        write_weights(run.best_weights_path, weights, epoch)
    for number, path in run.kept_weights().items() if kept else ():
        if number <= epoch - kept:
            with writing(path):
                path.unlink()


def repair_weights(run: RunFolder, checkpoint: Checkpoint, log: Log) -> None:
    """Make the files of weights agree with the metrics of the checkpoint from which a run is resumed.

    Weights of later epochs are removed. Those of the checkpoint's epoch come from the checkpoint, if it was saved at
    the end of the epoch, or from another file that holds them.
    """
    files = [run.weights_path, run.best_weights_path, *(run.kept_weights().values() if KEPT in run.files else ())]
    stale = [path for path in files if path.is_file() and run.row_of(path) is None]
    for path in stale:
        with writing(path):
            path.unlink()
    for path in run.weights_at_words().values() if AT_WORDS in run.files else ():
        if run.row_of(path) is None:
            with writing(path):
                path.unlink()
            log(f"weights   {path.name} was kept after the checkpoint: removed until its words are reached again")
    if checkpoint.epoch and not checkpoint.window:
        save_weights(run, checkpoint.epoch, checkpoint.weights(run.shapes()))
    rows = {path: row for path in files if path.is_file() and (row := run.row_of(path))}
    if last := [path for path, row in rows.items() if row.get("epoch") == checkpoint.epoch]:
        _fill(run.weights_path, last[0])
    if valid := [path for path, row in rows.items() if math.isfinite(run.validation_cost(row))]:
        _fill(run.best_weights_path, min(valid, key=lambda path: run.validation_cost(rows[path])))
    for path in stale:
        row = run.row_of(path) if path.is_file() else None
        now = f"now of epoch {row.get('epoch')}" if row else "removed"
        log(f"weights   {path.name} was of an epoch after the checkpoint: {now}")


def _fill(path: Path, source: Path) -> None:
    """Copy a file of weights to a place where there is none."""
    if not path.is_file():
        with writing(path), atomic_path(path) as temporary:
            temporary.write_bytes(source.read_bytes())


def _row(run: RunFolder, path: Path) -> dict[str, Any]:
    """The row of the weights in a file; empty if there is none."""
    return (run.row_of(path) if path.is_file() else None) or {}
