"""The perplexity of a second validation text after each epoch, and of both texts before the first one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras

from keraslm.runs.folder import RunFolder
from keraslm.system import Log
from keraslm.training.callbacks import ResetStates
from keraslm.training.checkpoints import SaveCheckpoints
from keraslm.training.dataset import BatchDataset, Batches
from keraslm.training.devices import Devices
from keraslm.training.progress import Logs
from keraslm.training.rows import Rows

SECOND = "also_val_perplexity"


class SecondValidation(keras.callbacks.Callback):
    """Add `also_val_perplexity` to the logs of an epoch, the perplexity of a second validation text.

    It must act before the logs are written. Nothing depends on the result: the best weights, the schedule and early
    stopping follow the first validation text. After a signal, the resumed training repeats both validations.
    """

    def __init__(self, batches: Batches, states: ResetStates, checkpoints: SaveCheckpoints, rows: Rows | None = None):
        super().__init__()
        self.batches, self.callbacks, self.rows = batches, (states, checkpoints), rows

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        found = perplexity_of(self.model, self.batches, self.callbacks, self.rows)
        if logs is not None:
            logs[SECOND] = found


def perplexity_of(
    model: keras.Model, batches: Batches, callbacks: Sequence[keras.callbacks.Callback], rows: Rows | None = None
) -> float:
    """The perplexity of batches under a compiled model; `callbacks` must save and restore its states."""
    source = BatchDataset(batches, rows=rows).source()
    return float(model.evaluate(source, callbacks=list(callbacks), verbose=0, return_dict=True)["perplexity"])


def validate_before(
    run: RunFolder, model: keras.Model, valid: Batches | None, also_valid: Batches | None, devices: Devices, log: Log
) -> None:
    """Write the perplexities of the initial weights to `metrics.jsonl`, as those of epoch 0."""
    texts = {"val_perplexity": valid, SECOND: also_valid}
    found = {
        name: perplexity_of(model, text, [ResetStates(devices=devices)], devices.rows)
        for name, text in texts.items()
        if text is not None
    }
    if found and all(map(math.isfinite, found.values())):
        run.append({"epoch": 0, **found})
        log(f"before    {', '.join(f'{name} {value:.2f}' for name, value in found.items())}")
