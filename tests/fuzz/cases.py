"""Inputs found by fuzzing, reduced, and what happened before each fix.

More of them, through the commands: tests/cli/test_run_faults.py.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from typing import Any

from keraslm.config import DataConfig
from keraslm.text.vocabulary import train_tokenizer
from tests.fuzz import seeds

REFUSED, READ = True, False


@dataclass(frozen=True)
class Case:
    target: str
    data: bytes
    refused: bool
    happened: str


def _config(section: str, **changes: Any) -> bytes:
    header: Any = seeds.run_header()
    header[section] |= changes
    return json.dumps(header).encode()


def _tokenizer(kind: str, *path: Any, to: Any) -> bytes:
    config = DataConfig(tokenizer=kind, vocab_size=260 if kind == "bpe" else 30)
    part = changed = json.loads(train_tokenizer(["the cat sat", "the dog"] * 9, config).to_json())
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = to
    return json.dumps(changed).encode()


def _weights(dtype: str, size: int) -> bytes:
    header = json.dumps({"a": {"dtype": dtype, "shape": [8], "data_offsets": [0, 8 * size]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(8 * size)


_ADAPTIVE = {"softmax": "adaptive", "cutoffs": (2,)}
_PADDING = {
    "strategy": {"Fixed": 8},
    "direction": "Right",
    "pad_to_multiple_of": None,
    "pad_id": 0,
    "pad_type_id": 0,
    "pad_token": "x",
}
_REMOVED = {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Removed", "invert": False}


def _of_sentencepiece() -> list[Case]:
    if not importlib.util.find_spec("sentencepiece"):
        return []
    return [
        Case("sentencepiece", seeds.sentencepiece_model(charsmap=b"\x01"), REFUSED, "a plain Exception of the library"),
        Case("sentencepiece", seeds.sentencepiece_model(2, longest=2000), REFUSED, "time by the square of its length"),
    ]


def cases() -> list[Case]:
    row = b'{"utterance": "u", "text": "a", '
    return [
        # config.json
        Case("config", _config("model", **_ADAPTIVE | {"cutoffs": (1,) * 5000}), REFUSED, "ValueError of int()"),
        Case("config", _config("model", **_ADAPTIVE | {"cutoffs": (2, 99)}), REFUSED, "weights of negative size"),
        Case("config", _config("data", train=[["x"] * 10**5]), REFUSED, "a message of 600 kB"),
        # weights.safetensors
        Case("weights", _weights("BF16", 2), REFUSED, "TypeError: NumPy has no bfloat16"),
        Case("weights", _weights("F8_E4M3", 1), REFUSED, "AttributeError: NumPy has no float8"),
        # tokenizer.json
        Case("tokenizer", _tokenizer("bpe", "model", "dropout", to=0.5), REFUSED, "a different score each time"),
        Case("tokenizer", _tokenizer("word", "padding", to=_PADDING), REFUSED, "scored tokens that were not there"),
        Case("tokenizer", _tokenizer("unigram", "model", "unk_id", to=None), REFUSED, "Exception while scoring"),
        Case("tokenizer", _tokenizer("char", "pre_tokenizer", to=_REMOVED), READ, "other ids in training than scored"),
        Case(
            "tokenizer",
            _tokenizer("word", "normalizer", to={"type": "Precompiled", "precompiled_charsmap": "BAAAAP////9h"}),
            REFUSED,
            "PanicException, which is no Exception: a traceback",
        ),
        # tokens.txt
        Case(
            "tokenizer_file",
            _tokenizer("word", "model", "vocab", "cat", to=2**31),
            REFUSED,
            "8 GiB and 40 s: the library allocates memory for the largest id",
        ),
        Case("tokenizer_file", b"a 0\nb %s\n" % (b"1" * 5000), REFUSED, "ValueError of int()"),
        *_of_sentencepiece(),
        # Texts
        Case("text", b"\xef\xbb\xbf", READ, "one line when scored, none when trained on"),
        # n-best lists and pairs
        Case("nbest_jsonl", row + b'"x": NaN}', REFUSED, "a written row that is no JSON"),
        Case("nbest_jsonl", row + b'"x": 1e999}', REFUSED, "a written row that is no JSON"),
        Case(
            "pairs_sentence",
            b'{"sentence_good": "a", "sentence_bad": "b", "field": "x\\ty", "UID": "u\\nv"}',
            READ,
            "a table with an extra cell and an extra row",
        ),
        # Metadata of a model file
        Case("metadata", b"format_version\x002\n\x1b[31m3", REFUSED, "a message of two lines, in red"),
        Case("metadata", b"softmax\x00adaptive", REFUSED, "IndexError: the configuration has no clusters"),
        # Records of bulk scoring
        Case(
            "record",
            next(iter(seeds.SEEDS["record"]())).replace(b'{"model": "a"}', b"3"),
            READ,
            "AttributeError: settings is a number",
        ),
    ]
