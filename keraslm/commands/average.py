"""`keraslm average`"""

import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from keraslm.commands.flags import Backend, OptionalInteger, Switch, Weights, print_line


def average(
    runs: Annotated[tuple[Path, ...], Parameter(name="run")],
    /,
    *,
    output: Path,
    last: OptionalInteger = None,
    weights: Weights = "last",
    overwrite: Switch = False,
    backend: Backend | None = None,
    cache: str | None = None,
) -> None:
    """Average the weights of several runs, or of the last epochs of one run, into a new run.

    keraslm average runs/mine --last 5 --output runs/mean

    keraslm average runs/one runs/other --output runs/mean

    Shapes and tokenizer must be the same. Averaging helps within one training, or for trainings that continue from the
    same weights. The average of trainings with different initial weights is worse than each of them: average their
    probabilities instead, with keraslm score one.onnx --with other.onnx. The new run can be evaluated and exported, but
    not trained further. If the run has a validation text, the new perplexity is printed below those of the members.

    Parameters
    ----------
    runs
        Run folders.
    output
        Folder of the new run.
    last
        Number of last epochs of one run to average; their weights must have been kept with --keep-weights.
    weights
        Weights of each run: after the last epoch, after the epoch with the best validation, or at a number of words,
        such as 1M, at which --save-at-words has kept them.
    overwrite
        Replace a run that is already in the folder. Files that the run has not written stay.
    backend
        Keras backend of the evaluation. Default: KERAS_BACKEND, or the first one installed of jax, tensorflow, torch.
    cache
        Folder for the ids of large texts. Default: $KERASLM_CACHE, or keraslm in the user's cache folder.
    """
    from keraslm.api.runs import average as average_runs
    from keraslm.api.runs import load_run

    opened = [load_run(run, weights) for run in runs]
    made = average_runs(opened, output, last=last, overwrite=overwrite, backend=backend, cache=cache, log=print_line)
    row = made.averaged()
    figure = f": val_perplexity {row['val_perplexity']:.2f}" if "val_perplexity" in row else ""
    print(f"average   {made.path}{figure}, of {len(row['averaged'])} weight files")
    print(f"next      keraslm export model.onnx --run {shlex.quote(str(made.path))}")
