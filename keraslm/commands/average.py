"""`keraslm average`"""

import shlex
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from keraslm.commands.flags import Integer


def average(
    runs: Annotated[tuple[Path, ...], Parameter(name="run")],
    /,
    *,
    output: Path,
    last: Integer = 0,
    weights: Literal["last", "best"] = "last",
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    backend: Literal["jax", "tensorflow", "torch"] | None = None,
    cache: str = "",
) -> None:
    """The mean of the weights of several runs, or of the last epochs of one, as a run of its own.

    keraslm average runs/mine --last 5 --output runs/mean

    keraslm average runs/one runs/other --output runs/mean

    Shapes and tokenizer must be the same. A mean makes sense of weights from one training, or of trainings that go on
    from the same weights; of trainings that began differently it is worse than each of them: score with both instead,
    keraslm score one.onnx --with other.onnx. The new run can be evaluated and exported, and not trained on. Where the
    run has a validation text, the perplexity of the mean stands below that of the members, counted as in training.

    Parameters
    ----------
    runs
        Run folders.
    output
        Folder of the new run.
    last
        Take the last so many epochs of one run, whose weights --keep-weights has kept.
    weights
        Of each run: those after the last epoch, or those of the epoch that validated best.
    overwrite
        Replace a run that is already in the folder.
    backend
        Keras backend of the evaluation. Default: KERAS_BACKEND, or the first one installed of jax, tensorflow, torch.
    cache
        Folder for large texts as ids. Default: $KERASLM_CACHE, or keraslm in the user's cache folder.
    """
    from keraslm.api import average as average_runs
    from keraslm.api import load_run

    opened = [load_run(run, weights) for run in runs]
    made = average_runs(opened, output, last=last, overwrite=overwrite, backend=backend, cache=cache)
    row = made.averaged()
    figure = f": val_perplexity {row['val_perplexity']:.2f}" if "val_perplexity" in row else ""
    print(f"mean      {made.path}{figure}, of {len(row['averaged'])} files of weights")
    print(f"next      keraslm export model.onnx --run {shlex.quote(str(made.path))}")
