"""Valid samples for each target, made by the program, and dictionaries for the fuzzer."""

from __future__ import annotations

import bz2
import gzip
import importlib.util
import json
import lzma
from collections.abc import Callable, Iterable

import numpy as np

from keraslm.bulk import records
from keraslm.config import TOKENIZERS, Config, DataConfig
from keraslm.config.shapes import weight_shapes
from keraslm.runs.checkpoint import STATE, VARIABLES
from keraslm.runs.folder import FORMAT_VERSION
from keraslm.text.vocabulary import train_tokenizer
from tests.fuzz.targets import WEIGHTS, WORDS, checkpoint_files
from tests.support import fake_model, toy

_TEXT = "the cat sat\n\n a dog\u00e9\r\n\u65e5\u672c <unk> \u2028\n".encode()
_SLF = (
    b"VERSION=1.0\nUTTERANCE=u1 lmscale=2 wdpenalty=-1 base=10\nN=4 L=4 # sizes\nI=0 t=0\nI=1 t=0.1 W=the\nI=2\n"
    b'I=3\nJ=0 S=0 E=1 a=-1 l=-2\nJ=1 S=1 E=2 W="a \\"cat" a=-1\nJ=2 S=1 E=2 W=\\303\\251 r=-1\nJ=3 S=2 E=3 W=!NULL\n'
)
_MARK = {"bytes": 1, "changed": 2, "sha256": "a" * 64}


def run_header(**changes: object) -> dict[str, object]:
    """The content of `config.json`, for the tokenizer of `fake_model`."""
    return {"format_version": FORMAT_VERSION, "vocab_size": fake_model.V, **Config().to_dict(), **changes}


def tensors() -> dict[str, np.ndarray]:
    return {name: np.ones(shape, np.float32) for name, shape in weight_shapes(WEIGHTS, WORDS).items()}


def _configs() -> Iterable[bytes]:
    for config in (Config(), Config().replace(softmax="adaptive", cutoffs=(2, 4), units=3, context="sentence")):
        yield json.dumps(run_header(**config.to_dict())).encode()


def _weights() -> Iterable[bytes]:
    from safetensors.numpy import save

    yield save(tensors())
    for dtype in (np.float64, np.float16, np.int8):
        yield save({name: value.astype(dtype) for name, value in tensors().items()})


def _tokenizers() -> Iterable[bytes]:
    for kind in TOKENIZERS:
        if kind != "byte":  # as large as BPE, which has bytes too
            config = DataConfig(tokenizer=kind, vocab_size=260 if kind == "bpe" else 30)
            yield json.dumps(json.loads(train_tokenizer(["the cat sat", "the dog"] * 9, config).to_json())).encode()


def _tables() -> Iterable[bytes]:
    yield b"<eps> 0\n<unk> 1\n</s> 2\nthe 3\ncat 4\n"
    yield "<unk> 0\n\u2581 1\na 2\nb 3\n</s> 4\n".encode()
    yield from _tokenizers()


def sentencepiece_model(
    kind: int = 1, score: float = -1.0, charsmap: bytes = b"", longest: int = 2, **options: bool
) -> bytes:
    """A sentencepiece model of seven pieces, the last of them with `longest` characters."""
    from sentencepiece.sentencepiece_model_pb2 import ModelProto

    proto = ModelProto()
    for number, piece in enumerate(["<unk>", "<s>", "</s>", "\u2581", "a", "b", "a" + "b" * (longest - 1)]):
        proto.pieces.add(piece=piece, score=score * number, type=(2, 3, 3)[number] if number < 3 else 1)
    proto.trainer_spec.model_type = kind
    proto.normalizer_spec.precompiled_charsmap = charsmap
    for name, value in options.items():
        setattr(proto.normalizer_spec, name, value)
    return proto.SerializeToString()


def _sentencepieces() -> Iterable[bytes]:
    if importlib.util.find_spec("sentencepiece"):
        for kind in (1, 2):
            yield sentencepiece_model(kind)
            yield sentencepiece_model(kind, remove_extra_whitespaces=False, add_dummy_prefix=False)
            yield sentencepiece_model(kind, charsmap=b"\x04\x00\x00\x00\x00\x00\x00\x00a\x00")


def _texts() -> Iterable[bytes]:
    yield from (_TEXT, b"\xef\xbb\xbf" + _TEXT, b"\xff\xfe\x00the")
    yield from (pack(_TEXT) for pack in (gzip.compress, bz2.compress, lzma.compress))
    if importlib.util.find_spec("zstandard"):
        import zstandard

        yield zstandard.compress(_TEXT)


def _json_lists() -> Iterable[bytes]:
    one = {"utterance": "u1", "text": "the cat", "scores": {"acoustic": -12.5}}
    nested = {
        "utterance": "u2",
        "hypotheses": [{"text": "a", "scores": {"acoustic": 1}}, {"text": "\u00e9", "scores": {"acoustic": 2}}],
        "x": [1],
    }
    yield "".join(json.dumps(row) + "\n" for row in (one, nested)).encode()
    yield (json.dumps(nested, ensure_ascii=False) + "\n").encode()


def _pairs() -> Iterable[bytes]:
    row = {"sentence_good": "a b", "sentence_bad": "b a", "field": "syntax", "UID": "u", "pairID": "7"}
    yield (json.dumps(row) + "\n").encode() * 2
    yield b"sentence_good\tsentence_bad\nthe cat\tcat the\n"


def _pairs_after_prefixes(blimp: str, *names: str) -> Iterable[bytes]:
    row = {blimp + name: text for name, text in zip(names, ("the", "cat", "cats"), strict=True)}
    yield (json.dumps({**row, blimp + "method": True, "UID": "u"}) + "\n").encode()
    yield ("\t".join(names) + "\nthe\tcat\tcats\n").encode()


def _metadata() -> Iterable[bytes]:
    yield b"\x00".join(part.encode() for pair in fake_model.model_info().to_metadata().items() for part in pair)
    for name in ("vocab_size", "hidden_size", "valid_perplexity", "softmax", "config"):
        yield name.encode() + b"\x00" + fake_model.model_info().to_metadata()[name].encode()


def _record() -> Iterable[bytes]:
    counts = {"lines": 1, "tokens": 2, "replaced": 0}
    values = {"format_version": records.FORMAT_VERSION, "settings": {"model": "a"}, "text": _MARK, "output": _MARK}
    yield json.dumps(values | counts).encode()


SEEDS: dict[str, Callable[[], Iterable[bytes]]] = {
    "config": _configs,
    "metrics": lambda: [
        b'{"epoch": 1, "loss": 2.5, "perplexity": 7.0, "val_perplexity": 8}\n{"epoch": 1, "window": 3}\n'
    ],
    "weights": _weights,
    "checkpoint_state": lambda: [checkpoint_files()[STATE]],
    "checkpoint_variables": lambda: [checkpoint_files()[VARIABLES]],
    "tokenizer": _tokenizers,
    "tokenizer_file": _tables,
    "sentencepiece": _sentencepieces,
    "round_trip": lambda: [_TEXT],
    "text": _texts,
    "score": _texts,
    "table_csv": lambda: [b'id,text\n1,"the ""cat"",\nsat"\n2,\n', b"id;text\r\n1;the\r\n"],
    "table_raw": lambda: [b'text\tid\nthe "cat\t1\n\t2\n'],
    "table_jsonl": lambda: [b'{"id": 1.50, "text": "the\\ncat"}\n{"text": null}\n{"text": "a", "x": [1, {}]}\n'],
    "lattice_slf": lambda: [_SLF],
    "lattice_kaldi": lambda: [b"u1\n0 1 the 1,2.5,3_4\n1 2 cat 1,2,\n1 1,0,\n2\n\nu2\n0 1 3 the 1,2\n1 2 0 <eps>\n2\n"],
    "nbest_tsv": lambda: [b"utterance\tacoustic\ttext\nu1\t-1.5\tthe cat\nu1\t2e3\t\nu2\t0\ta\n", b"u1\tthe cat\n"],
    "nbest_kaldi": lambda: [b"u1-1 the cat\nu1-2\nu-2-1\ta\n"],
    "nbest_moses": lambda: [
        b"0 ||| the cat ||| LM0= -2 T0= 1 2 ||| -1.5 ||| 0-0\n0 ||| ||| LM0= 0 ||| 2\n1 ||| a ||| ||| 1\n"
    ],
    "nbest_jsonl": _json_lists,
    "arpa": lambda: [toy.TOY.encode(), toy.TOY.replace("\n", "\r\n").replace("<unk>", "<UNK>").encode()],
    "references": lambda: [b"u1 the cat\nu2\nu3\ta b\n"],
    "pairs_sentence": _pairs,
    "pairs_one-prefix": lambda: _pairs_after_prefixes("one_prefix_", "prefix", "word_good", "word_bad"),
    "pairs_two-prefix": lambda: _pairs_after_prefixes("two_prefix_", "prefix_good", "prefix_bad", "word"),
    "metadata": _metadata,
    "record": _record,
}

# Words that random changes of bytes rarely produce.
WORDS_OF_JSON = ("NaN", "Infinity", "1e999", "-0", "null", "true", "[]", "{}", '""', "\\ud800", "\\u0000", "9" * 30)
DTYPES = ("BF16", "F8_E4M3", "F8_E5M2", "F4", "C64", "F16", "I8", "U64", "BOOL", "data_offsets", "__metadata__")


def dictionary(name: str) -> list[bytes]:
    """Words for a target: the strings in its samples, and unusual JSON."""
    words = {word.encode() for word in (*WORDS_OF_JSON, *(DTYPES if name == "weights" else ()))}
    for sample in SEEDS[name]():
        words |= {part for part in sample.split(b'"') if part.isalnum() and 1 < len(part) < 30}
    return sorted(words)[:300]
