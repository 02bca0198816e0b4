"""`keraslm.evaluate`: check the arguments, then evaluate a text under a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack, cast

from keraslm import arguments
from keraslm.api import Backend
from keraslm.api.runs import opened_run
from keraslm.config import CONTEXTS, Context, StrPath
from keraslm.errors import UsageError
from keraslm.evaluation.options import TechniqueOptions, Techniques
from keraslm.runs.run import Run
from keraslm.system import Log
from keraslm.system.backend import select_backend
from keraslm.text.files import ERRORS, TextFiles

if TYPE_CHECKING:
    from keraslm.evaluation.result import Evaluation


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
    run = opened_run(run, "run")
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

    return evaluate_run(run, files, chosen, tutorial, context, cache, show, log, errors, encoding)


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
