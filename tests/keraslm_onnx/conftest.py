"""Model files for this folder: with answers by formula, and one of a trained run; and texts for bulk scoring."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

import keraslm_onnx
from tests.support import fake_model
from tests.support.bulk import FOLDER
from tests.support.tiny import tiny_folder, tiny_int8, tiny_model, tiny_report, tiny_run  # noqa: F401


@pytest.fixture(scope="session")
def fake_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fake")


@pytest.fixture(scope="session")
def by_id(fake_folder) -> keraslm_onnx.Scorer:
    """Token i has probability (i + 1) / 21, whatever came before."""
    return keraslm_onnx.load(fake_model.write(fake_folder / "by_id.onnx"))


@pytest.fixture(scope="session")
def by_history(fake_folder) -> keraslm_onnx.Scorer:
    """Each distribution depends on every token since the start of the text."""
    return keraslm_onnx.load(fake_model.write(fake_folder / "by_history.onnx", fake_model.BY_HISTORY))


@pytest.fixture(scope="session")
def bulk_model(fake_folder) -> Path:
    """A model in which each distribution depends on every token since the start of the text."""
    return fake_model.write(fake_folder / "bulk.onnx", fake_model.BY_HISTORY)


@pytest.fixture
def texts(tmp_path) -> list[Path]:
    """Six texts of different lengths: one empty, one compressed, one with CR LF."""
    rng, paths = np.random.default_rng(5), []
    words = np.array(["the", "cat", "dog", "sat", "bird"])
    for number, count in enumerate((40, 3, 0, 70, 20)):
        lines = [" ".join(rng.choice(words, rng.integers(0, 9))) for _ in range(count)]
        paths.append(tmp_path / f"{'abcde'[number]}.txt")
        paths[-1].write_bytes("".join(f"{line}\n" for line in lines).encode())
    paths[3].write_bytes(paths[3].read_bytes().replace(b"\n", b"\r\n"))
    paths.append(tmp_path / "f.txt.gz")
    paths[-1].write_bytes(gzip.compress(b"the cat\n\nsat\n"))
    return paths


@pytest.fixture
def watched(tmp_path, monkeypatch) -> Path:
    """The folder that `obedient` obeys."""
    folder = tmp_path / "watched"
    folder.mkdir()
    monkeypatch.setenv(FOLDER, str(folder))
    return folder
