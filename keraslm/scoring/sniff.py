"""Recognise a file that is not a model by its first bytes, for the error message."""

from __future__ import annotations

from keraslm.text.sniff import is_utf8, known_format, wide_encoding

_ONNX = "an ONNX model"


def is_like_onnx(data: bytes) -> bool:
    """Whether a file begins as an ONNX model does."""
    return (known_format(data) or ("",))[0] == _ONNX


def looks_like(data: bytes) -> str | None:
    """Name the format of a file from its first kilobytes; None if it may be ONNX."""
    if not data:
        return "an empty file"
    if found := known_format(data):
        return None if found[0] == _ONNX else found[0]
    return _text_kind(data)


def _text_kind(data: bytes) -> str | None:
    if b"\\data\\" in data[:4096]:
        return "an ARPA n-gram model"
    # A text in UTF-8 has no control characters except white space.
    if any(byte < 32 and byte not in b"\t\n\r\f" for byte in data) or not is_utf8(data):
        return f"a text in {encoding.upper()}" if (encoding := wide_encoding(data)) else None
    if data.lstrip()[:1] not in (b"{", b"["):
        return "a text"
    return "a tokenizer.json" if b'"added_tokens"' in data and b'"pre_tokenizer"' in data else "JSON text"
