"""What tells a text from another."""

import hashlib
import struct

import numpy as np
import pytest

from keraslm.text import fingerprint as module
from keraslm.text.fingerprint import described, fingerprint


@pytest.mark.parametrize("dtype", ["uint16", "int32", ">i8"])
@pytest.mark.parametrize("piece", [1, 3, 100])
def test_it_is_the_digest_of_the_tokens_whatever_their_type_and_the_pieces(monkeypatch, dtype, piece):
    monkeypatch.setattr(module, "_CHUNK", piece)
    ids = [5, 0, 65535, 7, 7, 258, 1]
    digest = hashlib.sha256(struct.pack("<7i", *ids)).hexdigest()
    assert fingerprint(np.array(ids, dtype)) == {"tokens": 7, "sha256": digest}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"tokens": 73760, "sha256": "0123456789abcdef"}, "73,760 tokens with SHA-256 0123456789ab"),
        (None, "none"),
        ([], "none"),
        ({}, "None tokens with SHA-256 None"),
        ({"tokens": 2**70, "sha256": 5}, f"{2**70} tokens with SHA-256 5"),
        ({"tokens": "many", "sha256": "x"}, "'many' tokens with SHA-256 x"),
    ],
)
def test_a_fingerprint_in_words(found, words):
    assert described(found) == words
