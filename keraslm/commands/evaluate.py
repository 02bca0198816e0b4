"""`keraslm evaluate`"""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from keraslm.commands.flags import (
    Backend,
    Errors,
    Json,
    OptionalInteger,
    Others,
    Progress,
    Switch,
    TextName,
    Weights,
    with_flags,
)
from keraslm.config import Context
from keraslm.errors import UsageError

TestTime = Parameter(
    group=Group("Test time (each perplexity is printed beside the plain one)", sort_key=1), show_default=False
)


def evaluate(
    run: Path,
    /,
    *files: TextName,
    valid: Switch = False,
    tutorial: Switch = False,
    context: Context | None = None,
    weights: Weights = "last",
    errors: Errors = "strict",
    encoding: str = "utf-8",
    backend: Backend | None = None,
    cache: str | None = None,
    progress: Progress = "auto",
    as_json: Json = False,
    temperature: Annotated[float | Literal["tune"] | None, TestTime] = None,
    neural_cache: Annotated[Switch, TestTime] = False,
    cache_window: Annotated[OptionalInteger, TestTime] = None,
    cache_theta: Annotated[float | None, TestTime] = None,
    cache_lambda: Annotated[float | None, TestTime] = None,
    dynamic: Annotated[Switch, TestTime] = False,
    dynamic_lr: Annotated[float | None, TestTime] = None,
    dynamic_decay: Annotated[float | None, TestTime] = None,
    mc_dropout: Annotated[OptionalInteger, TestTime] = None,
    seed: Annotated[OptionalInteger, TestTime] = None,
    with_runs: Annotated[Others, TestTime] = (),
    tune_on: Annotated[tuple[str, ...], TestTime, Parameter(negative="")] = (),
) -> None:
    """Perplexity of a text under a trained run, over every token.

    The text is read in one row, and its first token is predicted from the end symbol. The state is carried through each
    sentence, each paragraph or the whole document, as in training.

    Parameters
    ----------
    run
        Run folder, e.g. runs/latest.
    files
        Text with one sentence per line, plain or compressed (gz, bz2, xz, zst). Several files, a folder, or a pattern
        such as 'texts/*.txt' are read as one text; - or no file reads standard input.
    valid
        Evaluate the validation text of the run, read again: the one that --valid named in the training, or that
        --valid-share held out.
    tutorial
        Count as TensorFlow's PTB tutorial does: in the rows and windows of the training, without the remainder.
    context
        How far the state is carried: through each sentence (line), each paragraph, or the whole document. Default: as
        in training.
    weights
        Weights of the run: after the last epoch, after the epoch with the best validation, or at a number of words,
        such as 1M, at which --save-at-words has kept them.
    errors
        Invalid bytes: strict stops with file:line:byte; replace reads U+FFFD.
    encoding
        Encoding of the text and of --tune-on, such as latin-1, cp1252, gb18030 or utf-16.
    backend
        Keras backend. Default: KERAS_BACKEND, or the first one installed of jax, tensorflow, torch.
    cache
        Folder for the ids of large texts. Default: $KERASLM_CACHE, or keraslm in the user's cache folder.
    progress
        auto: show progress on standard error if it is a terminal; none: never.
    as_json
        Print one JSON object instead of the table.
    temperature
        Divide the logits by this number; tune finds the best one.
    neural_cache
        Boost words that occurred recently in similar contexts. Can be added to --temperature or --dynamic; no other
        techniques can be combined.
    cache_window
        Number of recent tokens in the neural cache. Default: 500; long documents gain from more.
    cache_theta
        How much more similar states count in the neural cache, 0 or more. Default: tuned.
    cache_lambda
        Share of the neural cache in the mixture, at least 0 and below 1. Default: tuned.
    dynamic
        Keep learning from the text while it is read. Slow: all weights are updated every 5 tokens, and tuning repeats
        that about a dozen times over 10,000 tokens. PTB's validation text takes about ten minutes at 2 x 200 units on a
        CPU; the time is proportional to the length of the text and the number of weights.
    dynamic_lr
        Learning rate of --dynamic. Default: tuned, together with --dynamic-decay.
    dynamic_decay
        How fast --dynamic returns to the trained weights. Default: tuned, together with --dynamic-lr.
    mc_dropout
        Average the probabilities of this number of passes with the dropout of the training. Has no effect on a run
        trained without dropout.
    seed
        Seed of the masks of --mc-dropout. Default: 0.
    with_runs
        Run with the same tokenizer, to average probabilities with; may be given several times.
    tune_on
        Text to tune on; may be given several times. Default: the validation text of the run.
    """
    from keraslm.api.evaluate import evaluate as run_evaluation
    from keraslm.api.runs import load_run
    from keraslm.text.paths import STDIN

    if valid and files:
        raise UsageError(f"--valid evaluates the validation text of the run; leave out {files[0]}.")
    result = run_evaluation(
        load_run(run, weights),
        None if valid else files or (STDIN,),
        valid=valid,
        tutorial=tutorial,
        context=context,
        errors=errors,
        encoding=encoding,
        backend=backend,
        cache=cache,
        show=progress == "auto",
        log=_log if progress == "auto" else lambda _: None,
        temperature=temperature,
        neural_cache=neural_cache,
        cache_window=cache_window,
        cache_theta=cache_theta,
        cache_lambda=cache_lambda,
        dynamic=dynamic,
        dynamic_lr=dynamic_lr,
        dynamic_decay=dynamic_decay,
        mc_dropout=mc_dropout,
        seed=seed,
        with_runs=with_runs or None,
        tune_on=tune_on or None,
    )
    print(json.dumps(result.to_dict()) if as_json else "\n".join(result.rows()))


def _log(line: str) -> None:
    if sys.stderr.isatty():
        print(with_flags(line), file=sys.stderr)
