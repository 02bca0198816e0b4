"""Whatever is given as a model, the command line names it: one sentence, exit code 2."""

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
    """Give bytes as a model to each command that opens one."""

    def check(data: bytes, *parts: str) -> None:
        path = tmp_path / "given.onnx"
        path.write_bytes(data)
        for command in ("score", "generate"):
            assert_refused(program(command, path, stdin=b"the cat\n"), f"{path}: ", *parts)

    return check


@pytest.mark.parametrize(("data", "name"), KNOWN.values(), ids=KNOWN)
def test_another_format_is_named(refused, data, name):
    refused(data, f"not an ONNX model; it looks like {name}. Make a model with: {EXPORT}")


def test_random_bytes_are_refused(refused):
    refused(b"\x80\xff" + np.random.default_rng(1).bytes(4000), "not an ONNX model", EXPORT)


def test_another_onnx_model_is_refused(refused):
    refused(other_model(), "an ONNX model, but not one of keraslm's", EXPORT)
    refused(sealed(other_model()), "not one of keraslm's exports, so it is not run: operator Neg", EXPORT)


def test_a_model_without_its_seal_is_refused(refused, fake):
    refused(fake.read_bytes()[:-SIZE], "has no checksum at its end", "Export the run again", EXPORT)


@pytest.mark.parametrize("share", [0.001, 0.3, 0.7, 0.99])
def test_a_model_that_was_cut_short_is_refused(refused, fake, share):
    data = fake.read_bytes()
    refused(data[: int(share * len(data))], "not an ONNX model, or a damaged one (at byte", EXPORT)


def test_a_flipped_bit_is_found(refused, fake):
    data = bytearray(fake.read_bytes())
    data[len(data) // 2] ^= 4
    refused(bytes(data), "damaged: its checksum does not fit", EXPORT)


def test_a_model_with_weights_elsewhere_is_refused(refused, tmp_path):
    """Written by `onnx` itself: the weights lie in another file, which is there."""
    path = tmp_path / "outside.onnx"
    onnx.save(fake_model.build(), path, save_as_external_data=True, location="weights", size_threshold=0)
    assert (tmp_path / "weights").exists()
    data = path.read_bytes()
    refused(data, "has no checksum at its end")
    refused(sealed(data), "is external data, kept in another file", EXPORT)


def test_a_run_folder_is_answered_with_the_command_that_exports_it(program, tmp_path):
    assert_refused(program("score", tmp_path), "Is a directory", f"{EXPORT} model.onnx --run {tmp_path}")


def test_a_pipe_is_not_waited_for(program, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert_refused(program("score", tmp_path / "pipe"), "not a regular file")
