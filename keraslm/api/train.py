"""`keraslm.train`: check the arguments, choose configuration and backend, then train."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Literal, Unpack

from keraslm import arguments
from keraslm.api import Backend
from keraslm.config import Config, Overrides, StrPath, user_path
from keraslm.errors import KeraslmError, UsageError, shown
from keraslm.runs.create import check_free
from keraslm.runs.files import state_of
from keraslm.runs.initial import new_config
from keraslm.runs.resume import requested_config, unfinished_runs
from keraslm.runs.run import Run
from keraslm.system import Log
from keraslm.system.backend import require, select_backend
from keraslm.system.ranks import Ranks, ranks_of


def train(
    config: Config | None = None,
    *,
    run: StrPath | None = None,
    backend: Backend | None = None,
    resume: Literal["auto", "never", "must"] = "auto",
    overwrite: bool = False,
    tensorboard: bool = False,
    verbose: Literal["auto", 0, 1, 2] = "auto",
    log: Log = print,
    devices: int | None = None,
    **overrides: Unpack[Overrides],
) -> Run:
    """Train a language model, or resume a training run that was stopped.

    Args:
        config: from `keraslm.preset(...)` or built by hand. None: the configuration of the run that is resumed, or
            that a new run starts from (`init_from`), or else preset `"tiny"`.
        run: the run folder. None: the folder of the last run in `runs/` that was stopped, if its configuration and
            texts are the requested ones; else a new folder `runs/<date>-<time>`.
        backend: None takes `KERAS_BACKEND`, the backend of the run that is resumed, or the first one installed.
        resume: if the folder holds a run: `"auto"` resumes it from its last checkpoint, `"never"` fails. `"must"`
            fails if the folder holds none. Without `run`, `"never"` starts a new run.
        overwrite: replace a run that is already in the folder; files that it has not written stay.
        tensorboard: also write TensorBoard events (needs tensorboardX).
        verbose: progress of Keras: 0 none, 1 a bar, 2 one line per epoch, `"auto"` a bar on a terminal.
        log: called with each line of progress text.
        devices: number of devices among which the rows of a window are divided, over all processes. None: one, or all
            those of the processes that torchrun, srun or the variables of JAX describe; 1 ignores these variables.
        **overrides: fields of `ModelConfig`, `DataConfig`, `TrainConfig` or `TransferConfig` that replace those of
            `config`, e.g. `train="text.txt"`, `epochs=3`, `init_from="runs/a"`.

    Returns:
        the trained run.

    Raises:
        KeraslmError: a text, an argument or the run folder cannot be used, or the training diverged; see
            `keraslm.errors`.

    Example:
        >>> run = keraslm.train(keraslm.preset("small"), train="train.txt", valid="valid.txt", backend="jax")
    """
    arguments.not_empty(run=run)
    arguments.choice(resume, "resume", ("auto", "never", "must"))
    if verbose not in ("auto", 0, 1, 2):
        raise UsageError(f'`verbose` is {shown(verbose)}, but must be "auto", 0, 1 or 2.')
    for name, value in (("overwrite", overwrite), ("tensorboard", tensorboard)):
        arguments.switch(value, name)
    if config is not None:
        arguments.instance(config, Config, "config", "a Config, such as keraslm.preset('small'),")
    if resume == "must" and (overwrite or run is None):
        reason = "`overwrite` would replace it" if overwrite else "`run` is missing"
        raise UsageError(f'`resume="must"` needs the folder of a run, but {reason}.')
    run = None if run is None else user_path(arguments.path(run, "run"))
    if devices is not None:
        arguments.integer(devices, "devices", 1)
    ranks = ranks_of(os.environ) if devices != 1 else None
    if ranks and ranks.rank:
        resumed = None if resume == "never" or overwrite else run
        return _follow(chosen_backend(resumed, backend), devices, ranks)
    unfinished: Run | None = None
    if run is not None and resume != "never" and not overwrite and state_of(run)[0] in ("run", "other"):
        previous = Run.open(run)
        config = requested_config(previous, config, overrides)
        requested = backend or os.environ.get("KERAS_BACKEND") or previous.backend
    else:
        config = new_config(config, overrides, run, log)
        if run is not None:
            check_free(run, overwrite)
        elif resume == "auto" and not overwrite:
            unfinished = _unfinished_run(config)
        requested = backend or os.environ.get("KERAS_BACKEND") or (unfinished.backend if unfinished else None)
    select_backend(requested, devices, ranks)
    if tensorboard:
        require("tensorboardX", extra="tensorboard", purpose="`tensorboard`")
    from keraslm.training.devices import start_devices
    from keraslm.training.train import train_run

    return train_run(
        config,
        run,
        unfinished=unfinished.path if unfinished else None,
        resume=resume,
        overwrite=overwrite,
        tensorboard=tensorboard,
        verbose=verbose,
        log=log,
        devices=start_devices(devices, ranks),
    )


def _follow(backend: str | None, devices: int | None, ranks: Ranks) -> Run:
    """Train as one of several processes that is not the first."""
    select_backend(backend, devices, ranks)
    from keraslm.training.devices import start_devices
    from keraslm.training.follow import follow_run

    return follow_run(start_devices(devices, ranks))


def chosen_backend(run: StrPath | None, backend: str | None) -> str | None:
    """The backend of a training: the requested one, that of the environment, or that of the run that is resumed."""
    if not (found := backend or os.environ.get("KERAS_BACKEND")) and run is not None:
        with suppress(KeraslmError):  # the first process may not have created it yet
            found = Run.open(run).backend
    return found


def _unfinished_run(config: Config) -> Run | None:
    """The last used run in `runs/` that was stopped in a training with this configuration."""
    from keraslm.training.schedule import early_stop

    patience = config.train.early_stopping
    return next((run for run in unfinished_runs(config) if not early_stop(patience, run.epochs())), None)
