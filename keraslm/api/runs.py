"""Runs as Python objects: `load_run`, `load_model` and `average`."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from keraslm import arguments
from keraslm.api import Backend
from keraslm.config import StrPath, user_path
from keraslm.errors import MissingPackageError, TextError
from keraslm.runs.averaging import average_runs, members_of
from keraslm.runs.folder import LATEST
from keraslm.runs.run import Run, run_text
from keraslm.system import Log
from keraslm.system.backend import select_backend
from keraslm.text.encoding import Encoder

if TYPE_CHECKING:
    import keras


def load_run(path: StrPath = LATEST, weights: Literal["last", "best"] | int = "last") -> Run:
    """Open a run folder: configuration, tokenizer and metrics. Does not need Keras.

    Args:
        path: the folder.
        weights: the weights to use: `"last"`, `"best"` by validation perplexity, or a number of trained words at which
            `save_at_words` has kept them.

    Raises:
        RunError: the folder is missing or damaged, or does not have these weights.

    Example:
        >>> keraslm.load_run("runs/mine").epochs()[-1]["val_perplexity"]
        119.7
    """
    arguments.not_empty(run=path)
    if isinstance(weights, str):
        arguments.choice(weights, "weights", ("last", "best"))
    else:
        arguments.integer(weights, "weights", 1)
    return Run.open(path, weights)


def opened_run(run: Any, name: str) -> Run:
    """A run, or the run in a folder; `name` is the argument."""
    return run if isinstance(run, Run) else load_run(arguments.path(run, name))


def load_model(run: Run | StrPath, batch_size: int = 1, backend: Backend | None = None) -> keras.Model:
    """The trained network of a run as a stateful `keras.Model`.

    Args:
        run: a run or its folder.
        batch_size: B, rows whose state is carried.
        backend: as for `train`.

    Returns:
        a model from ids `(B, T)` to logits `(B, T, V)`.

    Example:
        >>> keraslm.load_model("runs/mine")(np.array([[0]])).shape
        (1, 1, 10000)
    """
    rows = arguments.integer(batch_size, "batch_size", 1)
    run = opened_run(run, "run")
    select_backend(backend)
    from keraslm.evaluation.reader import load_model as build

    return build(run, rows)


def average(
    runs: Run | StrPath | Sequence[Run | StrPath],
    output: StrPath,
    *,
    last: int | None = None,
    overwrite: bool = False,
    backend: Backend | None = None,
    cache: StrPath | None = None,
    log: Log = print,
) -> Run:
    """Average the weights of several runs, or of the last epochs of one run, into a new run.

    If the first run has a validation text, the new run is evaluated on it, counted in the windows of the training; its
    `averaged()` row holds the result as `val_perplexity`.

    Args:
        runs: two or more runs or their folders, with the weights they were opened with; or one, with `last`.
        output: folder of the new run.
        last: number of last epochs of one run to average, which `keep_weights` has kept.
        overwrite: replace a run that is already in the folder; files that it has not written stay.
        backend: as for `train`, for the evaluation.
        cache: folder for the ids of large texts; None takes the user's cache.
        log: called with each line of progress text.

    Returns:
        the new run, which can be evaluated and exported, but not trained further.

    Raises:
        UsageError: too few runs, or the same run twice.
        RunError: different tokenizers or shapes, damaged weights, fewer kept epochs than requested, or a run in the
            output folder.

    Example:
        >>> run = keraslm.average("runs/mine", "runs/mean", last=5)
        >>> run.averaged()["val_perplexity"]
        81.2
    """
    arguments.not_empty(output=output, cache=cache)
    if last is not None:
        arguments.integer(last, "last", 0)
    arguments.switch(overwrite, "overwrite")
    one = isinstance(runs, Run | str | os.PathLike)
    listed = [(runs, "runs")] if one else arguments.each(runs, "runs", "runs or paths")
    output = arguments.path(output, "output")
    members = members_of([opened_run(run, place) for run, place in listed], last)

    def validate(run: Run) -> dict[str, float]:
        try:
            text = run_text(members[0].run, "valid", Encoder(cache))
            if text is None:
                return {}
            select_backend(backend)
            from keraslm.evaluation.reader import evaluate_encoded

            found = evaluate_encoded(run, text, tutorial=True).perplexity
            return {"val_perplexity": found} if math.isfinite(found) else {}
        except (TextError, MissingPackageError) as error:
            log(f"          the average is not evaluated: {error}")
            return {}

    return average_runs(members, user_path(output), overwrite, validate, log)
