"""Recognise files that are not text, or text that is not UTF-8, by their first bytes."""

from __future__ import annotations

import codecs
import re

_SAVE = "Save it as plain text in UTF-8."
_EXTRACT = "Write its sentences to a text file, one per line."
_UNPACK = "Unpack it, and name the texts in it."
_NO_TEXT = "Give the name of a text."

# What a file begins with, what it is, and what to do if it was given as a text.
_FORMATS: tuple[tuple[bytes, str, str], ...] = (
    (rb"\x1f\x8b", "gzip data", _UNPACK),
    (rb"BZh[1-9](1AY|\x17rE)", "bzip2 data", _UNPACK),
    (rb"\xfd7zXZ\x00", "xz data", _UNPACK),
    (rb"\x28\xb5\x2f\xfd", "zstandard data", _UNPACK),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (rb"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (rb"[\s\S]{257}ustar[\x00 ]", "a tar archive", _UNPACK),
    (rb"%PDF-[12]\.", "a PDF", _SAVE),
    (rb"\{\\rtf1", "an RTF document", _SAVE),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document (.doc, .xls, .ppt)", _SAVE),
    (rb"PAR1\x15", "a Parquet file", _EXTRACT),
    (rb"ARROW1\x00\x00", "an Arrow file", _EXTRACT),
    (rb"Obj\x01", "an Avro file", _EXTRACT),
    (rb"SQLite format 3\x00", "a SQLite database", _EXTRACT),
    (rb"version https://git-lfs\.github\.com/spec/v1", "a Git LFS pointer", "Fetch the file: git lfs pull."),
    (rb"\x89HDF\r\n\x1a\n", "an HDF5 file (.h5, Keras weights)", _NO_TEXT),
    (rb"mmap lm http://kheafield\.com/code", "a KenLM binary", _NO_TEXT),
    (rb"GGUF[\x00-\x1f]\x00\x00\x00", "a GGUF model", _NO_TEXT),
    (rb"\x93NUMPY", "a NumPy array (.npy)", _EXTRACT),
    (rb"\x80[\x00-\x05]", "a pickle", _EXTRACT),
    (rb"[\s\S]{4}TFL3", "a TensorFlow Lite model", _NO_TEXT),
    (rb"[\s\S]{4}ORTM", "an ORT-format model", _NO_TEXT),
    (rb"[\s\S]{4}\x00{4}\{", "a safetensors file", _NO_TEXT),
    (rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a|RIFF[\s\S]{4}WEBP|II\*\x00|MM\x00\*", "a picture", _NO_TEXT),
    (rb"RIFF[\s\S]{4}WAVE|OggS\x00|fLaC\x00|ID3[\x02-\x04]|\xff[\xfb\xf3\xf2]", "a sound recording", _NO_TEXT),
    (rb"\x00\x00[\s\S]{2}ftyp|\x1a\x45\xdf\xa3", "a video", _NO_TEXT),
    (rb"\x7fELF|MZ[\x00-\x08]|MZ[\x80-\xff]\x00|\xca\xfe\xba\xbe|[\xcf\xce]\xfa\xed\xfe", "a program", _NO_TEXT),
    (rb"\x08[\x01-\x1f][\x12\x1a\x22\x28\x32\x3a\x42\x72]", "an ONNX model", _NO_TEXT),
)
_ZIPPED: tuple[tuple[bytes, str, str], ...] = (  # the names in a zip archive
    (b"data.pkl", "a PyTorch checkpoint (.pt)", _NO_TEXT),
    (b"metadata.json", "a Keras archive (.keras)", _NO_TEXT),
    (b"model.weights.h5", "a Keras archive (.keras)", _NO_TEXT),
    (b"word/", "a Word document (.docx)", _SAVE),
    (b"xl/", "an Excel table (.xlsx)", _SAVE),
    (b"ppt/", "a PowerPoint document (.pptx)", _SAVE),
    (b"[Content_Types].xml", "an Office document (.docx, .xlsx, .pptx)", _SAVE),
    (b"vnd.oasis.opendocument", "an OpenDocument file (.odt, .ods, .odp)", _SAVE),
    (b"application/epub", "an EPUB book", _SAVE),
    (b".npy", "a NumPy archive (.npz)", _EXTRACT),
    (b"", "a zip archive", _UNPACK),
)
_MARKS = {  # byte order marks; that of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_CONTROLS = bytes({*range(32), 127} - {*b"\t\n\v\f\r\x1b"})


def known_format(head: bytes) -> tuple[str, str] | None:
    """The name of the binary format that begins with `head`, and what to do if it was given as a text.

    Example:
        >>> known_format(b"%PDF-1.7")
        ('a PDF', 'Save it as plain text in UTF-8.')
    """
    if re.match(rb"PK(\x03\x04|\x05\x06|\x07\x08)", head):
        return next((name, remedy) for part, name, remedy in _ZIPPED if part in head)
    return next((found[1:] for found in _FORMATS if re.match(found[0], head)), None)


def wide_encoding(head: bytes) -> str | None:
    """The name of UTF-16 or UTF-32 if a text begins with its byte order mark, or has zeros where its characters do.

    Example:
        >>> wide_encoding("the cat".encode("utf-16-le")), wide_encoding(b"the cat")
        ('utf-16-le', None)
    """
    for mark, name in _MARKS.items():
        if head.startswith(mark):
            return name
    quarter = len(head) // 4
    zeros = [head[place : 4 * quarter : 4].count(0) for place in range(4)]
    for name, order in (("utf-32-le", zeros), ("utf-32-be", zeros[::-1])):
        if quarter and order[3] == quarter and order[2] > 0.9 * quarter and order[0] == 0:
            return name
    even, odd = zeros[0] + zeros[2], zeros[1] + zeros[3]
    # Most characters of Western text have a zero. In Chinese only blanks and line ends do, but the rest is not UTF-8.
    least = 0.8 * quarter if is_utf8(head) else max(0.01 * quarter, 4)
    if min(even, odd) == 0 and max(even, odd) > least:
        return "utf-16-le" if odd else "utf-16-be"
    return None


def is_binary(head: bytes) -> bool:
    """Whether data are neither UTF-8 nor, having many control characters, text in another encoding."""
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return len(head) >= 32 and controls > 0.05 * len(head) and not is_utf8(head)


def is_utf8(head: bytes) -> bool:
    """Whether data are UTF-8; their end may be cut inside a character."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True
