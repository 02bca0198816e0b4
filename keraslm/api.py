"""The Python API of the training side: each function is what the command of that name does.

Nothing here imports Keras at the top: a call first fixes the backend, then imports what needs it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keraslm.config import DOCUMENTS, RESUME, WEIGHTS, Config
from keraslm.config.model import check_sizes
from keraslm.config.presets import preset as preset_config
from keraslm.errors import ConfigError, MissingPackageError, TextError, UsageError
from keraslm.evaluation.options import Techniques
from keraslm.runs.averaging import average_runs, members_of
from keraslm.runs.resume import check_same
from keraslm.runs.run import LATEST, Run, check_free
from keraslm.runs.texts import run_text
from keraslm.system.backend import require, select_backend
from keraslm.text.encoding import Encoder
from keraslm.text.files import TextFiles

if TYPE_CHECKING:
    import keras

    from keraslm.evaluation.evaluate import Evaluation


def train(
    *,
    preset: str | None = None,
    backend: str | None = None,
    run: str | Path | None = None,
    resume: str = "auto",
    overwrite: bool = False,
    tensorboard: bool = False,
    verbose: int | str = "auto",
    log: Callable[[str], None] = print,
    **fields: Any,
) -> Run:
    """Train a language model, or go on with one that was stopped.

    Args:
        preset: a name of `keraslm.config.presets.PRESETS`; None takes `"tiny"`, or what the run was begun with.
        backend: `"jax"`, `"tensorflow"` or `"torch"`; None takes `KERAS_BACKEND`, the run's, or the first one
            installed.
        run: the run folder; None makes `runs/<date>-<time>`.
        resume: where the folder holds a run: `"auto"` goes on with it from its last checkpoint, `"never"` refuses;
            `"must"` refuses where there is none.
        overwrite: replace a run that is already there.
        tensorboard: write TensorBoard events too (needs tensorboardX).
        verbose: Keras' progress: 0 nothing, 1 a bar, 2 a line an epoch, "auto".
        log: takes each line of progress text.
        **fields: any field of `ModelConfig`, `DataConfig` or `TrainConfig`, e.g. `train="text.txt"`, `epochs=3`.

    Returns:
        the trained run.

    Example:
        >>> run = keraslm.train(train="train.txt", valid="valid.txt", preset="small", backend="jax")
    """
    fields = {name: _plain(value) for name, value in fields.items()}
    if resume not in RESUME:
        raise UsageError(f"resume is {resume!r}, but must be one of {', '.join(RESUME)}.")
    if resume == "must" and (overwrite or run is None):
        why = "--overwrite would replace the run" if overwrite else "a run must be named: --run"
        raise UsageError(f"--resume must goes on with a run; {why}.")
    goes_on = run is not None and resume != "never" and not overwrite and (Path(run) / "config.json").exists()
    if run is not None and goes_on:
        config, backend = _of_the_run(load_run(run), preset, backend, fields)
    else:
        config = preset_config(preset or "tiny", **fields)
        if run is not None:
            check_free(Path(run), overwrite)
    select_backend(backend)
    if tensorboard:
        require("tensorboardX", extra="tensorboard", purpose="--tensorboard")
    from keraslm.training.train import train_run

    return train_run(config, run, resume=resume, overwrite=overwrite, tensorboard=tensorboard, verbose=verbose, log=log)


def _of_the_run(run: Run, preset: str | None, backend: str | None, fields: dict[str, Any]) -> tuple[Config, str | None]:
    """What a training that goes on is asked for: the run's configuration and backend, and over them what was given."""
    names_texts = fields.keys() & {"train", "valid", "data"}
    if preset:
        data = run.config.data
        texts: dict[str, Any] = {} if names_texts else {"train": data.train, "valid": data.valid, "data": data.data}
        config = preset_config(preset, **{**texts, **fields})
    else:
        texts = {"train": (), "valid": (), "data": ""} if names_texts else {}
        try:
            config = run.config.replace(**{**texts, **fields})
            check_sizes(config.model, fields, str(run.path))
        except ConfigError:  # perhaps over something that was not given, and is the run's
            if run.checkpoints_path.is_dir():
                check_same(run.path, run.config, fields)
            raise
    return config, backend or os.environ.get("KERAS_BACKEND") or run.backend


def load_run(path: str | Path = LATEST, weights: str = "last") -> Run:
    """Open a run folder: its configuration, tokenizer and metrics. Needs no Keras.

    Args:
        path: the folder.
        weights: which its users get: `"last"`, or `"best"` by the validation text.
    """
    if weights not in WEIGHTS:
        raise UsageError(f"weights is {weights!r}, but must be one of {', '.join(WEIGHTS)}.")
    return Run.open(path, weights)


def load_model(run: Run | str | Path, batch_size: int = 1, backend: str | None = None) -> keras.Model:
    """The trained network of a run as a stateful `keras.Model`, ids `(B, T)` to logits `(B, T, V)`."""
    run = run if isinstance(run, Run) else load_run(run)
    select_backend(backend)
    from keraslm.evaluation.evaluate import load_model as build

    return build(run, batch_size)


def evaluate(
    run: Run | str | Path,
    text: str | Path | Sequence[str | Path],
    *,
    tutorial: bool = False,
    documents: str | None = None,
    errors: str = "strict",
    backend: str | None = None,
    cache: str | Path = "",
    show: bool = False,
    log: Callable[[str], None] = lambda _: None,
    **techniques: Any,
) -> Evaluation:
    """Perplexity of a text file under a run, over every token; beside it, with techniques of test time.

    Args:
        run: a run or its folder.
        text: path of the text, a pattern, or several of them in a list; `"-"` is standard input.
        tutorial: count as the PTB tutorial does.
        documents: `"none"`, `"line"` or `"blank-line"`: where the state is set to zero; None as in training.
        errors: `"strict"` or `"replace"`, for invalid UTF-8.
        backend: as in `train`.
        cache: folder for large texts as ids; empty takes the user's cache.
        show: a progress bar while a large text is encoded.
        log: takes lines of progress while parameters are tuned.
        **techniques: any field of `keraslm.evaluation.options.Techniques`, e.g. `temperature="tune"`,
            `neural_cache=True`, `mc_dropout=20`, `with_runs=["runs/b", "runs/c"]`.

    Returns:
        an `Evaluation`: the text's size in every unit, nats, perplexities and bits; and a `Variant` for each technique.

    Example:
        >>> keraslm.evaluate(run, "test.txt", temperature="tune", neural_cache=True).variants[-1].perplexity
    """
    run = run if isinstance(run, Run) else load_run(run)
    chosen = _techniques(techniques, tutorial)
    if documents not in (None, *DOCUMENTS):
        raise UsageError(f"documents is {documents!r}, but must be one of {', '.join(DOCUMENTS)}.")
    paths = [text] if isinstance(text, str | Path) else text
    opened = TextFiles([str(path) for path in paths], errors)
    select_backend(backend)
    if chosen:
        from keraslm.evaluation.techniques import evaluate_with

        return evaluate_with(run, opened, chosen, documents, str(cache), show, log)
    from keraslm.evaluation.evaluate import evaluate_run

    return evaluate_run(run, opened, tutorial, documents, str(cache), show)


def average(
    runs: Run | str | Path | Sequence[Run | str | Path],
    output: str | Path,
    *,
    last: int = 0,
    overwrite: bool = False,
    backend: str | None = None,
    cache: str | Path = "",
    log: Callable[[str], None] = print,
) -> Run:
    """The mean of the weights of several runs, or of the last epochs of one, as a run of its own.

    Where the first run has a validation text, the mean is evaluated on it, counted in the training's windows as the
    members were; its `averaged()` row holds the result as `val_perplexity`.

    Args:
        runs: two or more runs or their folders, with the weights that they were opened with; or one, with `last`.
        output: folder of the new run.
        last: average so many epochs of one run, the last that `keep_weights` has kept.
        overwrite: replace a run that is already there.
        backend: as in `train`, for the evaluation.
        cache: folder for large texts as ids; empty takes the user's cache.
        log: takes each line of progress text.

    Returns:
        the new run, which can be evaluated and exported, and not trained on.

    Raises:
        UsageError: too few runs, or one twice.
        RunError: different tokenizers or shapes, damaged weights, fewer kept epochs than asked for, or a run in the
            way.

    Example:
        >>> run = keraslm.average("runs/mine", "runs/mean", last=5)
        >>> run.averaged()["val_perplexity"]
        81.2
    """
    listed = [runs] if isinstance(runs, Run | str | Path) else runs
    members = members_of([run if isinstance(run, Run) else load_run(run) for run in listed], last)

    def validate(run: Run) -> dict[str, float]:
        try:
            text = run_text(members[0].run, "valid", Encoder(cache))
            if text is None:
                return {}
            select_backend(backend)
            from keraslm.evaluation.evaluate import evaluate_encoded

            found = evaluate_encoded(run, text, tutorial=True).perplexity
            return {"val_perplexity": found} if math.isfinite(found) else {}
        except (TextError, MissingPackageError) as error:
            log(f"          the mean is not evaluated: {error}")
            return {}

    return average_runs(members, Path(output), overwrite, validate, log)


def _techniques(options: dict[str, Any], tutorial: bool) -> Techniques:
    """What evaluation is asked for beyond the plain cost."""
    foreign = options.keys() - Techniques.__dataclass_fields__.keys()
    if foreign:
        known = ", ".join(Techniques.__dataclass_fields__)
        raise UsageError(f"Unknown option of evaluate {min(foreign)!r}. Those of test time are: {known}.")
    chosen = Techniques(**{name: _plain(value) for name, value in options.items()})
    if chosen and tutorial:
        raise UsageError("--tutorial reads a text in rows; the techniques of test time read it as one. Leave one out.")
    return chosen


def _plain(value: Any) -> Any:
    """Paths as the strings that a configuration holds."""
    if isinstance(value, Path):
        return str(value)
    return tuple(map(str, value)) if isinstance(value, list | tuple) else value
