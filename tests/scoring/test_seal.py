"""The checksum at the end of a model file."""

from __future__ import annotations

import hashlib

import onnx
import pytest

from keraslm.errors import ModelFileError
from keraslm.scoring.seal import KEY, SIZE, check_seal, has_seal, sealed
from keraslm.scoring.session import ModelSession
from tests.support import fake_model
from tests.support.fake_model import model_info


@pytest.fixture(scope="module")
def plain() -> bytes:
    return fake_model.build().SerializeToString()


def test_onnx_reads_the_seal_as_the_last_metadata_entry(plain):
    before, after = onnx.load_from_string(plain), onnx.load_from_string(sealed(plain))
    onnx.checker.check_model(after, full_check=True)
    assert after.graph == before.graph
    assert list(after.metadata_props)[:-1] == list(before.metadata_props)
    # The value is what another program finds: sha256sum of the bytes in front of the entry.
    last = after.metadata_props[-1]
    assert (last.key, last.value) == (KEY, hashlib.sha256(plain).hexdigest())
    assert len(sealed(plain)) - len(plain) == SIZE


def test_the_seal_of_an_export_fits(tiny_model):
    data = tiny_model.read_bytes()
    assert check_seal(data, "m") == hashlib.sha256(data).hexdigest() == ModelSession(tiny_model).digest


def test_a_sealed_file_is_sealed_in_the_same_place(plain):
    assert sealed(sealed(plain)) == sealed(plain)
    assert sealed(plain + b"\x28\x01")[:-SIZE] == plain + b"\x28\x01"


def test_every_single_bit_is_guarded(plain):
    data = sealed(plain)
    for place in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        if has_seal(damaged):
            with pytest.raises(ModelFileError, match=r"^m: damaged: its checksum does not fit\."):
                check_seal(bytes(damaged), "m")


@pytest.mark.parametrize("data", [b"", b"x", bytes(SIZE)])
def test_other_bytes_have_no_seal(data):
    assert not has_seal(data)


def test_a_file_with_a_wrong_seal_is_refused(tmp_path, plain):
    data = bytearray(sealed(plain))
    data[len(data) // 2] ^= 1
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=r"model\.onnx: damaged: its checksum does not fit\. Copy the file again"):
        ModelSession(path)


def test_a_file_that_another_program_wrote_again_is_refused(tmp_path, plain):
    proto = onnx.load_from_string(plain)
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelFileError, match=r"model\.onnx: has no checksum at its end: .* Export the run again"):
        ModelSession(path)


def test_a_file_of_an_older_format_is_named_as_such(tmp_path):
    proto = fake_model.build()
    next(entry for entry in proto.metadata_props if entry.key == "format_version").value = "2"
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelFileError, match="format version 2, but this keraslm reads 3"):
        ModelSession(path)


def test_metadata_of_a_sealed_file_are_as_before(tmp_path):
    info = model_info(valid_perplexity=3.5)
    assert ModelSession(fake_model.write(tmp_path / "model.onnx", info=info)).info == info
