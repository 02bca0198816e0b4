"""Training on several devices and in parts is the same training as on one, on each backend.

Which combinations are covered: each row of `TRAININGS`, whole and with each of its divisions, devices x parts.
TensorFlow has no parts on several devices. Dropout is 0, and a sampled softmax has no parts, because each part draws
its own masks and negatives. `make parallel` runs all rows. The suite runs `FEW` on torch, and `PLAIN_SGD` where each
length of a window is compiled.
"""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import keras
import pytest

from keraslm import replicas
from keraslm.config import Config
from keraslm.errors import ConfigError, RunError, TextError
from keraslm.layers.dropout import mask_like
from keraslm.system.ranks import Ranks
from keraslm.training.devices import Devices, ends_with_others, start_devices
from keraslm.training.follow import FAILED, follow_run, waited_for
from keraslm.training.train import train_run
from tests.conftest import BACKEND
from tests.reference.text import write_text
from tests.support.parallel import run_jobs

PLAIN_SGD = "sgd, clipping, weight decay"
FEW = (
    "sentences, varying windows, regularization, loss summed over rows, adamw, averaged weights, adaptive softmax, "
    "early stopping"
)
SIZES = {"num_layers": 2, "units": 6, "embedding_dim": 6, "init_scale": 0.3, "batch_size": 8, "num_steps": 4}
PLAIN = {**SIZES, "epochs": 2, "log_every": 1, "output_dropout": 0.0, "learning_rate": 0.5, "clip_norm": 0.5}
TRAININGS = {  # fields, and divisions: devices x parts
    PLAIN_SGD: ({"weight_decay": 0.01}, "2x1 4x1 1x4 2x2"),
    FEW: (
        {
            **{"context": "sentence", "variable_windows": True, "average_across_batch": False, "num_layers": 1},
            **{"activation_regularization": 0.5, "temporal_regularization": 0.5, "optimizer": "adamw", "epochs": 3},
            **{"learning_rate": 0.03, "nonmonotone_interval": 1, "early_stopping": 2, "weight_decay": 0.01},
            **{"softmax": "adaptive", "cutoffs": (4, 8)},
        },
        "2x2 2x1 4x2",
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
MOVED = "stopped on 1 device, resumed on 2 or 4"
SPEED = {"tokens_per_second", "seconds"}
ALL = bool(os.environ.get("KERASLM_PARALLEL"))
USUAL = FEW if BACKEND == "torch" else PLAIN_SGD
CHOSEN = [*TRAININGS] if ALL else [USUAL]


def divisions(name):
    """Devices and parts of a training, the whole one first."""
    found = [tuple(map(int, each.split("x"))) for each in TRAININGS[name][1].split()]
    if BACKEND == "tensorflow":
        found = [each for each in found if 1 in each]
    return [(1, 1), *(found if ALL else found[:1])]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Rows of metrics by training and division; all trainings run in few processes, which start slowly."""
    folder = tmp_path_factory.mktemp("parallel")
    texts = {
        "train": str(write_text(folder / "train.txt", 40, 1)),
        "valid": str(write_text(folder / "valid.txt", 12, 2)),
    }

    def place(name, devices=1, parts=1):
        return folder / name if name == MOVED else folder / f"{[*TRAININGS].index(name)}-{devices}x{parts}"

    jobs = []
    for name in CHOSEN:
        for devices, parts in divisions(name):
            config = Config().replace(**texts, **{**PLAIN, **TRAININGS[name][0]}, accumulate=parts)
            jobs.append({"run": str(place(name, devices, parts)), "devices": devices, "config": config.to_dict()})
    moved = Config().replace(**texts, **{**PLAIN, **TRAININGS[USUAL][0]}, checkpoint_windows=2)
    for devices, stop in ((1, (1, 3)), (4 if ALL else 2, None)):
        jobs.append({"run": str(folder / MOVED), "devices": devices, "config": moved.to_dict(), "stop": stop})
    jobs.sort(key=lambda job: job["devices"])  # processes start slowly
    run_jobs(jobs, folder, BACKEND)
    return lambda *job: [json.loads(line) for line in (place(*job) / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", CHOSEN)
def test_devices_and_parts_change_nothing(rows, name):
    whole, *divided = divisions(name)
    for division in divided:
        assert_same(rows(name, *division), rows(name, *whole))


def test_a_run_is_resumed_on_a_different_number_of_devices(rows):
    """After window 4 of epoch 2: the state of every row moves to its new device."""
    assert_same(rows(MOVED), rows(USUAL, 1, 1))


def assert_same(found, expected):
    assert len(found) == len(expected) > 10
    for own, other in zip(found, expected, strict=True):
        assert own.keys() - SPEED == other.keys() - SPEED
        for key in ("loss", "perplexity", "val_perplexity", "gradient_norm"):
            if key in own:
                assert own[key] == pytest.approx(other[key], rel=1e-5), (own, other)


def test_what_a_backend_cannot_do_is_refused(config):
    """More devices than there are, or processes where the backend has none."""
    ranks = Ranks(0, 2, 0, "127.0.0.1:1", "torchrun")
    expected = {
        "jax": "`devices` is 999, but JAX has",
        "tensorflow": "`devices` is 999, but TensorFlow has",
        "torch": "`devices` is 999, but torch uses one process per device. Start them by torchrun",
    }
    with pytest.raises(ConfigError, match=expected[BACKEND]):
        start_devices(999, None)
    if BACKEND == "tensorflow":
        with pytest.raises(ConfigError, match="TensorFlow trains in one process"):
            start_devices(None, ranks)


def test_one_of_several_processes_does_not_read_standard_input(config, tmp_path):
    devices = Devices()
    devices.processes = 2
    with pytest.raises(TextError, match="Standard input can be read by one process only"):
        train_run(config.replace(train="-"), tmp_path / "run", devices=devices)


def test_the_other_processes_are_told_of_a_failure():
    """Once the training has begun, they see by themselves that a process has ended."""
    shared = []
    devices = SimpleNamespace(share=shared.append)
    with pytest.raises(TextError), waited_for(devices):
        raise TextError("too short")
    with pytest.raises(TextError), waited_for(devices) as tell:
        tell({"folder": "run"})
        raise TextError("later")
    assert shared == [FAILED, {"folder": "run"}]
    with pytest.raises(RunError, match="Process 0 failed before the training began"):
        follow_run(SimpleNamespace(share=lambda: FAILED))


@pytest.mark.skipif(BACKEND != "jax", reason="the other backends share values through collective operations")
def test_values_of_two_trainings_have_different_keys(monkeypatch):
    """JAX keeps a shared value to the end of the process, and refuses a second one with its key."""
    import jax

    from keraslm.training import devices_jax

    kept = {}
    client = SimpleNamespace(key_value_set=kept.__setitem__, blocking_key_value_get=lambda key, _: kept[key])
    monkeypatch.setattr(devices_jax.distributed.global_state, "client", client)
    for folder in ("runs/a", "runs/b"):
        devices = devices_jax.JaxDevices(jax.devices()[:1])
        devices.processes = 2
        assert devices.share({"folder": folder}) == {"folder": folder}
    assert len(kept) == 2


def test_an_error_of_a_lost_process_is_a_sentence():
    expected = "Another process of the training has ended; see its message"
    with pytest.raises(RunError, match=expected), ends_with_others("gloo"):
        raise RuntimeError("gloo: closed")
    with pytest.raises(RuntimeError, match="out of memory"), ends_with_others("gloo"):
        raise RuntimeError("out of memory")


def test_masks_of_activations_differ_by_replica_and_those_of_weights_do_not(monkeypatch):
    def drawn(number, **options):
        monkeypatch.setattr(replicas, "several", lambda: number is not None)
        monkeypatch.setattr(replicas, "index", lambda: number)
        mask = mask_like(keras.ops.ones((40, 30)), 0.5, keras.random.SeedGenerator(3), **options)
        return keras.ops.convert_to_numpy(mask)

    alone, first, second = drawn(None), drawn(0), drawn(1)
    assert (alone == first).all() and (alone == drawn(0)).all() and (second == drawn(1)).all()
    assert 0.4 < (first == second).mean() < 0.6  # independent masks agree in half of the elements
    assert (alone == drawn(1, of_weights=True)).all()
