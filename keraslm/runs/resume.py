"""Find the previous run in a folder, and check that it can be resumed as requested."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from keraslm.config import Config, DataConfig, Overrides, Sections
from keraslm.config.model import check_sizes
from keraslm.errors import ConfigError, KeraslmError, RunError, TextError, shown
from keraslm.runs.checkpoint import Checkpoint, CheckpointStore
from keraslm.runs.create import check_free
from keraslm.runs.files import CONFIG, state_of
from keraslm.runs.folder import RUNS, RunFolder
from keraslm.runs.run import TITLES, Run
from keraslm.runs.saving import repair_weights
from keraslm.system import Log
from keraslm.system.atomic import atomic_path, writing
from keraslm.system.backend import versions
from keraslm.system.locks import folder_lock
from keraslm.system.processes import available_cores
from keraslm.text.store import described

C = TypeVar("C", bound=Sections)
R = TypeVar("R", bound=RunFolder)

# Fields that do not change the result. Texts are compared by their tokens.
FREE = {
    *("epochs", "log_every", "checkpoint_minutes", "checkpoint_windows", "early_stopping"),
    *("keep_weights", "save_at_words", "accumulate"),
    *("train", "valid", "also_valid", "data", "encoding", "max_unknown", "cache"),
}


@dataclass(frozen=True)
class PreviousRun(Generic[R]):
    """A run in a folder, its newest intact checkpoint, and the damage of each newer checkpoint, by name."""

    run: R
    checkpoint: Checkpoint
    damaged: Mapping[str, str] = field(default_factory=dict)

    def resumed_config(self, requested: C) -> C:
        """The requested configuration, if it differs from that of the run only in fields that may change."""
        try:  # not the one in config.json, which may have been edited
            own = type(requested).from_dict(self.checkpoint.state.get("config"))
        except ConfigError as error:
            name = self.checkpoint.name
            raise RunError(f"{self.run.path}: checkpoint {name} has a malformed configuration. {error}") from error
        requested = requested.as_chosen_by(own)
        check_same(self.run.path, own, requested.fields())
        return requested

    def text_difference(self, fingerprints: Mapping[str, Any]) -> str:
        """The first text that does not have the tokens of before, as a part of a sentence; else empty."""
        for name, title in TITLES.items():
            before = described(self.checkpoint.state["texts"].get(name))
            now = described(fingerprints.get(name))
            if before != now:
                return f"{self.run.path} was created with a different {title} text: {before}, but this one is {now}."
        return ""

    def check_texts(self, fingerprints: Mapping[str, Any]) -> None:
        """Raise `TextError` if a text does not have the same tokens."""
        if difference := self.text_difference(fingerprints):
            raise TextError(
                f"{difference} Use the same text, choose a different `run`, or replace the run with `overwrite=True`."
            )

    def restore_files(self, run: RunFolder, log: Log) -> None:
        """Remove damaged checkpoints, and metrics and weights that are newer than the checkpoint.

        `run` has the configuration of the resumed training; `log` gets a line about each file of weights that changes.
        """
        with writing(self.run.checkpoints_path):
            for name in self.damaged:
                CheckpointStore(self.run.checkpoints_path).remove(name)
        with writing(self.run.metrics_path), atomic_path(self.run.metrics_path) as file:
            file.write_text(self.checkpoint.metrics, encoding="utf-8")
        repair_weights(run, self.checkpoint, log)

    def changed_environment(self, now: Mapping[str, Any]) -> str:
        """Changes that may affect the last bits of the result, e.g. `"backend jax (was torch)"`; empty without any."""
        before = self.checkpoint.state["surroundings"]
        changed = [name for name in now if before.get(name) != now[name] and name != "keraslm"]
        if "backend" in changed:
            changed = ["backend"]
        return ", ".join(f"{name} {now[name]} (was {before.get(name)})" for name in changed)


def unfinished_runs(config: Config) -> Iterator[Run]:
    """The runs in `runs/` with this configuration and a checkpoint before their end, the last one used first.

    Runs that a different process is training are left out.
    """
    headers = [path for path in RUNS.glob(f"*/{CONFIG}") if not path.parent.is_symlink()]
    for header in sorted(headers, key=lambda path: path.stat().st_mtime, reverse=True):
        with suppress(KeraslmError, OSError):
            run = Run.open(header.parent)
            if run.config != config.as_chosen_by(run.config):
                continue
            with folder_lock(run.path):
                checkpoint, _ = CheckpointStore(run.checkpoints_path).newest()
            epochs = run.epochs()  # of a damaged run, an error
            if checkpoint and (checkpoint.epoch < config.train.epochs or run.trained_epoch() not in epochs[-1:]):
                yield run


def find_previous_run(folder: Path, resume: str, overwrite: bool, log: Log, kind: type[R]) -> PreviousRun[R] | None:
    """The run to resume in a folder; None if a new run starts, or the previous one restarts.

    `resume` and `overwrite` are those of `keraslm.train`; `log` gets a line about a damaged checkpoint or a
    restart; `kind` is the class of the run.

    Raises:
        RunError: the folder holds a run, or no run, against `resume`; or it has no intact checkpoint.
    """
    if state_of(folder)[0] != "run" or overwrite or resume == "never":
        if resume == "must":
            raise RunError(f'{folder}: there is no run to resume. Leave `resume="must"` out to create one.')
        check_free(folder, overwrite)
        return None
    run = kind.open(folder)
    checkpoint, damaged = CheckpointStore(run.checkpoints_path).newest()
    found = "; ".join(f"{name}: {damage}" for name, damage in damaged.items())
    if checkpoint:
        if damaged:
            log(f"damaged   checkpoint {found}; resuming from the previous one, {checkpoint.name}")
        return PreviousRun(run, checkpoint, damaged)
    if damaged:
        raise RunError(f"{folder}: every checkpoint is damaged ({found}). Train from the start with `overwrite=True`.")
    if resume == "must" or run.weights_path.exists():  # weights are written after the checkpoint of their epoch
        raise RunError(
            f"{folder} holds a run without a checkpoint, which cannot be resumed. Choose a different `run`, or replace "
            "it with `overwrite=True`."
        )
    log(f"restarted {folder} was stopped before its first checkpoint")
    return None


def requested_config(run: Run, config: Config | None, overrides: Overrides) -> Config:
    """The configuration requested for a run that is resumed: its own texts and settings unless others are given."""
    try:
        return changed_config(run.config, config, overrides, str(run.path))
    except ConfigError:  # perhaps a contradiction between a given field and one of the run
        if config is None and run.checkpoints_path.is_dir():
            check_same(run.path, run.config, overrides)
        raise


def changed_config(own: Config, config: Config | None, overrides: Overrides, owner: str) -> Config:
    """A configuration with some fields changed, in which the texts of a run stand for missing ones.

    Args:
        own: the configuration of the run.
        config: the one to change; None: that of the run.
        overrides: the changes; texts among them replace all texts of the run.
        owner: name of the run, for messages.
    """
    texts = ("train", "valid", "data")
    about_texts = {"valid_share": DataConfig().valid_share, "train_weights": None}
    if config is not None:
        names_texts = any(getattr(config.data, name) or overrides.get(name) for name in texts)
        with_texts = (*texts, *about_texts, "encoding")
        kept: Any = {} if names_texts else {name: getattr(own.data, name) for name in with_texts}
        return config.replace(**(kept | overrides))
    replaced: Any = dict.fromkeys(texts) | about_texts if any(name in overrides for name in texts) else {}
    config = own.replace(**(replaced | overrides))
    check_sizes(config.model, overrides, owner)
    return config


def check_same(path: Path, own: Sections, requested: Mapping[str, Any]) -> None:
    """Raise `ConfigError` with each difference between a run and the requested fields that may not change."""
    before = own.fields()
    free = FREE - ({"epochs"} if own.train.rate_depends_on_epochs else set())
    differences = [
        f"`{name}` is {shown(before[name])}, not {shown(value)}"
        for name, value in requested.items()
        if name not in free and name in before and value != before[name]
    ]
    if differences:
        raise ConfigError(
            f"{path} was created with a different configuration: {'; '.join(differences)}. Leave these out to resume "
            "the run, choose a different `run`, or replace the run with `overwrite=True`."
        )


def environment(backend: str) -> dict[str, Any]:
    """Everything that may affect the last bits of the result: versions, processor model and number of cores."""
    return {**versions(backend), "processor": _processor(), "cores": available_cores()}


def _processor() -> str:
    with suppress(OSError):
        listed = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        if found := re.search(r"^model name\s*:\s*(.+)", listed, re.MULTILINE):
            return found[1]
    return platform.processor() or platform.machine()
