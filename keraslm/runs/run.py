"""The run folder: what a training leaves behind, and how its files are written.

    RUN/
      config.json          format version, configuration, vocabulary size, versions of the parts, what its texts were
      tokenizer.json       the vocabulary, readable by the `tokenizers` library
      weights.safetensors  the trained weights, by name (`lstm_0/kernel`), float32
      best.safetensors     those of the epoch that validated best
      weights-012.safetensors  those of epoch 12, where the last ones are kept
      checkpoints/         where a training goes on: `keraslm.runs.checkpoint`
      metrics.jsonl        one JSON object a line: each epoch, and each `log_every` windows
      learning_curve.png   perplexity by epoch, where matplotlib is installed

Every file is written beside its place, flushed to the disk and renamed over it, so that a reader sees the old or the
new one and never half of either. `runs/latest` is a link to the run that was started last.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from keraslm.config import BACKENDS, Config, StrPath
from keraslm.errors import ConfigError, RunError, shown
from keraslm.runs.metrics import append_row, read_rows
from keraslm.system.atomic import atomic_path, make_folder, remove_temporaries, sync_file, sync_folder, writing
from keraslm.system.backend import versions
from keraslm.text.tokenizer import Tokenizer

FORMAT_VERSION = 1
RUNS = Path("runs")
LATEST = RUNS / "latest"
# What a run holds besides its tokenizer; config.json, the mark of a run, goes first and comes last.
FILES = ("config.json", "weights.safetensors", "best.safetensors", "metrics.jsonl", "learning_curve.png")
FOLDERS = ("checkpoints", "tensorboard")


@dataclass(frozen=True)
class Run:
    """A run folder with its configuration and tokenizer.

    Attributes:
        path: the folder.
        config: what it was trained with.
        tokenizer: its vocabulary.
        weights: which are used: `"last"`, or `"best"` by the validation text.
        texts: `keraslm.text.store.fingerprint` of `"train"` and `"valid"`; empty where `config.json` does not say.
    """

    path: Path
    config: Config
    tokenizer: Tokenizer
    weights: str = "last"
    texts: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def backend(self) -> str | None:
        """The backend it was trained on last; None where `config.json` does not say."""
        found = self._read_header(self.path).get("versions")
        return found.get("backend") if isinstance(found, dict) and found.get("backend") in BACKENDS else None

    @property
    def weights_path(self) -> Path:
        """The file of the weights that are used."""
        return self.best_weights_path if self.weights == "best" else self.path / "weights.safetensors"

    @property
    def best_weights_path(self) -> Path:
        return self.path / "best.safetensors"

    def kept_weights_path(self, epoch: int) -> Path:
        """The file that keeps the weights of an epoch, counted from 1, with `keep_weights`."""
        return self.path / f"weights-{epoch:03d}.safetensors"

    def kept_weights(self) -> dict[int, Path]:
        """Files that keep the weights of an epoch, by its number, in order."""
        return dict(sorted(_kept_weights(self.path)))

    def keep_weights_from(self, epoch: int) -> None:
        """Remove the kept weights of the epochs before one.

        Raises:
            WriteError: one cannot be removed.
        """
        for number, path in self.kept_weights().items():
            if number < epoch:
                with writing(path):
                    path.unlink()

    @property
    def checkpoints_path(self) -> Path:
        return self.path / "checkpoints"

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    def create(self, backend: str, overwrite: bool) -> Run:
        """Start its folder, and let `runs/latest` point at it.

        An old run is removed when the new files lie beside it on the disk, and not before. A folder that is left on the
        way holds the old run, the new one or none: `config.json` is removed first and put in place last.

        Raises:
            RunError: when the folder already holds a run and `overwrite` is false.
            WriteError: when the folder or `runs/latest` cannot be written.
        """
        self.place(backend, overwrite)
        with writing(LATEST, f"{self.path} holds the new run, without weights."):
            _point_latest_at(self.path)
        return self

    def place(self, backend: str, overwrite: bool, parts: Sequence[Path] = (), flag: str = "--run") -> Run:
        """`create`, which calls it, without `runs/latest`.

        Args:
            parts: files on the same disk that are moved into the run before it is one.
            flag: that names the folder, for errors.
        """
        path = self.path
        check_free(path, overwrite, flag)
        with writing(path):
            make_folder(path)
            remove_temporaries(path / name for name in (*FILES, "tokenizer.json", *_unfinished(path)))
            with atomic_path(path / "config.json") as header, atomic_path(path / "tokenizer.json") as vocabulary:
                header.write_text(self._header(backend), encoding="utf-8")
                vocabulary.write_text(self.tokenizer.to_json(), encoding="utf-8")
                for file in (header, vocabulary, *parts):
                    sync_file(file)
                _remove_old(path)
                for part in parts:
                    part.replace(path / part.name)
        return self

    def changed(self, config: Config, backend: str) -> Run:
        """The run as it goes on: with what may change of its configuration, and on what it is trained now.

        Raises:
            WriteError: when `config.json` cannot be written; the old one is whole.
        """
        run = replace(self, config=config)
        remove_temporaries(self.path / name for name in (*FILES, *_unfinished(self.path)))
        path = self.path / "config.json"
        with writing(path, "The old one is untouched."), atomic_path(path) as file:
            file.write_text(run._header(backend), encoding="utf-8")
        return run

    @classmethod
    def open(cls, path: StrPath, weights: str = "last") -> Run:
        """Open a run folder.

        Args:
            path: the folder.
            weights: which are used: `"last"`, or `"best"` by the validation text.

        Raises:
            RunError: when the folder, its configuration or its tokenizer is missing or damaged, or it has no best
                weights.
            TokenizerError: when `tokenizer.json` is malformed.
        """
        root = Path(path)
        if not root.is_dir():
            hint = " Train one first: keraslm train." if root == LATEST else ""
            raise RunError(f"{root}: no such run folder.{hint}")
        header = cls._read_header(root)
        try:
            config = Config.from_dict(header)
        except ConfigError as error:
            raise RunError(f"{root / 'config.json'}: {error}") from error
        tokenizer = Tokenizer.from_json(_read_text(root / "tokenizer.json"), str(root / "tokenizer.json"))
        if tokenizer.vocab_size != header.get("vocab_size"):
            raise RunError(
                f"{root}: tokenizer.json has {tokenizer.vocab_size} tokens, but config.json says "
                f"{shown(header.get('vocab_size'))}. The two files are not of one run."
            )
        if max(config.model.cutoffs or (), default=0) >= tokenizer.vocab_size:
            raise RunError(
                f"{root / 'config.json'}: cutoffs {shown(config.model.cutoffs)} reach beyond the vocabulary of "
                f"{tokenizer.vocab_size} tokens."
            )
        texts = header.get("texts")
        run = cls(root, config, tokenizer, weights, texts if isinstance(texts, dict) else {})
        if weights == "best" and not run.weights_path.is_file():
            raise RunError(f"{root}: no best weights, for no epoch was validated. Leave --weights best out.")
        return run

    def trained_epoch(self) -> dict[str, Any]:
        """The row of the epoch that left the weights as they are used, or that says what they are the mean of; empty
        before the first epoch has ended."""
        rows = self.epochs()
        if not rows:
            return self.averaged()
        if self.weights == "last":
            return rows[-1]
        return min(rows, key=lambda row: row.get("val_perplexity") or math.inf)

    def epochs(self) -> list[dict[str, Any]]:
        """Rows of `metrics.jsonl` that close an epoch, in order; empty before the first epoch has ended."""
        return [row for row in read_rows(self.metrics_path) if "perplexity" in row]

    def averaged(self) -> dict[str, Any]:
        """The row of `metrics.jsonl` that says what weights the run's are the mean of; empty for a trained run."""
        return next((row for row in read_rows(self.metrics_path) if "averaged" in row), {})

    def append(self, row: dict[str, Any]) -> None:
        """Append a line to `metrics.jsonl`; where the disk does not take all of it, the file becomes what it was.

        Raises:
            WriteError: it cannot be written.
        """
        append_row(self.metrics_path, row)

    def _header(self, backend: str) -> str:
        header = {
            "format_version": FORMAT_VERSION,
            "versions": versions(backend),
            "vocab_size": self.tokenizer.vocab_size,
            **({"texts": self.texts} if self.texts else {}),
            **self.config.to_dict(),
        }
        return json.dumps(header, indent=2) + "\n"

    @staticmethod
    def _read_header(root: Path) -> dict[str, Any]:
        path = root / "config.json"
        try:
            header = json.loads(_read_text(path))
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path}: not JSON ({error}).") from error
        found = header.get("format_version") if isinstance(header, dict) else None
        if found != FORMAT_VERSION:
            raise RunError(f"{path}: format version {shown(found)}, but this keraslm reads {FORMAT_VERSION}.")
        return dict(header)


def check_free(path: Path, overwrite: bool, flag: str = "--run") -> None:
    """Raise `RunError` when a run is in the way."""
    if (path / "config.json").exists() and not overwrite:
        raise RunError(f"{path} already holds a run. Choose another {flag}, or pass --overwrite to replace it.")
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; a run needs a folder. Choose another {flag}.")


def _kept_weights(folder: Path) -> Iterator[tuple[int, Path]]:
    for path in folder.glob("weights-*.safetensors"):
        if found := re.fullmatch(r"weights-([0-9]{3,18})\.safetensors", path.name, re.ASCII):
            yield int(found[1]), path


def _unfinished(folder: Path) -> Iterator[str]:
    """Names of kept weights that a killed process was writing."""
    return (path.name[1:].rpartition(".")[0] for path in folder.glob(".weights-*.safetensors.*"))


def _remove_old(path: Path) -> None:
    for name in FILES:
        (path / name).unlink(missing_ok=True)
        sync_folder(path)
    for _, kept in _kept_weights(path):
        kept.unlink()
    for name in FOLDERS:
        if (path / name).exists():
            shutil.rmtree(path / name)


def _point_latest_at(path: Path) -> None:
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


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RunError(f"{path.parent}: not a run folder, {path.name} is missing.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: cannot be read ({error}).") from error
