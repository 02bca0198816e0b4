"""Model files for this folder: two with answers by formula, and one of a trained run."""

from __future__ import annotations

from pathlib import Path

import pytest

import keraslm_onnx
from tests.support import fake_model
from tests.support.tiny import tiny_folder, tiny_model, tiny_report, tiny_run  # noqa: F401


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
