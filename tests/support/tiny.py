"""A small text, a run trained on it and the model files of that run, made once per session."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keraslm
from keraslm.runs.run import Run

WORDS = ["the", "a", "cat", "dog", "bird", "fish", "naïve", "日本", "sat", "ran", "ate", "saw", "big", "small", "red"]
WORDS += ["blue", "here", "there", "now", "then", "and", "or", "but", "not"]
HELD_OUT = ["the cat sat", "", "a zebra saw 日本 and naïve fish", "  ", "unheard of", "now  then\tthere", "dog"]

# Fields of the run that differ from the preset `small`.
FIELDS: dict[str, Any] = {"units": 8, "embedding_dim": 6, "num_layers": 1, "epochs": 2}
FIELDS |= {"batch_size": 2, "num_steps": 6, "min_count": 2, "seed": 1}


def text_lines(count: int, seed: int) -> list[str]:
    """Lines in which each word is followed by one of three words, so that a model can learn something."""
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
    """Folder with train.txt, valid.txt and held-out.txt; the run and the models are written there."""
    folder = tmp_path_factory.mktemp("tiny")
    texts = {"train": text_lines(150, 1), "valid": text_lines(30, 2), "held-out": HELD_OUT}
    for name, lines in texts.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_run(tiny_folder) -> Run:
    """A trained run; copy its folder before you change a file in it."""
    texts = {"train": tiny_folder / "train.txt", "valid": tiny_folder / "valid.txt"}
    options = {"run": tiny_folder / "run", "verbose": 0, "log": lambda line: None}
    with contextlib.chdir(tiny_folder):
        return keraslm.train(keraslm.preset("small"), **options, **texts, **FIELDS)


@pytest.fixture(scope="session")
def tiny_report(tiny_run, tiny_folder) -> Any:
    """The report of the export that writes `tiny_model`."""
    return keraslm.export(tiny_run, tiny_folder / "model.onnx")


@pytest.fixture(scope="session")
def tiny_model(tiny_report, tiny_folder) -> Path:
    """The model file of the tiny run."""
    return tiny_folder / "model.onnx"


@pytest.fixture(scope="session")
def tiny_int8(tiny_run, tiny_folder) -> Path:
    """The model file of the tiny run with 8-bit weights."""
    path = tiny_folder / "model.int8.onnx"
    keraslm.export(tiny_run, path, int8=True, text=tiny_folder / "valid.txt", tolerance=1.0)
    return path
