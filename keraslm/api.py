"""The Python API: `train`, `evaluate` and `average` do what the commands of the same names do.

No import here loads Keras: each call selects the backend first and then imports what needs it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, Unpack, cast

from keraslm import arguments
from keraslm.config import CONTEXTS, Config, Context, Overrides, StrPath, user_path
from keraslm.errors import KeraslmError, MissingPackageError, TextError, UsageError
from keraslm.evaluation.options import TechniqueOptions, Techniques
from keraslm.runs.averaging import average_runs, members_of
from keraslm.runs.create import check_free
from keraslm.runs.files import state_of
from keraslm.runs.folder import LATEST
from keraslm.runs.initial import new_config
from keraslm.runs.resume import requested_config, unfinished_runs
from keraslm.runs.run import Run, run_text
from keraslm.system import Log
from keraslm.system.backend import require, select_backend
from keraslm.system.ranks import Ranks, ranks_of
from keraslm.text.encoding import Encoder
from keraslm.text.files import ERRORS, TextFiles

if TYPE_CHECKING:
    import keras

    from keraslm.evaluation.result import Evaluation

Backend = Literal["jax", "tensorflow", "torch"]


def train(
    config: Config | None = None,
    *,
    run: StrPath | None = None,
    backend: Backend | None = None,
    resume: Literal["auto", "never", "must"] = "auto",
    overwrite: bool = False,
    tensorboard: bool = False,
    verbose: Literal["auto", 0, 1, 2] = "auto",
    log: Log = print,
    devices: int | None = None,
    **overrides: Unpack[Overrides],
) -> Run:
    """Train a language model, or resume a training run that was stopped.

    Args:
        config: from `keraslm.preset(...)` or built by hand. None: the configuration of the run that is resumed, or
            that a new run starts from (`init_from`), or else preset `"tiny"`.
        run: the run folder. None: the folder of the last run in `runs/` that was stopped, if its configuration and
            texts are the requested ones; else a new folder `runs/<date>-<time>`.
        backend: None takes `KERAS_BACKEND`, the backend of the run that is resumed, or the first one installed.
        resume: if the folder holds a run: `"auto"` resumes it from its last checkpoint, `"never"` fails. `"must"`
            fails if the folder holds none. Without `run`, `"never"` starts a new run.
        overwrite: replace a run that is already in the folder; files that it has not written stay.
        tensorboard: also write TensorBoard events (needs tensorboardX).
        verbose: progress of Keras: 0 none, 1 a bar, 2 one line per epoch, `"auto"` a bar on a terminal.
        log: called with each line of progress text.
        devices: number of devices among which the rows of a window are divided, over all processes. None: one, or all
            those of the processes that torchrun, srun or the variables of JAX describe; 1 ignores these variables.
        **overrides: fields of `ModelConfig`, `DataConfig`, `TrainConfig` or `TransferConfig` that replace those of
            `config`, e.g. `train="text.txt"`, `epochs=3`, `init_from="runs/a"`.

    Returns:
        the trained run.

    Raises:
        KeraslmError: a text, an argument or the run folder cannot be used, or the training diverged; see
            `keraslm.errors`.

    Example:
        >>> run = keraslm.train(keraslm.preset("small"), train="train.txt", valid="valid.txt", backend="jax")
    """
    arguments.not_empty(run=run)
    arguments.choice(resume, "resume", ("auto", "never", "must"))
    for name, value in (("overwrite", overwrite), ("tensorboard", tensorboard)):
        arguments.switch(value, name)
    if config is not None:
        arguments.instance(config, Config, "config", "a Config, such as keraslm.preset('small'),")
    if resume == "must" and (overwrite or run is None):
        reason = "`overwrite` would replace it" if overwrite else "`run` is missing"
        raise UsageError(f'`resume="must"` needs the folder of a run, but {reason}.')
    run = None if run is None else user_path(arguments.path(run, "run"))
    if devices is not None:
        arguments.integer(devices, "devices", 1)
    ranks = ranks_of(os.environ) if devices != 1 else None
    if ranks and ranks.rank:
        resumed = None if resume == "never" or overwrite else run
        return _follow(chosen_backend(resumed, backend), devices, ranks)
    unfinished: Run | None = None
    if run is not None and resume != "never" and not overwrite and state_of(run)[0] in ("run", "other"):
        previous = load_run(run)
        config = requested_config(previous, config, overrides)
        requested = backend or os.environ.get("KERAS_BACKEND") or previous.backend
    else:
        config = new_config(config, overrides, run, log)
        if run is not None:
            check_free(run, overwrite)
        elif resume == "auto" and not overwrite:
            unfinished = _unfinished_run(config)
        requested = backend or os.environ.get("KERAS_BACKEND") or (unfinished.backend if unfinished else None)
    select_backend(requested, devices, ranks)
    if tensorboard:
        require("tensorboardX", extra="tensorboard", purpose="`tensorboard`")
    from keraslm.training.devices import start_devices
    from keraslm.training.train import train_run

    return train_run(
        config,
        run,
        unfinished=unfinished.path if unfinished else None,
        resume=resume,
        overwrite=overwrite,
        tensorboard=tensorboard,
        verbose=verbose,
        log=log,
        devices=start_devices(devices, ranks),
    )


def _follow(backend: str | None, devices: int | None, ranks: Ranks) -> Run:
    """Train as one of several processes that is not the first."""
    select_backend(backend, devices, ranks)
    from keraslm.training.devices import start_devices
    from keraslm.training.follow import follow_run

    return follow_run(start_devices(devices, ranks))


def chosen_backend(run: StrPath | None, backend: str | None) -> str | None:
    """The backend of a training: the requested one, that of the environment, or that of the run that is resumed."""
    if not (found := backend or os.environ.get("KERAS_BACKEND")) and run is not None:
        with suppress(KeraslmError):  # the first process may not have created it yet
            found = load_run(run).backend
    return found


def _unfinished_run(config: Config) -> Run | None:
    """The last used run in `runs/` that was stopped in a training with this configuration."""
    from keraslm.training.schedule import early_stop

    patience = config.train.early_stopping
    return next((run for run in unfinished_runs(config) if not early_stop(patience, run.epochs())), None)


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


def _opened(run: Any, name: str) -> Run:
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
    run = _opened(run, "run")
    select_backend(backend)
    from keraslm.evaluation.reader import load_model as build

    return build(run, rows)


def evaluate(
    run: Run | StrPath,
    text: StrPath | Sequence[StrPath] | None = None,
    *,
    valid: bool = False,
    tutorial: bool = False,
    context: Context | None = None,
    errors: Literal["strict", "replace"] = "strict",
    encoding: str = "utf-8",
    backend: Backend | None = None,
    cache: StrPath | None = None,
    show: bool = False,
    log: Log = lambda _: None,
    **techniques: Unpack[TechniqueOptions],
) -> Evaluation:
    """Perplexity of a text under a run, over every token, and with test-time techniques.

    Args:
        run: a run or its folder.
        text: path of the text, a folder, a pattern, or several in a list; `"-"` is standard input. Leave it out
            with `valid`.
        valid: evaluate the validation text of the run, read again: the one named in the training, or the one that
            `valid_share` held out.
        tutorial: count as the PTB tutorial does: in the rows and windows of the training.
        context: how far the state is carried: `"sentence"`, `"paragraph"` or `"document"`. None: as in training.
        errors: for invalid bytes, `"strict"` or `"replace"`.
        encoding: of `text` and `tune_on`, such as `"latin-1"`.
        backend: as for `train`.
        cache: folder for the ids of large texts; None takes the user's cache.
        show: show progress bars on standard error if it is a terminal.
        log: called with lines of progress while parameters are tuned.
        **techniques: fields of `keraslm.evaluation.options.Techniques`, e.g. `temperature="tune"`, `neural_cache=True`,
            `mc_dropout=20`, `with_runs=["runs/b", "runs/c"]`.

    Returns:
        an `Evaluation`: the size of the text in every unit, nats, perplexities and bits, and one `Variant` per
        technique.

    Raises:
        UsageError: an unknown option, options that do not combine, runs of different tokenizers, no text to tune on, or
            a run without a validation text.
        TextError: the text cannot be read or is empty, or the validation text has changed.
        RunError: the run is missing or damaged.

    Example:
        >>> keraslm.evaluate(run, "test.txt", temperature="tune", neural_cache=True).variants[-1].perplexity
        96.05
    """
    run = _opened(run, "run")
    for name, value in (("valid", valid), ("tutorial", tutorial)):
        arguments.switch(value, name)
    if valid and text is not None:
        raise UsageError("`valid` evaluates the validation text of the run; leave out `text`.")
    paths = None if valid else arguments.paths(text, "text")
    arguments.not_empty(text=paths, cache=cache)
    chosen = _techniques(techniques, tutorial)
    if context is not None:
        arguments.choice(context, "context", CONTEXTS)
    arguments.choice(errors, "errors", ERRORS)
    files = None if paths is None else TextFiles(paths, errors, encoding)
    for note in files.notes if files else ():
        log(note)
    select_backend(backend)
    from keraslm.evaluation.evaluate import evaluate_run

    return evaluate_run(run, files, chosen, tutorial, context, cache, show, log)


def _techniques(options: TechniqueOptions, tutorial: bool) -> Techniques:
    unknown = options.keys() - Techniques.__dataclass_fields__.keys()
    if unknown:
        known = ", ".join(Techniques.__dataclass_fields__)
        raise UsageError(f"Unknown option {min(unknown)!r} of evaluate. Known options: {known}.")
    arguments.not_empty(with_runs=options.get("with_runs"), tune_on=options.get("tune_on"))
    given = {name: value for name, value in options.items() if value is not None}
    chosen = Techniques(**cast(dict[str, Any], given))
    if chosen and tutorial:
        raise UsageError("`tutorial` reads the text in several rows, and test-time techniques in one. Leave one out.")
    return chosen


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
    one = isinstance(runs, Run | str | os.PathLike)
    listed = [(runs, "runs")] if one else arguments.each(runs, "runs", "runs or paths")
    output = arguments.path(output, "output")
    members = members_of([_opened(run, place) for run, place in listed], last)

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
