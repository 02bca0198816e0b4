"""What a file looks like by its first bytes, for the message when it is not a model."""

from __future__ import annotations

import codecs

_MAGIC = (
    (b"\x1f\x8b", "gzip data"),
    (b"BZh", "bzip2 data"),
    (b"\xfd7zXZ\x00", "xz data"),
    (b"\x28\xb5\x2f\xfd", "zstandard data"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (.h5, Keras weights)"),
    (b"mmap lm http://kheafield.com/code", "a KenLM binary"),
    (b"%PDF", "a PDF"),
    (b"GGUF", "a GGUF model"),
    (b"ORTM", "an ORT-format model"),
)


def looks_like(data: bytes) -> str | None:
    """Name a format that is certainly not ONNX; None where it may be.

    Args:
        data: the first kilobytes of a file.

    Example:
        >>> looks_like(b"PK...archive/data.pkl...")
        'a PyTorch checkpoint (.pt)'
    """
    if not data:
        return "an empty file"
    if data.startswith(b"PK"):
        return _zip_kind(data)
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:1] == b"\x80" and data[1:2] <= b"\x05":
        return "a pickle"
    if data[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    if len(data) > 9 and data[8:9] == b"{" and int.from_bytes(data[:8], "little") < 1 << 32:
        return "a safetensors file"
    return _text_kind(data)


def _zip_kind(data: bytes) -> str:
    if b"data.pkl" in data:
        return "a PyTorch checkpoint (.pt)"
    if b"metadata.json" in data or b"model.weights.h5" in data:
        return "a Keras archive (.keras)"
    return "a zip archive"


def _text_kind(data: bytes) -> str | None:
    if b"\\data\\" in data[:4096]:
        return "an ARPA n-gram model"
    # A UTF-8 text has no control characters but white space. Its end may be cut inside a character.
    if any(byte < 32 and byte not in b"\t\n\r\f" for byte in data):
        return None
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return None
    if data.lstrip()[:1] not in (b"{", b"["):
        return "a text"
    return "a tokenizer.json" if b'"added_tokens"' in data and b'"pre_tokenizer"' in data else "JSON text"
