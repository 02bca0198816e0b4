"""The run folder: the files written by a training run, and how they are opened.

`docs/run-folder.md` describes each file. `runs/latest` is a link to the run that was started last.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keraslm import arguments
from keraslm.config import BACKENDS, Config, StrPath, user_path
from keraslm.errors import ConfigError, RunError, TextError, shown
from keraslm.runs.files import (
    BEST,
    CHECKPOINTS,
    CONFIG,
    EVERY,
    INCOMPLETE,
    KEPT,
    KEPT_NAME,
    METRICS,
    WEIGHTS,
    listed_in,
)
from keraslm.runs.metrics import append_row, read_rows
from keraslm.runs.weights import Weights, read_note, read_weights
from keraslm.text.corpus import open_text
from keraslm.text.encoding import Encoder
from keraslm.text.paths import STDIN
from keraslm.text.store import EncodedText, described, fingerprint
from keraslm.text.tokenizer import Tokenizer

FORMAT_VERSION = 2  # of config.json; 1 had other names and values of fields, see `keraslm.config.legacy`
RUNS = Path("runs")
LATEST = RUNS / "latest"
TITLES = {"train": "training", "valid": "validation"}


@dataclass(frozen=True, repr=False)
class Run:
    """A run folder with its configuration and tokenizer.

    Attributes:
        path: the folder.
        config: the configuration it was trained with.
        tokenizer: its vocabulary.
        weights: the weights to use: `"last"`, or `"best"` by validation perplexity.
        texts: `keraslm.text.store.fingerprint` of `"train"` and `"valid"`; empty if `config.json` does not have them.
        files: what it may write besides `config.json`: names of `keraslm.runs.files`.

    Example:
        >>> Run.open("runs/mine")
        Run('runs/mine': lstm of 2 x 200 units, 10,000 tokens, 13 epochs, val_perplexity 119.70)
    """

    path: Path
    config: Config
    tokenizer: Tokenizer
    weights: str = "last"
    texts: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = EVERY

    def __repr__(self) -> str:
        model, sizes = self.config.model, self.config.model.sizes
        units = f"{len(sizes)} x {sizes[0]}" if len(set(sizes)) == 1 else ", ".join(map(str, sizes))
        facts = [f"{model.cell} of {units} units", f"{self.tokenizer.vocab_size:,} tokens"]
        with suppress(RunError):  # damaged metrics
            facts.append(f"{len(self.epochs())} epochs")
            if perplexity := self.trained_epoch().get("val_perplexity"):
                facts.append(f"val_perplexity {perplexity:.2f}")
        return f"Run({str(self.path)!r}: {', '.join(facts)})"

    @classmethod
    def open(cls, path: StrPath, weights: str = "last") -> Run:
        """Open a run folder.

        Raises:
            RunError: the folder, its configuration or its tokenizer is missing or damaged, or it has no best weights.
            TokenizerError: `tokenizer.json` is malformed.
        """
        root = user_path(arguments.path(path, "path"))
        if not root.is_dir():
            hint = " Train one first: keraslm train." if root == LATEST else ""
            raise RunError(f"{root}: no such run folder.{hint}")
        header = _read_header(root)
        try:
            config = Config.from_dict(header)
        except ConfigError as error:
            raise RunError(f"{root / 'config.json'}: {error}") from error
        tokenizer = Tokenizer.from_json(_read_text(root / "tokenizer.json"), str(root / "tokenizer.json"))
        if tokenizer.vocab_size != header.get("vocab_size"):
            raise RunError(
                f"{root}: tokenizer.json has {tokenizer.vocab_size} tokens, but config.json says "
                f"{shown(header.get('vocab_size'))}. The two files belong to different runs."
            )
        if max(config.model.cutoffs or (0,)) >= tokenizer.vocab_size:
            cutoffs = shown(config.model.cutoffs)
            raise RunError(f"{root / 'config.json'}: cutoffs {cutoffs} exceed the {tokenizer.vocab_size} tokens.")
        run = cls(root, config, tokenizer, weights, header.get("texts", {}), listed_in(header))
        if weights == "best" and not run.weights_path.is_file():
            reason = "no epoch was validated since the training began or was resumed"
            raise RunError(f'{root}: no best weights; {reason}. Leave `weights="best"` out.')
        return run

    @property
    def backend(self) -> str | None:
        """The backend it was last trained on; None if `config.json` does not name one."""
        found = _read_header(self.path).get("versions", {}).get("backend")
        return found if found in BACKENDS else None

    @property
    def weights_path(self) -> Path:
        return self.best_weights_path if self.weights == "best" else self.path / WEIGHTS

    @property
    def best_weights_path(self) -> Path:
        return self.path / BEST

    def kept_weights_path(self, epoch: int) -> Path:
        """The file of the weights of an epoch, counted from 1, with `keep_weights`."""
        return self.path / f"weights-{epoch:03d}.safetensors"

    def kept_weights(self) -> dict[int, Path]:
        """Files of the kept weights, by epoch, in order."""
        found = {}
        for path in self.path.glob(KEPT):
            if number := KEPT_NAME.fullmatch(path.name):
                found[int(number[1])] = path
        return dict(sorted(found.items()))

    @property
    def checkpoints_path(self) -> Path:
        return self.path / CHECKPOINTS

    @property
    def metrics_path(self) -> Path:
        return self.path / METRICS

    def epochs(self) -> list[dict[str, Any]]:
        """The row of `metrics.jsonl` for each finished epoch, in order."""
        return [row for row in read_rows(self.metrics_path) if "perplexity" in row]

    def trained_epoch(self) -> dict[str, Any]:
        """The row of the epoch whose weights are used, or the row of an averaged run; empty if there is none."""
        return self.row_of(self.weights_path) or {}

    def row_of(self, path: Path) -> dict[str, Any] | None:
        """The row of `metrics.jsonl` that belongs to a file of weights of this run.

        Rows and files name the SHA-256 of the weights. Those of earlier versions do not: the last row belongs to the
        last weights, that of the best validation to the best ones. Empty if the row is unknown, because there are no
        rows or a different program wrote the file. None if the file belongs to none of the rows.
        """
        rows, note = self.epochs() or [row for row in [self.averaged()] if row], read_note(path)
        digest = note.get("sha256")
        if found := [row for row in rows if digest and row.get("weights") == digest]:
            return found[-1]
        if not rows:
            return {}
        unmarked = [row for row in rows if "weights" not in row]
        kept = KEPT_NAME.fullmatch(path.name)
        if epoch := note.get("epoch") or (kept and str(int(kept[1]))):
            unmarked = [row for row in unmarked if str(row.get("epoch")) == epoch]
        if unmarked and path.name == BEST:
            return min(unmarked, key=lambda row: row.get("val_perplexity") or math.inf)
        return unmarked[-1] if unmarked else None if digest else {}

    def read_weights(self, path: Path | None = None) -> Weights:
        """Read and check weights: those that are used, or those of a file.

        Raises:
            RunError: as `keraslm.runs.weights.read_weights`; or the metrics are those of different weights.
        """
        path = path or self.weights_path
        if self.row_of(path) is None:
            epoch = read_note(path).get("epoch")
            which = f"the weights of epoch {epoch}" if epoch else "weights"
            raise RunError(
                f"{path} holds {which} that belong to no row of metrics.jsonl: the two files are of different "
                "trainings. Resume the training, which repairs the folder, or restore both files."
            )
        return read_weights(path, self.config.model, self.tokenizer.vocab_size)

    def averaged(self) -> dict[str, Any]:
        """The row of `metrics.jsonl` that names the members of an averaged run; empty for a trained run."""
        return next((row for row in read_rows(self.metrics_path) if "averaged" in row), {})

    def append(self, row: dict[str, Any]) -> None:
        """Append a line to `metrics.jsonl`."""
        append_row(self.metrics_path, row)


def run_text(run: Run, split: str, encoder: Encoder) -> EncodedText | None:
    """The text `"train"` or `"valid"` of a run, read again; None if the run has no validation text.

    Raises:
        TextError: the text was standard input, cannot be read, has moved, or has changed.

    Example:
        >>> run_text(Run.open("runs/ptb"), "valid", Encoder()).counts.tokens
        73760
    """
    data, title = run.config.data, TITLES[split]
    if STDIN in (getattr(data, split) or ()):
        raise TextError(f"{run.path}: its {title} text was standard input.")
    try:
        text = open_text(data, split)
    except TextError as error:
        raise TextError(
            f"{error} It is the {title} text of {run.path}; if it has moved, write its new place into "
            f'{run.path / "config.json"}, at "data", "{"data" if data.data else split}".'
        ) from error
    if text is None:
        return None
    encoded = encoder.encode(text, run.tokenizer)
    if split in run.texts:  # the first versions did not write it
        before, now = described(run.texts[split]), described(fingerprint(encoded.ids))
        if before != now:
            raise TextError(
                f"{text.name} is no longer the {title} text of {run.path}, which was {before}; this one is {now}."
            )
    return encoded


def _read_header(root: Path) -> dict[str, Any]:
    path = root / CONFIG
    text = _read_text(path)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: not JSON ({error}).") from error
    found = header.get("format_version") if isinstance(header, dict) else None
    if type(found) is not int or not 1 <= found <= FORMAT_VERSION:
        raise RunError(f"{path}: format version {shown(found)}, but this keraslm reads 1 to {FORMAT_VERSION}.")
    if header.get(INCOMPLETE):
        raise RunError(f"{root}: no run yet; its creation was interrupted. Run the same command again.")
    return dict(header)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RunError(f"{path.parent}: not a run folder, {path.name} is missing.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: cannot be read ({error}).") from error
