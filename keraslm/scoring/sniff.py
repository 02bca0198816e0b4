"""Recognise a file that is not a model by its first bytes, for the error message."""

from __future__ import annotations

import codecs
import re

_MAGIC = (
    (b"\x1f\x8b", "gzip data"),
    (b"BZh", "bzip2 data"),
    (b"\xfd7zXZ\x00", "xz data"),
    (b"\x28\xb5\x2f\xfd", "zstandard data"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (.h5, Keras weights)"),
    (b"mmap lm http://kheafield.com/code", "a KenLM binary"),
    (b"GGUF", "a GGUF model"),
    (b"%PDF", "a PDF"),
)

# ModelProto: ir_version, then the tag of one of its other fields.
_ONNX = re.compile(rb"\x08[\x01-\x1f][\x12\x1a\x22\x28\x32\x3a\x42\x72]")


def is_like_onnx(data: bytes) -> bool:
    """Whether a file begins as an ONNX model does."""
    return _ONNX.match(data) is not None


def looks_like(data: bytes) -> str | None:
    """Name the format of a file from its first kilobytes; None if it may be ONNX."""
    if not data:
        return "an empty file"
    if data.startswith(b"PK"):
        if b"data.pkl" in data:
            return "a PyTorch checkpoint (.pt)"
        keras = b"metadata.json" in data or b"model.weights.h5" in data
        return "a Keras archive (.keras)" if keras else "a zip archive"
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:1] == b"\x80" and data[1:2] <= b"\x05":
        return "a pickle"
    if kind := {b"TFL3": "a TensorFlow Lite model", b"ORTM": "an ORT-format model"}.get(data[4:8]):
        return kind
    if len(data) > 9 and data[8:9] == b"{" and int.from_bytes(data[:8], "little") < 1 << 32:
        return "a safetensors file"
    return _text_kind(data)


def _text_kind(data: bytes) -> str | None:
    if b"\\data\\" in data[:4096]:
        return "an ARPA n-gram model"
    # A text in UTF-8 has no control characters except white space. Its end may be cut inside a character.
    if any(byte < 32 and byte not in b"\t\n\r\f" for byte in data):
        return None
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return None
    if data.lstrip()[:1] not in (b"{", b"["):
        return "a text"
    return "a tokenizer.json" if b'"added_tokens"' in data and b'"pre_tokenizer"' in data else "JSON text"
