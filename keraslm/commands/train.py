"""`keraslm train`"""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from keraslm.commands.flags import NO_DATA, NO_MODEL, NO_TRAIN, DataFlags, ModelFlags, TrainFlags, given

if TYPE_CHECKING:
    from keraslm.runs.run import Run

PROGRESS: dict[str, int | str] = {"auto": "auto", "bar": 1, "line": 2, "none": 0}


def train(
    *,
    preset: Literal["tiny", "small", "medium", "large", "cpu-hour", "awd", "mogrifier", "char", "byte"] | None = None,
    backend: Literal["jax", "tensorflow", "torch"] | None = None,
    run: Path | None = None,
    resume: Literal["auto", "never", "must"] = "auto",
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    progress: Literal["auto", "bar", "line", "none"] = "auto",
    tensorboard: Annotated[bool, Parameter(negative="")] = False,
    data_flags: DataFlags = NO_DATA,
    model_flags: ModelFlags = NO_MODEL,
    train_flags: TrainFlags = NO_TRAIN,
) -> None:
    """Train a language model and leave it in a run folder, or go on with a run that was stopped.

    Without --train or --data it trains on a text that every Python carries, its own language reference.

    The same command again, or --run alone, goes on where the run was stopped and ends in the same weights. Ctrl-C and
    SIGTERM finish the window and save first; a second Ctrl-C leaves at once.

    Parameters
    ----------
    preset
        Configuration to start from: tiny is a first model in a minute or two; small, medium and large are those of
        Zaremba et al. 2014; cpu-hour is the best on PTB that an hour on two cores buys; awd and mogrifier are those of
        Merity et al. 2018 and Melis et al. 2020, for a GPU; char and byte spell their text. Default: tiny, or what the
        run was begun with.
    backend
        Keras backend. Default: KERAS_BACKEND, the run's, or the first one installed of jax, tensorflow, torch.
    run
        Run folder. Default: a new one, runs/<date>-<time>. runs/latest always points at the run started last.
    resume
        Where the folder holds a run: auto goes on with it, never refuses; must refuses where there is none.
    overwrite
        Replace a run that is already in the folder.
    progress
        Keras' progress: a bar, a line an epoch, or nothing; auto shows a bar on a terminal and lines elsewhere.
    tensorboard
        Write TensorBoard events to the folder tensorboard of the run.
    """
    from keraslm.api import train as run_training
    from keraslm.runs.run import LATEST

    trained = run_training(
        preset=preset,
        backend=backend,
        run=run,
        resume=resume,
        overwrite=overwrite,
        tensorboard=tensorboard,
        verbose=PROGRESS[progress],
        **given(data_flags, model_flags, train_flags),
    )
    last = trained.epochs()[-1]
    which = "val_perplexity" if "val_perplexity" in last else "perplexity"
    print(f"done      {trained.path}: {which} {last[which]:.2f} after epoch {last['epoch']}{better_epoch(trained)}")
    path = shlex.quote(str(trained.path))
    run_flag = "" if LATEST.resolve() == trained.path.resolve() else f" --run {path}"
    not_exportable = trained.config.model.not_exportable
    print(f"next      keraslm {f'evaluate {path} TEXT' if not_exportable else f'export model.onnx{run_flag}'}")


def better_epoch(trained: "Run") -> str:
    """What to say of an epoch that validated better than the last one; nothing where none did."""
    last, best = trained.epochs()[-1], replace(trained, weights="best").trained_epoch()
    if best["epoch"] == last["epoch"] or "val_perplexity" not in best:
        return ""
    return f"; best {best['val_perplexity']:.2f} after epoch {best['epoch']}, which --weights best takes"
