"""One small text, one run trained on it and one model file made of that run, for the whole session.

The fixtures are imported by more than one conftest, so what they give is kept here and made once.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keraslm
from keraslm.runs.run import Run

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "bird",
    "fish",
    "naïve",
    "日本",
    "sat",
    "ran",
    "ate",
    "saw",
    "big",
    "small",
    "red",
    "blue",
]
WORDS += ["here", "there", "now", "then", "and", "or", "but", "not"]
HELD_OUT = ["the cat sat", "", "a zebra saw 日本 and naïve fish", "  ", "unheard of", "now  then\tthere", "dog"]

# The run is made with these on top of the preset `small`.
FIELDS: dict[str, Any] = {
    "units": 8,
    "embedding_dim": 6,
    "num_layers": 1,
    "epochs": 2,
    "batch_size": 2,
    "num_steps": 6,
    "min_count": 2,
    "seed": 1,
}

_made: dict[str, Any] = {}


def text_lines(count: int, seed: int) -> list[str]:
    """Lines in which each word is followed by one of three, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    lines = []
    for number in range(count):
        word = int(rng.integers(len(WORDS)))
        words = []
        for _ in range(rng.integers(3, 9)):
            words.append(WORDS[word])
            word = (3 * word + int(rng.integers(3))) % len(WORDS)
        if number % 10 == 0:
            words.append(f"rare{number}")  # seen once: <unk> under min_count=2
        lines.append(" ".join(words))
    return lines


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """Folder with train.txt and valid.txt; the run and the model are made in it."""
    if "folder" not in _made:
        folder = tmp_path_factory.mktemp("tiny")
        for name, count, seed in (("train", 150, 1), ("valid", 30, 2)):
            (folder / f"{name}.txt").write_text("\n".join(text_lines(count, seed)) + "\n", encoding="utf-8")
        (folder / "held-out.txt").write_text("\n".join(HELD_OUT) + "\n", encoding="utf-8")
        _made["folder"] = folder
    return _made["folder"]


@pytest.fixture(scope="session")
def tiny_run(tiny_folder) -> Run:
    """A trained run; copy its folder before you change a file in it."""
    if "run" not in _made:
        texts = {"train": tiny_folder / "train.txt", "valid": tiny_folder / "valid.txt"}
        with contextlib.chdir(tiny_folder):
            _made["run"] = keraslm.train(
                keraslm.preset("small"), run=tiny_folder / "run", verbose=0, log=lambda line: None, **texts, **FIELDS
            )
    return _made["run"]


@pytest.fixture(scope="session")
def tiny_report(tiny_run, tiny_folder) -> Any:
    """The report of the export that writes `tiny_model`."""
    if "report" not in _made:
        _made["report"] = keraslm.export(tiny_run, tiny_folder / "model.onnx")
    return _made["report"]


@pytest.fixture(scope="session")
def tiny_int8(tiny_run, tiny_folder) -> Path:
    """The model file of the tiny run with 8-bit weights."""
    path = tiny_folder / "model.int8.onnx"
    if "int8" not in _made:
        text = tiny_folder / "valid.txt"
        _made["int8"] = keraslm.export(tiny_run, path, int8=True, text=text, tolerance=1.0)
    return path


@pytest.fixture(scope="session")
def tiny_model(tiny_report, tiny_folder) -> Path:
    """The model file of the tiny run."""
    return tiny_folder / "model.onnx"
