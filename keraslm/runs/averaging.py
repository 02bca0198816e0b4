"""The mean of weights: of the last epochs of a training, or of several trainings. No Keras here.

    w = 1/M * (w_1 + ... + w_M)        for each weight of M files, in float64

The mean of points along one training lies nearer to the middle of the valley that it bounces about in, and generalises
better than the last of them, at no cost when the model is used (Polyak and Juditsky 1992, "Acceleration of stochastic
approximation by averaging"; Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization",
arXiv:1803.05407). Trainings from different initial weights lie in different valleys, and their mean in none: for these,
take the mean of the probabilities (`keraslm score --with`).
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.system.atomic import make_folder, writing
from keraslm.errors import RunError, UsageError, shown
from keraslm.system.locks import run_lock
from keraslm.runs.run import Run, check_free
from keraslm.config.shapes import weight_shapes
from keraslm.runs.weights import Weights, read_weights, write_weights

Log = Callable[[str], None]
_MAKING = ".average"  # folder inside the output, while it is made


@dataclass(frozen=True)
class Member:
    """A file of weights that goes into a mean.

    Attributes:
        run: that it belongs to.
        path: of the file.
        row: of the run's metrics, of the epoch that left these weights; empty where there is none.
    """

    run: Run
    path: Path
    row: Mapping[str, Any] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """What the metrics of the mean say of it: `run`, `weights`, `sha256` of the file; `epoch` and `val_perplexity`
        where they are known."""
        found = {"run": str(self.run.path), "weights": self.path.name, "sha256": _digest(self.path)}
        return found | {name: self.row[name] for name in ("epoch", "val_perplexity") if name in self.row}


def described(facts: Any) -> str:
    """A member's facts in words.

    Example:
        >>> described({"run": "runs/a", "weights": "weights-012.safetensors", "epoch": 12})
        'runs/a/weights-012.safetensors (epoch 12)'
    """
    if not isinstance(facts, dict):
        return shown(facts)
    epoch = f" (epoch {facts['epoch']})" if "epoch" in facts else ""
    return f"{facts.get('run')}/{facts.get('weights')}{epoch}"


def members_of(runs: Sequence[Run], last: int = 0) -> list[Member]:
    """The weights to be averaged.

    Args:
        runs: two or more, each with the weights that it is used with; or one, with `last`.
        last: epochs of the one run, the last whose weights were kept; 0 takes the runs' own weights.

    Raises:
        UsageError: one run without `last`, several with it, one twice, or a mean of fewer than two.
        RunError: fewer epochs were kept than are asked for.
    """
    if last:
        return _last_epochs(runs, last)
    if len(runs) < 2:
        raise UsageError("A mean takes two runs or more; of one run, the last epochs: add --last 5.")
    paths = [run.path.resolve() for run in runs]
    for run, path in zip(runs, paths, strict=True):
        if paths.count(path) > 1:
            raise UsageError(f"{run.path} was given more than once; give each run once.")
    return [Member(run, run.weights_path, run.trained_epoch()) for run in runs]


def _last_epochs(runs: Sequence[Run], last: int) -> list[Member]:
    if last < 2:
        raise UsageError(f"--last is {last}, but a mean takes at least 2 epochs.")
    if len(runs) != 1 or runs[0].weights != "last":
        raise UsageError("--last N averages the last epochs of one run: give one RUN, and leave out --weights best.")
    run = runs[0]
    kept = run.kept_weights()
    if len(kept) < last:
        found = f"of epochs {', '.join(map(str, kept))} only" if kept else "of no epoch"
        raise RunError(
            f"{run.path} keeps the weights {found}, but --last asks for {last}. Train with --keep-weights {last}."
        )
    rows = {row.get("epoch"): row for row in run.epochs()}
    return [Member(run, path, rows.get(epoch, {"epoch": epoch})) for epoch, path in [*kept.items()][-last:]]


def check_alike(members: Sequence[Member]) -> None:
    """Refuse members whose weights do not mean the same.

    Raises:
        RunError: two have different tokenizers, softmaxes or shapes; the message names both and the difference.
    """
    first, shapes = members[0].run, _shapes(members[0].run)
    for other in (member.run for member in members[1:]):
        differs = f"{other.path} cannot be averaged with {first.path}: "
        if other.tokenizer.digest != first.tokenizer.digest:
            sizes = f"{other.tokenizer.vocab_size:,} and {first.tokenizer.vocab_size:,} tokens"
            raise RunError(f"{differs}their tokenizers differ ({sizes}). Train both with one tokenizer.")
        if other.config.model.softmax != first.config.model.softmax:
            softmaxes = f"{other.config.model.softmax}, not {first.config.model.softmax}"
            raise RunError(f"{differs}its softmax is {softmaxes}. Average runs of one configuration.")
        own = _shapes(other)
        for name in [*shapes, *own]:
            if own.get(name) != shapes.get(name):
                found, expected = (str(each.get(name, "missing")) for each in (own, shapes))
                raise RunError(f"{differs}{name} is {found}, not {expected}. Average runs of one configuration.")


def mean_weights(members: Sequence[Member]) -> Weights:
    """The mean of each weight, summed in float64 and rounded to float32 at the end.

    Raises:
        RunError: a file is missing, damaged, not finite, or does not fit its run.
    """
    total: dict[str, NDArray[np.float64]] = {}
    for member in members:
        for name, value in read_weights(member.path, member.run.config.model, member.run.tokenizer.vocab_size).items():
            if name in total:
                total[name] += value
            else:
                total[name] = value.astype(np.float64)
    return {name: (value / len(members)).astype(np.float32) for name, value in total.items()}


def average_runs(
    members: Sequence[Member],
    output: Path,
    overwrite: bool = False,
    validate: Callable[[Run], Mapping[str, float]] = lambda _: {},
    log: Log = print,
) -> Run:
    """Write the mean of weights as a run, with the configuration and tokenizer of the first member's.

    Its metrics are one row: `averaged`, the facts of each member, and what `validate` found. Nothing appears in the
    folder before all of it is there, and an older run stays until then.

    Args:
        members: from `members_of`.
        output: the new run's folder.
        overwrite: replace a run that is already there.
        validate: figures of a run, such as `{"val_perplexity": 81.2}`.
        log: takes a line about each member.

    Raises:
        RunError: the members do not fit each other, one is damaged, or a run is in the way.
        UsageError: the output is the folder of a member.
        WriteError: the folder cannot be written.
    """
    check_alike(members)
    if output.resolve() in [member.run.path.resolve() for member in members]:
        raise UsageError(f"{output} is one of the runs that are averaged. Choose another --output.")
    check_free(output, overwrite, "--output")
    mean, first = mean_weights(members), members[0].run
    row = {"averaged": [member.facts() for member in members]}
    for member, facts in zip(members, row["averaged"], strict=True):
        log(f"member    {described(facts)}{_figure(member, first)}")
    with _made_in(output, log) as folder:
        made = replace(first, path=folder, weights="last")
        with writing(output, "Nothing was changed there."):
            write_weights(made.weights_path, mean)
        made.append(row | dict(validate(made)))
        parts = (made.weights_path, made.metrics_path)
        return replace(made, path=output).place(first.backend or "numpy", overwrite, parts, flag="--output")


@contextmanager
def _made_in(output: Path, log: Log) -> Iterator[Path]:
    """A folder inside the output for what is not whole yet; where that fails, an output that was not there is not."""
    was_there = output.is_dir()
    folder = output / _MAKING
    try:
        with ExitStack() as held:
            with writing(output):
                make_folder(output)
                held.enter_context(run_lock(output, log))
                shutil.rmtree(folder, ignore_errors=True)  # of a killed process
                folder.mkdir()
            held.callback(shutil.rmtree, folder, ignore_errors=True)
            yield folder
    finally:
        if not was_there:
            with suppress(OSError):  # it holds a run
                output.rmdir()


def _figure(member: Member, first: Run) -> str:
    if "val_perplexity" not in member.row:
        return ""
    same = _validated_on(member.run) == _validated_on(first)
    return f": val_perplexity {member.row['val_perplexity']:.2f}{'' if same else ', counted otherwise'}"


def _validated_on(run: Run) -> tuple[Any, ...]:
    data, train = run.config.data, run.config.train
    text = run.texts.get("valid", (data.valid, data.data))
    return text, data.documents, train.batch_size, train.num_steps


def _shapes(run: Run) -> dict[str, tuple[int, ...]]:
    return weight_shapes(run.config.model, run.tokenizer.vocab_size)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
