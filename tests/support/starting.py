"""A run to start from, other texts, and trainings that start from it."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest

import keraslm
from tests.reference.text import made_up_lines
from tests.support.resuming import quietly

STILL = {"learning_rate": 1e-30, "clip_norm": None}  # a training that changes nothing


@pytest.fixture(scope="session")
def source(config, tmp_path_factory):
    """A run of one layer, trained for two epochs; copy its folder before you change a file in it."""
    folder = tmp_path_factory.mktemp("source")
    with contextlib.chdir(folder):
        return quietly(config.replace(num_layers=1, epochs=2), folder / "old")[0]


@pytest.fixture
def source_copy(source, tmp_path):
    return Path(shutil.copytree(source.path, tmp_path / "old"))


@pytest.fixture
def new_text(tmp_path):
    """Paths of a training and a validation text that share some words with the texts of the source."""
    for name, seed in (("new.txt", 7), ("new-valid.txt", 8)):
        lines = [line.replace("word1 ", "fresh ").replace("word2 ", "rarer ") for line in made_up_lines(30, seed)]
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    return {"train": tmp_path / "new.txt", "valid": tmp_path / "new-valid.txt"}


def train(**fields):
    lines = []
    return keraslm.train(**{"verbose": 0, "log": lines.append, **fields}), lines
