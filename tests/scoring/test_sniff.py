"""What a file that is no model looks like, and the message that says so."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import zipfile

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from keraslm.errors import ModelFileError
from keraslm.scoring.session import ModelSession
from keraslm.scoring.sniff import looks_like
from tests.support import fake_model

ARPA = "\\data\\\nngram 1=3\n\n\\1-grams:\n-1.0\t<s>\t-0.3\n"


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return buffer.getvalue()


def safetensors_bytes() -> bytes:
    from safetensors.numpy import save

    return save({"a": np.zeros(3, np.float32)})


def other_model() -> bytes:
    """A whole ONNX model that keraslm did not write."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "negation", [x], [y])
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


KNOWN = {
    "empty": (b"", "an empty file"),
    "gzip": (gzip.compress(b"text"), "gzip data"),
    "bzip2": (bz2.compress(b"text"), "bzip2 data"),
    "xz": (lzma.compress(b"text"), "xz data"),
    "zstandard": (b"\x28\xb5\x2f\xfd\x04\x00", "zstandard data"),
    "torch": (zipped("archive/data.pkl", "archive/data/0"), "a PyTorch checkpoint (.pt)"),
    "keras": (zipped("metadata.json", "config.json", "model.weights.h5"), "a Keras archive (.keras)"),
    "zip": (zipped("readme.txt"), "a zip archive"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "an HDF5 file (.h5, Keras weights)"),
    "pickle": (pickle.dumps({"weights": [1.0, 2.0]}), "a pickle"),
    "safetensors": (safetensors_bytes(), "a safetensors file"),
    "kenlm": (b"mmap lm http://kheafield.com/code format version 5\n\x00", "a KenLM binary"),
    "pdf": (b"%PDF-1.7\n", "a PDF"),
    "gguf": (b"GGUF\x03\x00\x00\x00", "a GGUF model"),
    "tflite": (b"\x1c\x00\x00\x00TFL3\x00\x00", "a TensorFlow Lite model"),
    "arpa": (ARPA.encode(), "an ARPA n-gram model"),
    "tokenizer": (fake_model.TOKENIZER.to_json().encode(), "a tokenizer.json"),
    "json object": (json.dumps({"version": "1.0"}).encode(), "JSON text"),
    "json list": (b" \n[1, 2]\n", "JSON text"),
    "text": (b"the cat sat\non the mat\n", "a text"),
    "short text": ("é".encode(), "a text"),
    "long text": ("日本語のテキスト\n".encode() * 9000, "a text"),
}


@pytest.mark.parametrize(("data", "name"), KNOWN.values(), ids=KNOWN)
def test_a_known_format_is_named(data, name):
    assert looks_like(data[:65536]) == name


@pytest.mark.parametrize(("data", "name"), KNOWN.values(), ids=KNOWN)
def test_opening_another_file_says_what_it_looks_like(tmp_path, data, name):
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelFileError) as caught:
        ModelSession(path)
    assert str(caught.value) == (f"{path}: not an ONNX model; it looks like {name}. Make a model with: keraslm export")


@pytest.mark.parametrize("end", range(1, 40))
def test_a_text_is_known_wherever_its_beginning_is_cut(end):
    # The first kilobytes of a file may end inside a character.
    text = "naïve 日本 🎈 über ça ".encode()
    assert looks_like((text * 2)[:end]) == "a text"


@given(st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_any_text_that_starts_with_a_letter_is_a_text(text):
    assert looks_like(("x" + text).encode()) == "a text"


@given(st.binary(max_size=200))
def test_any_bytes_get_an_answer(data):
    assert looks_like(data) is None or looks_like(data)


def test_models_are_not_taken_for_something_else(tiny_model):
    for data in (tiny_model.read_bytes(), other_model(), fake_model.build().SerializeToString()):
        assert looks_like(data[:65536]) is None


def test_random_bytes_are_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08" + np.random.default_rng(0).bytes(5000))
    with pytest.raises(ModelFileError, match=r"not an ONNX model, or a damaged one \(at byte 2: field"):
        ModelSession(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_model_is_refused(tmp_path, tiny_model, share):
    data = tiny_model.read_bytes()
    path = tmp_path / "model.onnx"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ModelFileError, match=str(path)):
        ModelSession(path)


def test_a_model_of_another_program_is_named_as_such(tmp_path):
    path = tmp_path / "other.onnx"
    path.write_bytes(other_model())
    with pytest.raises(ModelFileError, match=r"other\.onnx: an ONNX model, but not one of keraslm's"):
        ModelSession(path)


def test_a_run_folder_is_answered_with_the_command_that_exports_it(tmp_path):
    with pytest.raises(ModelFileError) as caught:
        ModelSession(tmp_path)
    assert f"keraslm export model.onnx --run {tmp_path}" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"gone\.onnx: cannot be read \(No such file or directory\)\.$"):
        ModelSession(tmp_path / "gone.onnx")


def test_the_identity_model_of_these_tests_is_valid():
    onnx.checker.check_model(onnx.load_from_string(other_model()), full_check=True)
