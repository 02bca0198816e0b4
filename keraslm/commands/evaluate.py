"""`keraslm evaluate`"""

import json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from keraslm.commands.flags import TextName


def evaluate(
    run: Path,
    /,
    *files: TextName,
    tutorial: Annotated[bool, Parameter(negative="")] = False,
    documents: Literal["none", "line", "blank-line"] | None = None,
    weights: Literal["last", "best"] = "last",
    errors: Literal["strict", "replace"] = "strict",
    backend: Literal["jax", "tensorflow", "torch"] | None = None,
    cache: str = "",
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
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
    documents
        Where the state starts from zeros: nowhere, at each line, after each blank line. Default: as in training.
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
    """
    from keraslm.api import evaluate as run_evaluation
    from keraslm.api import load_run
    from keraslm.text.files import STDIN

    result = run_evaluation(
        load_run(run, weights),
        files or (STDIN,),
        tutorial=tutorial,
        documents=documents,
        errors=errors,
        backend=backend,
        cache=cache,
        show=True,
    )
    print(json.dumps(result.to_dict()) if as_json else "\n".join(result.rows()))
