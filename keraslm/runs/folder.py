"""The run folder: the files written by a training run of any network, and how they are opened.

`docs/reference/run-folder.md` describes each file. `runs/latest` is a link to the run of a language model that was
started last.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from keraslm import arguments
from keraslm.config import BACKENDS, Sections, StrPath, user_path
from keraslm.errors import ConfigError, RunError, shown
from keraslm.runs.files import (
    AT_WORDS,
    AT_WORDS_NAME,
    BEST,
    CHECKPOINTS,
    CONFIG,
    EVERY,
    INCOMPLETE,
    KEPT,
    KEPT_NAME,
    METRICS,
    TOKENIZER,
    WEIGHTS,
    listed_in,
)
from keraslm.runs.metrics import append_row, read_rows
from keraslm.runs.weights import Weights, read_note, read_weights

FORMAT_VERSION = 2  # of config.json; 1 had other names and values of fields, see `keraslm.config.legacy`
RUNS = Path("runs")
LATEST = RUNS / "latest"


class Vocabulary(Protocol):
    """What a run folder needs of a tokenizer; its class reads the JSON again with `from_json(text, where)`."""

    @property
    def vocab_size(self) -> int: ...

    def to_json(self) -> str: ...


@dataclass(frozen=True, repr=False)
class RunFolder:
    """A run folder with its configuration and tokenizer. `keraslm.runs.run.Run` is that of a language model.

    A subclass names the classes of its configuration and tokenizer in `KINDS` and says in `shapes` which weights its
    network has.

    Attributes:
        path: the folder.
        config: the configuration it was trained with.
        tokenizer: its vocabulary.
        weights: the weights to use: `"last"`, `"best"` by validation, or those at a number of trained words.
        texts: `keraslm.text.store.fingerprint` of `"train"` and `"valid"`; empty if `config.json` does not have them.
        files: what it may write besides `config.json`: names of `keraslm.runs.files`.
        origin: where its initial weights came from: `weights`, `new_words`, `embeddings`; empty if they were random.
    """

    KINDS: ClassVar[tuple[Any, Any]]
    COMMAND: ClassVar[str] = "keraslm train"  # resumes the run, with --run

    path: Path
    config: Sections
    tokenizer: Vocabulary
    weights: str | int = "last"
    texts: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = EVERY
    origin: Mapping[str, Any] = field(default_factory=dict)

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each weight of the network, by name."""
        raise NotImplementedError

    def validation_cost(self, row: Mapping[str, Any]) -> float:
        """The number that the best weights minimise, from a row of `metrics.jsonl`; infinity without a validation."""
        return row.get("val_perplexity") or math.inf

    def check(self) -> None:
        """Raise `RunError` if configuration and tokenizer contradict each other."""

    @classmethod
    def open(cls, path: StrPath, weights: str | int = "last") -> Self:
        """Open a run folder.

        Raises:
            RunError: the folder, its configuration or its tokenizer is missing or damaged, or has no such weights.
            TokenizerError: `tokenizer.json` is malformed.
        """
        root = user_path(arguments.path(path, "path"))
        if not root.is_dir():
            hint = " Train one first: keraslm train." if root == LATEST else ""
            raise RunError(f"{root}: no such run folder.{hint}")
        header, (config_of, tokenizer_of) = _read_header(root), cls.KINDS
        try:
            config = config_of.from_dict(header)
        except ConfigError as error:
            raise RunError(f"{root / CONFIG}: {error}") from error
        tokenizer = tokenizer_of.from_json(_read_text(root / TOKENIZER), str(root / TOKENIZER))
        if tokenizer.vocab_size != header.get("vocab_size"):
            raise RunError(
                f"{root}: tokenizer.json has {tokenizer.vocab_size} tokens, but config.json says "
                f"{shown(header.get('vocab_size'))}. The two files belong to different runs."
            )
        run = cls(root, config, tokenizer, weights, header.get("texts", {}), listed_in(header), _origin(header))
        run.check()
        if weights == "best" and not run.weights_path.is_file():
            reason = "no epoch was validated since the training began or was resumed"
            raise RunError(f'{root}: no best weights; {reason}. Leave `weights="best"` out.')
        if isinstance(weights, int) and weights not in (kept := run.weights_at_words()):
            found = ", ".join(f"{words:,}" for words in kept) or "no number of words; train with `save_at_words`"
            raise RunError(f"{root}: no weights at {weights:,} words. It has kept those at {found}.")
        return run

    @property
    def backend(self) -> str | None:
        """The backend it was last trained on; None if `config.json` does not name one."""
        found = _read_header(self.path).get("versions", {}).get("backend")
        return found if found in BACKENDS else None

    @property
    def weights_path(self) -> Path:
        if isinstance(self.weights, int):
            return self.at_words_path(self.weights)
        return self.best_weights_path if self.weights == "best" else self.path / WEIGHTS

    @property
    def best_weights_path(self) -> Path:
        return self.path / BEST

    def kept_weights_path(self, epoch: int) -> Path:
        """The file of the weights of an epoch, counted from 1, with `keep_weights`."""
        return self.path / f"weights-{epoch:03d}.safetensors"

    def kept_weights(self) -> dict[int, Path]:
        """Files of the kept weights, by epoch, in order."""
        return self._numbered(KEPT, KEPT_NAME)

    def at_words_path(self, words: int) -> Path:
        """The file of the weights at a number of trained words, with `save_at_words`."""
        return self.path / f"weights-at-{words}.safetensors"

    def weights_at_words(self) -> dict[int, Path]:
        """Files of the weights that are kept by numbers of trained words, in order."""
        return self._numbered(AT_WORDS, AT_WORDS_NAME)

    def _numbered(self, pattern: str, name: re.Pattern[str]) -> dict[int, Path]:
        """Files by the number in their names, in order."""
        matches = ((name.fullmatch(path.name), path) for path in self.path.glob(pattern))
        return dict(sorted((int(match[1]), path) for match, path in matches if match))

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
        note = read_note(path)
        digest = note.get("sha256")
        if number := AT_WORDS_NAME.fullmatch(path.name):
            own = [row for row in read_rows(self.metrics_path) if row.get("words") == int(number[1])]
            return next((row for row in own if row.get("weights") == digest), None)
        rows = self.epochs() or [row for row in [self.averaged()] if row]
        if found := [row for row in rows if digest and row.get("weights") == digest]:
            return found[-1]
        if not rows:
            return {}
        unmarked = [row for row in rows if "weights" not in row]
        kept = KEPT_NAME.fullmatch(path.name)
        if epoch := note.get("epoch") or (kept and str(int(kept[1]))):
            unmarked = [row for row in unmarked if str(row.get("epoch")) == epoch]
        if unmarked and path.name == BEST:
            return min(unmarked, key=self.validation_cost)
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
        return read_weights(path, self.shapes())

    def averaged(self) -> dict[str, Any]:
        """The row of `metrics.jsonl` that names the members of an averaged run; empty for a trained run."""
        return next((row for row in read_rows(self.metrics_path) if "averaged" in row), {})

    def append(self, row: dict[str, Any]) -> None:
        """Append a line to `metrics.jsonl`."""
        append_row(self.metrics_path, row)


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


def _origin(header: dict[str, Any]) -> dict[str, Any]:
    found, kinds = header.get("origin"), {"weights": dict, "new_words": int, "embeddings": dict}
    values = found if isinstance(found, dict) else {}
    return {name: values[name] for name, kind in kinds.items() if isinstance(values.get(name), kind)}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RunError(f"{path.parent}: not a run folder, {path.name} is missing.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: cannot be read ({error}).") from error
