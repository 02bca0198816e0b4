"""Files that are not models are refused with one sentence and exit code 2."""

from __future__ import annotations

import os

import numpy as np
import onnx
import pytest

from keraslm.scoring.seal import SIZE, sealed
from tests.scoring.test_sniff import KNOWN, other_model
from tests.support import fake_model
from tests.support.program import assert_refused

EXPORT = "keraslm export"


@pytest.fixture
def refused(program, tmp_path):
    """Check that `score` and `generate` refuse a model file with these bytes."""

    def check(data: bytes, *parts: str) -> None:
        path = tmp_path / "given.onnx"
        path.write_bytes(data)
        for command in ("score", "generate"):
            assert_refused(program(command, path, stdin=b"the cat\n"), f"{path}: ", *parts)

    return check


@pytest.mark.parametrize("kind", ["gzip", "torch", "arpa"])
def test_a_different_format_is_named(refused, kind):
    data, name = KNOWN[kind]
    refused(data, f"not an ONNX model; it looks like {name}. Make a model with: {EXPORT}")


def test_different_onnx_models_are_refused(refused):
    refused(b"\x80\xff" + np.random.default_rng(1).bytes(4000), "not an ONNX model", EXPORT)
    refused(other_model(), "an ONNX model, but not one made by keraslm", EXPORT)
    refused(sealed(other_model()), "an ONNX model, but not one made by keraslm", EXPORT)


def test_damaged_models_are_refused(refused, fake):
    data = fake.read_bytes()
    refused(data[:-SIZE], "has no checksum at its end", "Export the run again", EXPORT)
    refused(data[: len(data) // 3], "an ONNX model, but not one made by keraslm, or only the beginning of one", EXPORT)
    refused(bytes([*data[:500], data[500] ^ 4, *data[501:]]), "damaged: its checksum does not match", EXPORT)


def test_a_model_with_weights_in_a_different_file_is_refused(refused, tmp_path):
    """The package `onnx` writes the model and, beside it, a file of weights."""
    path = tmp_path / "outside.onnx"
    onnx.save(fake_model.build(), path, save_as_external_data=True, location="weights", size_threshold=0)
    assert (tmp_path / "weights").exists()
    refused(path.read_bytes(), "has no checksum at its end")
    refused(sealed(path.read_bytes()), "keeps weights in a different file (external data)", EXPORT)


def test_a_folder_and_a_pipe_are_refused(program, tmp_path):
    assert_refused(program("score", tmp_path), "Is a directory", f"{EXPORT} model.onnx --run {tmp_path}")
    os.mkfifo(tmp_path / "pipe")
    assert_refused(program("score", tmp_path / "pipe"), "not a regular file")
