"""Build the model of a run on the devices of this process, and fit it."""

from __future__ import annotations

from dataclasses import replace

import keras

from keraslm.errors import RunError
from keraslm.network.compile import compiled_model
from keraslm.runs.checkpoint import Checkpoint
from keraslm.runs.run import Run
from keraslm.runs.weights import digest_of
from keraslm.training.callbacks import current_weights
from keraslm.training.corpus import TrainingCorpus
from keraslm.training.devices import Devices
from keraslm.training.fit import Extras, fit_run
from keraslm.training.initial import Start
from keraslm.training.validation import validate_before


def fit_model(
    run: Run,
    corpus: TrainingCorpus,
    start: Start,
    checkpoint: Checkpoint | None,
    devices: Devices,
    extras: Extras,
) -> None:
    """Build the model of a run on the devices and fit it, with the second validation text. Every process calls it."""
    with devices.scope():
        windows = len(corpus.train)
        model = compiled_model(run.config, corpus.tokenizer.vocab_size, windows, devices.replicas)
        start.assign(model)
        _check_equal(model, run, devices)
        if start.weights:
            validate_before(run, model, corpus.valid, corpus.also_valid, devices, extras.log)
        fit_run(run, model, corpus, checkpoint, replace(extras, also_valid=corpus.also_valid), devices)


def _check_equal(model: keras.Model, run: Run, devices: Devices) -> None:
    """Raise `RunError` if this process starts with different weights than the first one."""
    digest = digest_of(current_weights(model, run))
    if devices.share(digest) != digest:
        raise RunError(
            f"Process {devices.process} starts with different weights than process 0. Use the same versions of all "
            "packages and the same files on every machine."
        )
