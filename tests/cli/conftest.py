"""The program, a model file with answers by formula, and one trained run with its model file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import fake_model
from tests.support.program import program  # noqa: F401
from tests.support.tiny import tiny_folder, tiny_model, tiny_report, tiny_run  # noqa: F401


@pytest.fixture(scope="session")
def fake(tmp_path_factory) -> Path:
    """Token i has probability (i + 1) / 21: <eos> 0, sat 1, the 2, cat 3, dog 4, <unk> 5."""
    return fake_model.write(tmp_path_factory.mktemp("fake") / "model.onnx")


@pytest.fixture
def text(tmp_path):
    """Write a text file and return its path."""

    def write(content: str | bytes, name: str = "text.txt") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write
