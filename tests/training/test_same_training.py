"""The same training again without a folder: the last stopped run in `runs/` is resumed."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

import pytest

from keraslm.api.train import train
from keraslm.system.locks import folder_lock
from tests.support.resuming import assert_same, quietly

pytestmark = pytest.mark.usefixtures("own_folder")


def again(config, **options):
    lines = []
    options = {"verbose": 0, "log": lines.append, **options}
    return train(config, **options), lines


def names():
    return sorted(path.name for path in Path("runs").iterdir() if not path.is_symlink())


def test_the_same_training_without_a_folder_resumes_the_stopped_run(config, trained_run, stopped):
    stopped(None, 1, 3, None)
    (name,) = names()
    run, lines = again(config)
    assert run.path == Path("runs") / name and names() == [name]
    line = f'          {run.path} was begun with the same arguments; `resume="never"` starts a new run'
    assert line in lines and any("resuming after window 4 of epoch 2" in each for each in lines)
    assert_same(run, trained_run)
    new, lines = again(config.replace(epochs=3))  # the stopped one is finished now
    assert new.path != run.path and len(names()) == 2 and not any("resum" in line for line in lines)


def test_only_the_same_training_is_resumed(config, stopped, tmp_path):
    """Not one with a different configuration, a different text, without a checkpoint, or in a running process."""
    train_text = tmp_path / "train.txt"
    shutil.copy(config.data.train[0], train_text)
    config = config.replace(train=train_text, num_layers=1, epochs=1)
    stopped(None, 0, 3, None, changes={"train": train_text, "num_layers": 1, "epochs": 1})
    (name,) = names()
    for given, options in ((config.replace(seed=9), {}), (config, {"resume": "never"}), (config, {"overwrite": True})):
        assert again(given, **options)[0].path.name != name
    with folder_lock(Path("runs") / name):
        assert again(config)[0].path.name != name
    train_text.write_text("".join(reversed(train_text.read_text().splitlines(keepends=True))))
    run, lines = again(config)
    assert run.path.name != name and len(names()) == 6
    assert any(
        line.startswith(f"          not resumed: runs/{name} was created with a different training") for line in lines
    )
    metrics = Path("runs") / name / "metrics.jsonl"
    metrics.write_text(f"{metrics.read_text()}{{\n{{}}\n")  # a damaged run is no reason to stop
    assert again(config)[0].path.name != name
    shutil.rmtree(Path("runs") / name / "checkpoints")
    assert again(config)[0].path.name != name


def test_two_runs_of_one_second_have_two_folders(config, monkeypatch):
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, 3, 4, 5)

    monkeypatch.setattr("keraslm.runs.create.datetime", Clock)
    made = [quietly(config.replace(num_layers=1, epochs=1))[0].path.name for _ in range(3)]
    assert made == ["20260102-030405", "20260102-030405-2", "20260102-030405-3"]
