"""`keraslm train`"""

import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from keraslm.commands.flags import (
    NO_DATA,
    NO_MODEL,
    NO_TRAIN,
    NO_TRANSFER,
    Backend,
    DataFlags,
    ModelFlags,
    Switch,
    TrainFlags,
    TransferFlags,
    given,
    print_line,
)

if TYPE_CHECKING:
    from keraslm.runs.run import Run

_VERBOSE: dict[str, Any] = {"auto": "auto", "bar": 1, "line": 2, "none": 0}


def train(
    *,
    preset: Literal["tiny", "small", "medium", "large", "cpu-hour", "awd", "mogrifier", "char", "byte"] | None = None,
    backend: Backend | None = None,
    devices: int | None = None,
    run: Path | None = None,
    resume: Literal["auto", "never", "must"] = "auto",
    overwrite: Switch = False,
    progress: Literal["auto", "bar", "line", "none"] = "auto",
    tensorboard: Switch = False,
    data_flags: DataFlags = NO_DATA,
    model_flags: ModelFlags = NO_MODEL,
    train_flags: TrainFlags = NO_TRAIN,
    transfer_flags: TransferFlags = NO_TRANSFER,
) -> None:
    """Train a language model into a run folder, or resume a training run that was stopped.

    Without --train or --data, it trains on the language reference that is part of every Python.

    The same command, or --run alone, resumes a stopped run and ends with the same weights as an uninterrupted one;
    without --run, it looks for a stopped run with the same flags and texts in runs/. Ctrl-C and SIGTERM finish the
    current window and save; a second Ctrl-C exits at once.

    Parameters
    ----------
    preset
        Configuration to start from. tiny: a first model in a minute or two; small, medium, large: Zaremba et al. 2014;
        cpu-hour: the best found on PTB for one hour on two cores; awd, mogrifier: Merity et al. 2018 and Melis et al.
        2020, for a GPU; char, byte: characters or bytes. Default: tiny, or the configuration of the resumed run.
    backend
        Keras backend. Default: KERAS_BACKEND, the backend of the resumed run, or the first one installed of jax,
        tensorflow, torch.
    devices
        Number of devices that divide the rows of a window among them, over all processes. Default: one, or those of the
        processes that torchrun or srun has started; 1 ignores these. torch gets one process per device.
    run
        Run folder. Default: that of the last stopped run of the same command in runs/, or else a new folder
        runs/<date>-<time>. runs/latest points to the last run started.
    resume
        auto: resume if the folder holds a run; never: fail if it does, or start a new run without --run; must: fail if
        it does not.
    overwrite
        Replace a run that is already in the folder. Files that the run has not written stay.
    progress
        Progress of the training: a bar, one line per epoch, or none. auto: a bar on a terminal, lines elsewhere.
    tensorboard
        Write TensorBoard events to the folder tensorboard of the run.
    """
    from keraslm.api.train import chosen_backend
    from keraslm.api.train import train as run_training
    from keraslm.commands.processes import train_in_processes
    from keraslm.config.presets import preset as preset_config
    from keraslm.system.backend import default_backend
    from keraslm.system.ranks import ranks_of

    ranks = ranks_of(os.environ) if devices != 1 else None
    if devices and devices > 1 and not ranks:
        resumed = None if resume == "never" or overwrite else run
        if default_backend(chosen_backend(resumed, backend)) == "torch":
            raise SystemExit(train_in_processes(devices, sys.argv[1:]))

    fields = given(data_flags, model_flags, train_flags, transfer_flags)
    config = preset_config(preset, **fields) if preset else None
    trained = run_training(
        config,
        run=run,
        backend=backend,
        resume=resume,
        overwrite=overwrite,
        tensorboard=tensorboard,
        verbose=_VERBOSE[progress],
        log=print_line,
        devices=devices,
        **({} if preset else fields),
    )
    if not (ranks and ranks.rank):
        _print_result(trained)


def _print_result(trained: "Run") -> None:
    from keraslm.runs.folder import LATEST

    last = trained.epochs()[-1]
    which = "val_perplexity" if "val_perplexity" in last else "perplexity"
    print(f"done      {trained.path}: {which} {last[which]:.2f} after epoch {last['epoch']}{better_epoch(trained)}")
    is_latest = LATEST.resolve() == trained.path.resolve()
    print(f"next      keraslm export model.onnx{'' if is_latest else f' --run {shlex.quote(str(trained.path))}'}")


def better_epoch(trained: "Run") -> str:
    """Mention the best epoch by validation perplexity unless it is the last one."""
    last, best = trained.epochs()[-1], replace(trained, weights="best").trained_epoch()
    if best.get("epoch") == last["epoch"] or "val_perplexity" not in best:
        return ""
    return f"; best {best['val_perplexity']:.2f} after epoch {best['epoch']} (use it with --weights best)"
