"""`keraslm evaluate`"""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from keraslm.commands.flags import OptionalInteger, TextName

TEST_TIME = Group("Test time (each a perplexity beside the plain one)", sort_key=1)
InGroup = Parameter(group=TEST_TIME)
Switch = Parameter(group=TEST_TIME, negative="", show_default=False)


def evaluate(
    run: Path,
    /,
    *files: TextName,
    tutorial: Annotated[bool, Parameter(negative="")] = False,
    context: Literal["document", "sentence", "paragraph"] | None = None,
    weights: Literal["last", "best"] = "last",
    errors: Literal["strict", "replace"] = "strict",
    backend: Literal["jax", "tensorflow", "torch"] | None = None,
    cache: str | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    temperature: Annotated[float | Literal["tune"] | None, InGroup] = None,
    neural_cache: Annotated[bool, Switch] = False,
    cache_window: Annotated[OptionalInteger, InGroup] = None,
    cache_theta: Annotated[float | None, InGroup] = None,
    cache_lambda: Annotated[float | None, InGroup] = None,
    dynamic: Annotated[bool, Switch] = False,
    dynamic_lr: Annotated[float | None, InGroup] = None,
    dynamic_decay: Annotated[float | None, InGroup] = None,
    mc_dropout: Annotated[OptionalInteger, InGroup] = None,
    seed: Annotated[OptionalInteger, InGroup] = None,
    with_runs: Annotated[
        tuple[Path, ...], Parameter(name="--with", group=TEST_TIME, negative="", show_default=False)
    ] = (),
    tune_on: Annotated[tuple[str, ...], Switch] = (),
) -> None:
    """Perplexity of a text under a trained run, over every token.

    The text is one row, the state carried from its first token to its last, or through each document where the run was
    trained so; the first token is predicted from the end symbol.

    Parameters
    ----------
    run
        Run folder, e.g. runs/latest.
    files
        Text, one sentence a line, plain or compressed (gz, bz2, xz, zst); several files are one text; - or none reads
        standard input.
    tutorial
        Count as TensorFlow's PTB tutorial does: in the training's rows and windows, without what does not fill them.
    context
        How far the state is carried: through each line, each paragraph, or the whole text. Default: as in training.
    weights
        Those after the last epoch, or those of the epoch that validated best.
    errors
        Invalid UTF-8: strict stops with file:line:byte; replace goes on with U+FFFD.
    backend
        Keras backend. Default: KERAS_BACKEND, or the first one installed of jax, tensorflow, torch.
    cache
        Folder for large texts as ids. Default: $KERASLM_CACHE, or keraslm in the user's cache folder.
    as_json
        Print one JSON object instead of the table.
    temperature
        Divide the logits by this; tune finds the best.
    neural_cache
        Mix in the words that the text used lately where the network was in a like state. Goes on top of --temperature
        or --dynamic; nothing else combines.
    cache_window
        Tokens that the neural cache looks back on. Default: 500; long documents take more.
    cache_theta
        How sharply the neural cache prefers like states, 0 or more. Default: tuned.
    cache_lambda
        Share of the neural cache in the mixture, at least 0 and below 1. Default: tuned.
    dynamic
        Go on learning from the text while it is read. Slow: every 5 tokens all weights change, and tuning does that
        over 10,000 tokens about a dozen times. PTB's validation text takes some ten minutes at 2 x 200 units on a
        CPU; time grows with the text and with the number of weights.
    dynamic_lr
        Learning rate of --dynamic. Default: tuned, with --dynamic-decay.
    dynamic_decay
        How fast --dynamic goes back to the trained weights. Default: tuned, with --dynamic-lr.
    mc_dropout
        Mean of the probabilities of so many passes with the training's dropout on; without dropout the plain number.
    seed
        Of the masks of --mc-dropout. Default: 0.
    with_runs
        Another run of the same tokenizer, to average probabilities with; may be given several times.
    tune_on
        Text to tune on. Default: the run's validation text.
    """
    from keraslm.api import evaluate as run_evaluation
    from keraslm.api import load_run
    from keraslm.text.files import STDIN

    result = run_evaluation(
        load_run(run, weights),
        files or (STDIN,),
        tutorial=tutorial,
        context=context,
        errors=errors,
        backend=backend,
        cache=cache,
        show=True,
        log=_progress,
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
        with_runs=with_runs,
        tune_on=tune_on,
    )
    print(json.dumps(result.to_dict()) if as_json else "\n".join(result.rows()))


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        print(line, file=sys.stderr)
