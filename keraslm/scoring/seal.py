"""The checksum of a model file: its last metadata entry, over all bytes before it.

A protocol buffer may be extended by appending an entry of a repeated field, so every ONNX program can read the file.
"""

from __future__ import annotations

import hashlib

from keraslm.errors import ModelFileError

KEY = "file_sha256"

_HEX = 2 * hashlib.sha256().digest_size
# ModelProto.metadata_props (14) with StringStringEntryProto.key (1) and .value (2). Lengths below 128 take one byte.
_ENTRY = b"\x0a%c%s\x12%c" % (len(KEY), KEY.encode(), _HEX)
_HEAD = b"\x72%c" % (len(_ENTRY) + _HEX) + _ENTRY
SIZE = len(_HEAD) + _HEX


def sealed(data: bytes) -> bytes:
    """A serialised model with its seal; an existing seal is replaced."""
    body = data[:-SIZE] if has_seal(data) else data
    return body + _HEAD + hashlib.sha256(body).hexdigest().encode()


def has_seal(data: bytes) -> bool:
    """Whether the file ends with a seal, intact or not."""
    return data[-SIZE:-_HEX] == _HEAD


def check_seal(data: bytes, where: str) -> str:
    """SHA-256 of a file with a seal, hexadecimal; a `ModelFileError` that names `where` if the file is damaged."""
    view = memoryview(data)
    digest = hashlib.sha256(view[:-SIZE])
    if view[-_HEX:] != digest.hexdigest().encode():
        raise ModelFileError(
            f"{where}: damaged: its checksum does not match. Copy the file again, "
            "or export the run again: keraslm export"
        )
    digest.update(view[-SIZE:])
    return digest.hexdigest()
