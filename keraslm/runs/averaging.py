"""Average weights: of the last epochs of one training run, or of several runs.

    w = 1/M * (w_1 + ... + w_M)        for each weight of M files, in float64

The average of points along one training often generalizes better than the last point, at no cost when the model is used
(Polyak and Juditsky 1992; Izmailov et al. 2018, arXiv:1803.05407). The average of trainings with different initial
weights is worse than each of them: average their probabilities instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.config.shapes import weight_shapes
from keraslm.errors import RunError, UsageError
from keraslm.runs.create import check_free, locked_folder, place_run
from keraslm.runs.files import AVERAGE, METRICS, TOKENIZER, WEIGHTS, remove_average
from keraslm.runs.run import Run
from keraslm.runs.weights import Weights, digest_of, write_weights
from keraslm.system import Log
from keraslm.system.atomic import writing


@dataclass(frozen=True)
class Member:
    """A weight file that is averaged, with the row of `metrics.jsonl` for its epoch, if there is one."""

    run: Run
    path: Path
    row: Mapping[str, Any]

    def facts(self) -> dict[str, Any]:
        """Its `run`, `weights` (name of the file) and `sha256`; `epoch` and `val_perplexity` if known."""
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        found = {"run": str(self.run.path), "weights": self.path.name, "sha256": digest}
        return found | {name: self.row[name] for name in ("epoch", "val_perplexity") if name in self.row}


def described(facts: Mapping[str, Any]) -> str:
    """The facts of a member as text, e.g. `runs/a/weights-012.safetensors (epoch 12)`."""
    epoch = f" (epoch {facts['epoch']})" if "epoch" in facts else ""
    return f"{facts.get('run')}/{facts.get('weights')}{epoch}"


def members_of(runs: Sequence[Run], last: int | None = None) -> list[Member]:
    """The weight files of two or more runs, or of the last epochs of one run; errors as in `keraslm.average`."""
    if last is not None:
        return _last_epochs(runs, last)
    if len(runs) < 2:
        raise UsageError("An average needs two or more runs. To average the last epochs of one run, add `last=5`.")
    paths = [run.path.resolve() for run in runs]
    for run, path in zip(runs, paths, strict=True):
        if paths.count(path) > 1:
            raise UsageError(f"{run.path} was given more than once; give each run once.")
    return [Member(run, run.weights_path, run.trained_epoch()) for run in runs]


def _last_epochs(runs: Sequence[Run], last: int) -> list[Member]:
    if last < 2:
        raise UsageError(f"`last` is {last}, but an average needs at least 2 epochs.")
    if len(runs) != 1 or runs[0].weights != "last":
        raise UsageError('`last` averages the last epochs of one run: give one run, and leave `weights="best"` out.')
    run = runs[0]
    kept = run.kept_weights()
    if len(kept) < last:
        found = f"only of epochs {', '.join(map(str, kept))}" if kept else "of no epoch"
        raise RunError(
            f"{run.path} has kept the weights {found}, but `last` is {last}. Train with `keep_weights={last}`."
        )
    return [Member(run, path, run.row_of(path) or {"epoch": epoch}) for epoch, path in [*kept.items()][-last:]]


def _check_compatible(members: Sequence[Member]) -> None:
    """Raise `RunError` if two members differ in tokenizer, shapes, or in what the network does with its weights."""

    def facts(run: Run) -> dict[str, Any]:
        model = run.config.model
        own = {name: getattr(model, name) for name in ("cell", "input_gate", "skip_connections", "softmax")}
        return own | weight_shapes(model, run.tokenizer.vocab_size)

    first, *others = (member.run for member in members)
    expected = facts(first)
    for other in others:
        start, found = f"{other.path} cannot be averaged with {first.path}: ", facts(other)
        if other.tokenizer.digest != first.tokenizer.digest:
            sizes = f"{other.tokenizer.vocab_size:,} and {first.tokenizer.vocab_size:,} tokens"
            raise RunError(f"{start}their tokenizers differ ({sizes}). Train both with the same tokenizer.")
        for name in [*expected, *found]:
            own, wanted = found.get(name, "missing"), expected.get(name, "missing")
            if own != wanted:
                raise RunError(f"{start}{name} is {own}, not {wanted}. Average runs with the same configuration.")


def _mean_weights(members: Sequence[Member]) -> Weights:
    total: dict[str, NDArray[np.float64]] = {}
    for member in members:
        for name, value in member.run.read_weights(member.path).items():
            total[name] = total.get(name, 0.0) + value.astype(np.float64)
    return {name: (value / len(members)).astype(np.float32) for name, value in total.items()}


def average_runs(
    members: Sequence[Member],
    output: Path,
    overwrite: bool,
    validate: Callable[[Run], Mapping[str, float]],
    log: Log,
) -> Run:
    """Average weights into a new run with the configuration and tokenizer of the first member.

    `metrics.jsonl` gets one row: `averaged` with the facts of each member, and the result of `validate`, such as
    `{"val_perplexity": 81.2}`. A previous run in the folder is replaced once all new files are complete.

    Raises:
        RunError: the members do not match, one is damaged, or the folder already holds a run.
        UsageError: the output is the folder of a member.
        WriteError: the folder cannot be written.
    """
    _check_compatible(members)
    if output.resolve() in [member.run.path.resolve() for member in members]:
        raise UsageError(f"{output} is one of the runs that are averaged. Choose a different `output`.")
    check_free(output, overwrite, "output")
    weights, first = _mean_weights(members), members[0].run
    averaged = [member.facts() for member in members]
    for member, facts in zip(members, averaged, strict=True):
        log(f"member    {described(facts)}{_perplexity(member, first)}")
    with _temporary_folder(output, log) as folder:
        made = replace(first, path=folder, weights="last", files=(TOKENIZER, WEIGHTS, METRICS))
        write_weights(made.weights_path, weights)
        made.append({"averaged": averaged, "weights": digest_of(weights), **validate(made)})
        run = replace(made, path=output)
        place_run(run, first.backend or "numpy", overwrite, (made.weights_path, made.metrics_path))
        return run


@contextmanager
def _temporary_folder(output: Path, log: Log) -> Iterator[Path]:
    """A folder in the output folder for incomplete files. A new output folder is removed again on failure."""
    existed, folder = output.is_dir(), output / AVERAGE
    try:
        with locked_folder(output, log):
            with writing(output):
                remove_average(output)  # of a killed process
                folder.mkdir()
            try:
                yield folder
            finally:
                with suppress(OSError):  # report the first error
                    remove_average(output)
    finally:
        if not existed:
            with suppress(OSError):  # it is not empty: it holds the new run
                output.rmdir()


def _perplexity(member: Member, first: Run) -> str:
    if "val_perplexity" not in member.row:
        return ""
    same = _validation(member.run) == _validation(first)
    return f": val_perplexity {member.row['val_perplexity']:.2f}{'' if same else ', of a different text or windows'}"


def _validation(run: Run) -> tuple[Any, ...]:
    data, train = run.config.data, run.config.train
    text = run.texts.get("valid", (data.valid, data.data))
    return text, data.context, train.batch_size, train.num_steps
