"""What is asked of a run folder that already holds a run: to go on, to begin again, or to be left alone. No Keras."""

from __future__ import annotations

import dataclasses
import platform
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keraslm.config import Config
from keraslm.errors import ConfigError, RunError, TextError, shown
from keraslm.runs.checkpoint import Checkpoint, CheckpointStore
from keraslm.runs.run import Run, check_free
from keraslm.system.atomic import atomic_path, writing
from keraslm.system.backend import versions
from keraslm.system.processes import available_cores
from keraslm.text.store import described

# They change nothing of what was computed. A text is known by its tokens, wherever it lies.
FREE = (
    "epochs",
    "log_every",
    "checkpoint_minutes",
    "checkpoint_windows",
    "early_stopping",
    "keep_weights",
    "cache",
    "train",
    "valid",
    "data",
)


@dataclass(frozen=True)
class Earlier:
    """A run that a folder holds.

    Attributes:
        run: the run.
        checkpoint: where it goes on; None when it ended before its first checkpoint, and begins again.
        damaged: what is wrong with each newer checkpoint, by name.
    """

    run: Run
    checkpoint: Checkpoint | None
    damaged: Mapping[str, str] = field(default_factory=dict)


def find_earlier(folder: Path, resume: str, overwrite: bool, log: Callable[[str], None]) -> Earlier | None:
    """The run that is to go on in a folder; None where a new one begins.

    Args:
        folder: the run folder.
        resume: `"auto"` goes on where there is a run, `"must"` refuses to begin one, `"never"` to go on.
        overwrite: a run that is there is to be replaced.
        log: takes a line about a damaged checkpoint.

    Raises:
        RunError: a run is in the way, there is none though there must be, or none of its checkpoints is whole.
    """
    if not (folder / "config.json").exists() or overwrite or resume == "never":
        if resume == "must":
            raise RunError(f"{folder}: there is no run to go on with. Leave --resume must out to begin one.")
        check_free(folder, overwrite)
        return None
    run = Run.open(folder)
    store = CheckpointStore(run.checkpoints_path)
    checkpoint, damaged = store.newest()
    found = "; ".join(f"{name}: {what}" for name, what in damaged.items())
    if checkpoint:
        if damaged:
            log(f"damaged   checkpoint {found}; going on from the one before, {checkpoint.name}")
        return Earlier(run, checkpoint, damaged)
    if damaged:
        raise RunError(f"{folder}: every checkpoint is damaged ({found}). Pass --overwrite to train from the start.")
    if resume == "must" or (run.weights_path.exists() and not _was_cut_off(run)):
        raise RunError(
            f"{folder} holds a run without a checkpoint, so it cannot go on. Choose another --run, or pass --overwrite."
        )
    log(f"again     {folder} ended before its first checkpoint: it begins again")
    return Earlier(run, None)


def _was_cut_off(run: Run) -> bool:
    """Whether a training wrote the weights of its first epoch and ended before the checkpoint that follows them."""
    return run.checkpoints_path.is_dir() and len(run.epochs()) < 2


def continued(earlier: Earlier, asked: Config) -> Config:
    """The configuration of a run that goes on: its own, with what may change as it is asked for.

    Raises:
        ConfigError: another one was asked for; the message shows each difference.
    """
    own = _begun_with(earlier)
    if asked.model.softmax == own.model.softmax and asked.model.cutoffs in (None, own.model.cutoffs):
        asked = asked.replace(cutoffs=own.model.cutoffs)
    check_same(earlier.run.path, own, _flat(asked))
    return asked


def check_same(path: Path, own: Config, asked: Mapping[str, Any]) -> None:
    """Refuse to go on with a run where what it computes would be another.

    Args:
        path: the run folder.
        own: what it was begun with.
        asked: fields that are asked for, by name.

    Raises:
        ConfigError: the message shows each difference.
    """
    before = _flat(own)
    free = [name for name in FREE if name != "epochs" or own.train.lr_schedule != "cosine"]  # whose rates end with them
    differences = [
        f"{name} is {shown(before[name])}, not {shown(value)}"
        for name, value in asked.items()
        if name not in free and name in before and value != before[name]
    ]
    if differences:
        raise ConfigError(
            f"{path} was begun with another configuration: {'; '.join(differences)}. Leave these flags out "
            "to go on with the run; or choose another --run, or pass --overwrite."
        )


def _begun_with(earlier: Earlier) -> Config:
    """The configuration of the checkpoint, which is not where somebody would edit it."""
    assert earlier.checkpoint
    try:
        return Config.from_dict(earlier.checkpoint.state.get("config"))
    except ConfigError as error:
        name = earlier.checkpoint.name
        raise RunError(f"{earlier.run.path}: checkpoint {name} is not what a training writes. {error}") from error


def check_position(earlier: Earlier, windows: int) -> None:
    """Refuse a checkpoint that stands where its training cannot have stood.

    Raises:
        RunError: it is behind the last window of an epoch, or what callbacks have kept is not what they keep.
    """
    assert earlier.checkpoint
    checkpoint, log = earlier.checkpoint, earlier.checkpoint.state.get("log")
    where = f"{earlier.run.path}: checkpoint {checkpoint.name} is not what a training writes."
    if checkpoint.window > windows:
        raise RunError(f"{where} An epoch has {windows:,} windows.")
    numbers: list[Any] = [log.get(name) for name in ("seconds", "seen", "sum")] if isinstance(log, dict) else [None]
    if not all(type(number) in (int, float) and abs(number) < 2.0**53 for number in numbers):
        raise RunError(f"{where} Its log is {shown(log)}.")


def _flat(config: Config) -> dict[str, Any]:
    parts = (getattr(config, part.name) for part in dataclasses.fields(config))
    return {name: value for part in parts for name, value in vars(part).items()}


def check_texts(earlier: Earlier, found: dict[str, Any]) -> None:
    """Refuse to go on with other texts.

    Raises:
        TextError: with the text and both sizes and digests.
    """
    assert earlier.checkpoint
    own = earlier.checkpoint.state.get("texts")
    for name in ("train", "valid"):
        before, now = (described(texts.get(name) if isinstance(texts, dict) else None) for texts in (own, found))
        if before != now:
            raise TextError(
                f"{earlier.run.path} was begun on another {name} text: {before}, but this one is {now}. "
                "Give the text it was begun on; or choose another --run, or pass --overwrite."
            )


def surroundings(backend: str) -> dict[str, Any]:
    """What the last bit of a number may depend on: versions, the processor, and the cores that share a sum."""
    return {**versions(backend), "processor": _processor(), "cores": available_cores()}


def _processor() -> str:
    """Its model: matrix products are computed by other instructions on another, in another order."""
    with suppress(OSError):
        listed = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        if found := re.search(r"^model name\s*:\s*(.+)", listed, re.MULTILINE):
            return found[1]
    return platform.processor() or platform.machine()


def changed_surroundings(checkpoint: Checkpoint, now: dict[str, Any]) -> str:
    """In words, what is not as it was; empty where a training goes on bit for bit.

    Example: `"backend jax (was torch)"`.
    """
    before = checkpoint.state.get("surroundings")
    before = before if isinstance(before, dict) else {}
    if before.get("backend") != now["backend"]:
        return f"backend {now['backend']} (was {_named(before.get('backend'))})"
    names = [name for name in now if before.get(name) != now[name] and name != "keraslm"]
    return ", ".join(f"{name} {now[name]} (was {_named(before.get(name))})" for name in names)


def _named(value: Any) -> str:
    return value[:40] if isinstance(value, str) else shown(value)


def put_back(run: Run, checkpoint: Checkpoint, damaged: Mapping[str, str]) -> None:
    """Make the files of a run those of a checkpoint: metrics that came later are forgotten.

    Args:
        run: that goes on.
        checkpoint: where it goes on.
        damaged: newer checkpoints, which must not be taken for the newest again.

    Raises:
        WriteError: when the disk does not take it; the old metrics are whole.
    """
    with writing(run.checkpoints_path):
        CheckpointStore(run.checkpoints_path).discard(damaged)
    with writing(run.metrics_path), atomic_path(run.metrics_path) as file:
        file.write_text(checkpoint.metrics, encoding="utf-8")
