"""`keraslm evaluate`"""

import json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from keraslm.commands.flags import TextName


def evaluate(
    run: Path,
    file: TextName,
    /,
    *,
    tutorial: Annotated[bool, Parameter(negative="")] = False,
    errors: Literal["strict", "replace"] = "strict",
    backend: Literal["jax", "tensorflow", "torch"] | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Perplexity of a text under a trained run, over every token.

    The text is one row, the state carried from its first token to its last; the first token is predicted from <eos>.

    Parameters
    ----------
    run
        Run folder, e.g. runs/latest.
    file
        Text, one sentence a line, plain or gzip; - reads standard input.
    tutorial
        Count as TensorFlow's PTB tutorial does: in the training's rows and windows, without what does not fill them.
    errors
        Invalid UTF-8: strict stops with file:line:byte; replace goes on with U+FFFD.
    backend
        Keras backend. Default: KERAS_BACKEND, or the first one installed of jax, tensorflow, torch.
    as_json
        Print one JSON object instead of the table.
    """
    from keraslm.api import evaluate as run_evaluation

    result = run_evaluation(run, file, tutorial=tutorial, errors=errors, backend=backend)
    if as_json:
        print(json.dumps(result.to_dict()))
        return
    rows = result.to_dict()
    rows |= {"nats": f"{result.nats:,.3f}", "perplexity": f"{result.perplexity:,.4f}"}
    for name, value in rows.items():
        print(f"{name:<11} {value:,}" if isinstance(value, int) else f"{name:<11} {value}")
