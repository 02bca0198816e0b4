"""Training on several devices and in parts is the same training as on one, on each backend.

Which combinations are covered: each row of `TRAININGS`, whole and with each of its divisions, devices x parts.
TensorFlow has no parts on several devices. Dropout is 0, and a sampled softmax has no parts, because each part draws
its own masks and negatives. `make parallel` runs all rows, the suite those that are marked with `FEW`.
"""

from __future__ import annotations

import json
import os

import pytest

from keraslm.config import Config
from tests.conftest import BACKEND
from tests.reference.text import write_text
from tests.support.parallel import run_jobs

FEW = "in the suite"
SIZES = {"num_layers": 2, "units": 6, "embedding_dim": 6, "init_scale": 0.3, "batch_size": 8, "num_steps": 4}
PLAIN = {**SIZES, "epochs": 2, "log_every": 1, "output_dropout": 0.0, "learning_rate": 0.5, "clip_norm": 0.5}
TRAININGS = {  # fields, and divisions: devices x parts
    "sgd, clipping, weight decay": ({"weight_decay": 0.01}, "2x1 4x1 1x4 2x2"),
    f"{FEW}: sentences, varying windows, regularization, loss summed over rows": (
        {
            **{"context": "sentence", "variable_windows": True, "average_across_batch": False, "learning_rate": 0.05},
            **{"activation_regularization": 0.5, "temporal_regularization": 0.5},
        },
        "2x1 4x2",
    ),
    f"{FEW}: adamw, averaged weights, adaptive softmax, early stopping": (
        {
            **{"optimizer": "adamw", "learning_rate": 0.05, "nonmonotone_interval": 1, "epochs": 5, "num_layers": 1},
            **{"softmax": "adaptive", "cutoffs": (4, 8), "early_stopping": 2, "weight_decay": 0.01},
        },
        "2x1 1x2",
    ),
    "gru, sampled softmax, shuffled paragraphs": (
        {"cell": "gru", "softmax": "sampled", "num_sampled": 5, "context": "paragraph", "shuffle": True},
        "2x1 4x1",
    ),
    "mogrifier, tied mixture, cosine schedule": (
        {
            **{"mogrifier_rounds": 3, "softmax": "mixture", "num_experts": 2, "tie_weights": True},
            **{"lr_schedule": "cosine", "learning_rate": 0.3},
        },
        "2x1 2x2",
    ),
}
CHOSEN = [*TRAININGS] if os.environ.get("KERASLM_PARALLEL") else [name for name in TRAININGS if FEW in name]


def divisions(name):
    """Devices and parts of a training, the whole one first."""
    found = [tuple(map(int, each.split("x"))) for each in TRAININGS[name][1].split()]
    if BACKEND == "tensorflow":
        found = [each for each in found if 1 in each]
    return [(1, 1), *(found if os.environ.get("KERASLM_PARALLEL") else found[:2])]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Rows of metrics by training and division; all trainings run in few processes, which start slowly."""
    folder = tmp_path_factory.mktemp("parallel")
    texts = {
        "train": str(write_text(folder / "train.txt", 40, 1)),
        "valid": str(write_text(folder / "valid.txt", 12, 2)),
    }

    def place(name, devices, parts):
        return folder / f"{[*TRAININGS].index(name)}-{devices}x{parts}"

    jobs = []
    for name in CHOSEN:
        for devices, parts in divisions(name):
            config = Config().replace(**texts, **{**PLAIN, **TRAININGS[name][0]}, accumulate=parts)
            jobs.append({"run": str(place(name, devices, parts)), "devices": devices, "config": config.to_dict()})
    run_jobs(jobs, folder, BACKEND)
    return lambda *job: [json.loads(line) for line in (place(*job) / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", CHOSEN)
def test_devices_and_parts_change_nothing(rows, name):
    whole, *divided = divisions(name)
    expected = rows(name, *whole)
    for division in divided:
        found = rows(name, *division)
        assert len(found) == len(expected) > 10
        for own, other in zip(found, expected, strict=True):
            assert own.keys() == other.keys()
            for key in ("loss", "perplexity", "val_perplexity", "gradient_norm"):
                if key in own:
                    assert own[key] == pytest.approx(other[key], rel=1e-5), (division, own, other)
