"""The run folder: what a training leaves behind, and how its files are written.

    RUN/
      config.json          format version, configuration, vocabulary size, versions of the parts
      tokenizer.json       the vocabulary, readable by the `tokenizers` library
      weights.safetensors  the trained weights, by name (`lstm_0/kernel`), float32
      metrics.jsonl        one JSON object a line: each epoch, and each `log_every` windows
      learning_curve.png   perplexity by epoch, where matplotlib is installed

Every file is written beside its place, flushed to the disk and renamed over it, so that a reader sees the old or the
new one and never half of either. `runs/latest` is a link to the run that was started last.
"""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from keraslm.atomic import atomic_path
from keraslm.config import Config
from keraslm.errors import ConfigError, RunError, shown
from keraslm.text.tokenizer import Tokenizer

FORMAT_VERSION = 1
RUNS = Path("runs")
LATEST = RUNS / "latest"


@dataclass(frozen=True)
class Run:
    """A run folder with its configuration and tokenizer.

    Attributes:
        path: the folder.
        config: what it was trained with.
        tokenizer: its vocabulary.
    """

    path: Path
    config: Config
    tokenizer: Tokenizer

    @property
    def weights_path(self) -> Path:
        return self.path / "weights.safetensors"

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @classmethod
    def create(cls, path: Path, config: Config, tokenizer: Tokenizer, backend: str, overwrite: bool) -> Run:
        """Start a run folder, and let `runs/latest` point at it.

        Raises:
            RunError: when the folder already holds a run and `overwrite` is false, or cannot be written.
        """
        check_free(path, overwrite)
        try:
            path.mkdir(parents=True, exist_ok=True)
            for old in ("config.json", "weights.safetensors", "metrics.jsonl", "learning_curve.png"):
                (path / old).unlink(missing_ok=True)
            shutil.rmtree(path / "tensorboard", ignore_errors=True)
            run = cls(path, config, tokenizer)
            with atomic_path(path / "tokenizer.json") as file:
                file.write_text(tokenizer.to_json(), encoding="utf-8")
            with atomic_path(path / "config.json") as file:
                file.write_text(json.dumps(run._header(backend), indent=2) + "\n", encoding="utf-8")
            _point_latest_at(path)
        except OSError as error:
            raise RunError(f"{path}: the run folder cannot be written ({error.strerror or error}).") from error
        return run

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open a run folder.

        Raises:
            RunError: when the folder, its configuration or its tokenizer is missing or damaged.
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
        if max(config.model.cluster_ends, default=0) >= tokenizer.vocab_size:
            raise RunError(
                f"{root / 'config.json'}: cutoffs {shown(config.model.cutoffs)} reach beyond the vocabulary of "
                f"{tokenizer.vocab_size} tokens."
            )
        return cls(root, config, tokenizer)

    def epochs(self) -> list[dict[str, Any]]:
        """Rows of `metrics.jsonl` that close an epoch, in order; empty before the first epoch has ended."""
        if not self.metrics_path.is_file():
            return []
        try:
            rows = [json.loads(line) for line in _read_text(self.metrics_path).split("\n") if line]
            if not all(isinstance(row, dict) for row in rows):
                raise TypeError("a line is not an object")
            epochs = [row for row in rows if "perplexity" in row]
            for row in epochs:
                for name in ("perplexity", "val_perplexity"):
                    _check_figure(name, row.get(name, 1.0))
            return epochs
        except (ValueError, OverflowError, RecursionError, TypeError) as error:
            raise RunError(f"{self.metrics_path}: not one JSON object a line ({error}).") from error

    def _header(self, backend: str) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "versions": versions(backend),
            "vocab_size": self.tokenizer.vocab_size,
            **self.config.to_dict(),
        }

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


def versions(backend: str) -> dict[str, str]:
    """Versions of what takes part in a training."""
    found = {"python": platform.python_version(), "backend": backend}
    for package in ("keraslm", "keras", backend, "numpy", "tokenizers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def check_free(path: Path, overwrite: bool) -> None:
    """Raise `RunError` when a run is in the way."""
    if (path / "config.json").exists() and not overwrite:
        raise RunError(f"{path} already holds a run. Choose another --run, or pass --overwrite to replace it.")
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; a run needs a folder. Choose another --run.")


def _point_latest_at(path: Path) -> None:
    RUNS.mkdir(exist_ok=True)
    link = RUNS / f".latest.{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(path.resolve(), RUNS.resolve()), target_is_directory=True)
    link.replace(LATEST)


def _check_figure(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{name} is {shown(value)}, not a finite number")


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RunError(f"{path.parent}: not a run folder, {path.name} is missing.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: cannot be read ({error}).") from error
