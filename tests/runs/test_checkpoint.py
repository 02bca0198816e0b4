"""Checkpoints on disk are read as they were written, and damage is found."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keraslm.errors import RunError
from keraslm.runs.checkpoint import Checkpoint, CheckpointStore, DamagedCheckpointError, read_checkpoint
from keraslm.system import atomic

VARIABLES = {
    "model/lstm_0/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "model/lstm_0/seed_generator_state": np.array([7, 2**32 - 1], np.uint32),
    "optimizer/iteration": np.array(41, np.int64),
}
METRICS = '{"epoch": 1, "loss": 2.5}\n'
FILES = ["SHA256SUMS", "metrics.jsonl", "state.json", "variables.safetensors"]


STATE = {"config": {}, "texts": {}, "surroundings": {}, "log": {"seconds": 1.5, "seen": 3, "sum": 2.5}}


def checkpoint(epoch=1, window=0, **state):
    return Checkpoint(epoch, window, VARIABLES, STATE | state, METRICS)


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "checkpoints")


def test_a_checkpoint_survives_a_round_trip(store):
    path = store.save(checkpoint(3, 450, backend="jax", texts={"train": {"tokens": 5}}))
    assert path.name == "0003-00000450" and sorted(file.name for file in path.iterdir()) == FILES
    state = STATE | {"backend": "jax", "texts": {"train": {"tokens": 5}}}
    written = {"format_version": 1, "epoch": 3, "window": 450, **state}
    assert json.loads((path / "state.json").read_text()) == written
    found, damaged = store.newest()
    assert damaged == {} and (found.epoch, found.window) == (3, 450)
    assert found.position == "window 450 of epoch 4" and checkpoint(2, 0).position == "epoch 2"
    assert found.state == state and found.metrics == METRICS
    assert found.variables.keys() == VARIABLES.keys()
    for name, value in VARIABLES.items():
        assert found.variables[name].dtype == value.dtype and found.variables[name].shape == value.shape
        np.testing.assert_array_equal(found.variables[name], value)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="the program sha256sum is not installed")
def test_digests_are_those_of_sha256sum(store):
    path = store.save(checkpoint())
    printed = subprocess.run(["sha256sum", *FILES[1:]], cwd=path, capture_output=True, text=True, check=True).stdout
    assert (path / "SHA256SUMS").read_text() == printed


@pytest.mark.parametrize(
    ("positions", "kept"),
    [
        (((0, 5), (0, 10), (1, 0), (10, 3)), ["0001-00000000", "0010-00000003"]),
        (((9999, 0), (9999, 10**8), (10_000, 0)), ["9999-100000000", "10000-00000000"]),
    ],
)
def test_the_newest_two_are_kept(store, positions, kept):
    for position in positions:
        store.save(checkpoint(*position))
    assert store.names() == kept and store.newest()[0].name == kept[-1]


def test_the_names_of_folders_are_flushed(store, monkeypatch):
    flushed = []
    monkeypatch.setattr(atomic, "sync_folder", flushed.append)
    store.save(checkpoint())
    assert store.folder.parent in flushed and store.folder in flushed


def test_an_empty_store_has_no_checkpoint(store):
    assert store.newest() == (None, {}) and store.names() == []


def test_folders_of_a_killed_process_are_ignored_and_removed(store):
    store.save(checkpoint(1))
    for name in (".0002-00000000.01234567.keraslm", ".0001-00000000.removing.keraslm"):
        shutil.copytree(store.folder / "0001-00000000", store.folder / name)
    mine = store.folder / ".ipynb_checkpoints"
    mine.mkdir()
    assert store.newest()[0].name == "0001-00000000"
    store.save(checkpoint(3))
    assert sorted(path.name for path in store.folder.iterdir()) == [mine.name, "0001-00000000", "0003-00000000"]


def test_a_checkpoint_of_the_same_position_is_kept(store):
    store.save(checkpoint(2, note="first"))
    store.save(checkpoint(2, note="again"))
    assert store.newest()[0].state["note"] == "first"


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    store = CheckpointStore(tmp_path_factory.mktemp("committed"))
    store.save(checkpoint(1, note="before"))
    store.save(checkpoint(2, note="last"))
    return store


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_bits_and_cut_files_are_found(committed, data):
    path = committed.folder / "0002-00000000" / data.draw(st.sampled_from(FILES))
    original = path.read_bytes()
    place = data.draw(st.integers(0, len(original) - 1))
    if data.draw(st.booleans()):
        changed = bytearray(original)
        changed[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        changed = original[:place]
    path.write_bytes(changed)
    try:
        found, damaged = committed.newest()
    finally:
        path.write_bytes(original)
    assert found.state["note"] == "before"
    assert set(damaged) == {"0002-00000000"} and path.name in damaged["0002-00000000"]


@pytest.mark.parametrize("name", FILES)
def test_missing_and_unexpected_files_are_found(committed, tmp_path, name):
    folder = shutil.copytree(committed.folder / "0002-00000000", tmp_path / "copy")
    (folder / name).unlink()
    rest = ", ".join(file for file in FILES if file != name)
    with pytest.raises(DamagedCheckpointError, match=f"it contains {rest} instead of"):
        read_checkpoint(folder)
    (folder / name).mkdir()
    with pytest.raises(DamagedCheckpointError, match=r"it cannot be read \(Is a directory\)"):
        read_checkpoint(folder)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(DamagedCheckpointError, match=r"notes\.txt"):
        read_checkpoint(folder)


def resealed(folder, **changed):
    """Change files of a checkpoint together with their sums."""
    for name, data in changed.items():
        (folder / FILES[["sums", "metrics", "state", "variables"].index(name)]).write_bytes(data)
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in FILES[1:]]
    (folder / "SHA256SUMS").write_text("".join(lines))


def without(*path):
    """The content of `state.json` without a value in it."""
    state = json.loads(json.dumps({"format_version": 1, "epoch": 2, "window": 0, **STATE}))
    inner = state
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return json.dumps(state).encode()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": b"[]"}, ""),
        ({"state": b"{" * 100_000}, ""),
        ({"state": b"\xff"}, ""),
        ({"state": b"{}"}, "'format_version'"),
        *(({"state": without(name)}, f"state.json has no {name}") for name in STATE),
        ({"state": without("log", "seen")}, "'seen'"),
        ({"state": without("epoch")}, "'epoch'"),
        ({"variables": b"nonsense"}, ""),
        ({"metrics": b"\xff"}, ""),
    ],
)
def test_malformed_content_with_valid_digests_is_damage(committed, tmp_path, changes, words):
    store = CheckpointStore(shutil.copytree(committed.folder, tmp_path / "copy"))
    resealed(store.folder / "0002-00000000", **changes)
    found, damaged = store.newest()
    assert found.name == "0001-00000000" and [*damaged] == ["0002-00000000"]
    assert damaged["0002-00000000"].startswith("it is not a checkpoint of a training run (")
    assert words in damaged["0002-00000000"]


def test_a_newer_format_is_not_damage(committed, tmp_path):
    folder = shutil.copytree(committed.folder / "0002-00000000", tmp_path / "copy")
    resealed(folder, state=b'{"format_version": 2, "epoch": 1, "window": 0}')
    with pytest.raises(RunError, match="checkpoint format 2, but this keraslm reads 1") as caught:
        read_checkpoint(folder)
    assert not isinstance(caught.value, DamagedCheckpointError)


def test_nan_in_the_state_is_refused(store):
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.save(checkpoint(1, seconds=float("nan")))
    assert store.newest() == (None, {}) and not store.folder.exists()
