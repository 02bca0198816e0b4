"""What the processes of a training do that do not lead: they wait for the first one, and compute as it says.

The first process reads the texts, makes or resumes the run folder, and shares what the others need to know. They read
the same texts and, if the run is resumed, its checkpoint, and keep their metrics in a temporary folder. They write
nothing else and print nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keraslm.config import Config
from keraslm.errors import Interrupted, RunError, TextError
from keraslm.runs.checkpoint import Checkpoint, read_checkpoint
from keraslm.runs.files import CHECKPOINTS
from keraslm.runs.run import TITLES, Run
from keraslm.text.corpus import open_texts
from keraslm.text.tokenizer import Tokenizer
from keraslm.training.corpus import open_second, read_corpus, with_second_validation
from keraslm.training.devices import Devices
from keraslm.training.fit import Extras
from keraslm.training.fit_model import fit_model
from keraslm.training.initial import Start, start_of
from keraslm.training.machine import check_dtype, keep_freed_memory

FAILED = None  # shared if the first process fails before the training begins


def job_of(run: Run, checkpoint: Checkpoint | None, is_finished: bool = False) -> dict[str, Any]:
    """What the first process shares when the training begins, in JSON's kinds."""
    return {
        "folder": str(run.path.resolve()),
        "config": run.config.to_dict(),
        "tokenizer": run.tokenizer.to_json(),
        "texts": run.texts,
        "checkpoint": checkpoint.name if checkpoint else None,
        "is_finished": is_finished,
    }


@contextmanager
def waited_for(devices: Devices) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that shares the job; if the block fails without a call of it, the other processes are told."""
    told = False

    def tell(job: dict[str, Any]) -> None:
        nonlocal told
        told = True
        devices.share(job)

    try:
        yield tell
    except BaseException:
        if not told:
            devices.share(FAILED)
        raise


def follow_run(devices: Devices) -> Run:
    """Train as the first process says, and return the run that it has written.

    Raises:
        RunError: the first process failed, or its checkpoint cannot be read here.
        TextError: a text is missing, or is a different one here.
    """
    job = devices.share()
    if job is FAILED:
        raise RunError("Process 0 failed before the training began; see its message.")
    if not job["is_finished"]:
        with tempfile.TemporaryDirectory(prefix="keraslm-") as own, _naming(devices.process):
            _train(job, Run(Path(own), Config.from_dict(job["config"]), _tokenizer(job), texts=job["texts"]), devices)
        devices.any(False)  # the first process has written everything
    return Run.open(job["folder"])


@contextmanager
def _naming(process: int) -> Iterator[None]:
    """Within the block, a signal ends this process without advice on its own folder, which is temporary."""
    try:
        yield
    except Interrupted as stop:
        raise Interrupted(f"process {process} ended with the others.", stop.exit_code - 128) from None


def _train(job: dict[str, Any], run: Run, devices: Devices) -> None:
    config = run.config
    check_dtype(config.train.dtype)
    keep_freed_memory()
    devices.divide(config.train.batch_size, config.train.accumulate)
    corpus = read_corpus(config, open_texts(config.data), _quiet, False, run.tokenizer)
    corpus = with_second_validation(corpus, open_second(config), config, _quiet, False)
    for name, title in TITLES.items():
        if corpus.fingerprints.get(name) != run.texts.get(name):
            raise TextError(
                f"Process {devices.process} reads a different {title} text than process 0. Use the same files on every "
                "machine."
            )
    checkpoint = None
    if job["checkpoint"]:
        checkpoint = read_checkpoint(Path(job["folder"], CHECKPOINTS, job["checkpoint"]))
        run.metrics_path.write_text(checkpoint.metrics, encoding="utf-8")
    start = Start() if checkpoint else start_of(config, corpus, _quiet)
    fit_model(run, corpus, start, checkpoint, devices, Extras(verbose=0, log=_quiet))


def _tokenizer(job: dict[str, Any]) -> Tokenizer:
    return Tokenizer.from_json(job["tokenizer"], "the tokenizer of process 0")


def _quiet(line: str) -> None:
    """Log nothing."""
