"""Formats recognised by the first bytes of a file."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from keraslm.scoring.sniff import is_like_onnx, looks_like
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
    """An ONNX model of a different program."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "negation", [x], [y])
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


KNOWN = {
    "empty": (b"", "an empty file"),
    "gzip": (gzip.compress(b"text", mtime=0), "gzip data"),
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
    "ort": (b"\x1c\x00\x00\x00ORTM\x00\x00", "an ORT-format model"),
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


@given(st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), max_size=30), st.integers(1, 120))
def test_any_text_that_starts_with_a_letter_is_a_text_even_if_cut_inside_a_character(text, end):
    assert looks_like(("x" + text).encode()[:end]) == "a text"


@given(st.binary(max_size=200))
def test_any_bytes_are_accepted(data):
    assert looks_like(data) != ""


def test_models_look_like_onnx(tiny_model):
    for data in (tiny_model.read_bytes(), other_model(), fake_model.build().SerializeToString()):
        assert looks_like(data[:65536]) is None and is_like_onnx(data)
