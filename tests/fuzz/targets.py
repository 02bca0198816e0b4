"""Everything that keraslm parses, as functions of bytes.

A target either raises a `KeraslmError` with a message of one line, or parses the bytes and checks the result with
assertions. Anything else is a find: a different exception, a crash, a hang, unbounded memory.

To add a target, write a function here, add valid samples to `seeds.py`, and add its name to `TARGETS`.
"""

from __future__ import annotations

import codecs
import hashlib
import itertools
import json
import math
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np

from keraslm.bulk.records import Record
from keraslm.config import Config, DataConfig, ModelConfig
from keraslm.config.shapes import weight_shapes
from keraslm.errors import LONGEST, KeraslmError
from keraslm.lattices.kaldi import kaldi_rows
from keraslm.lattices.rescore import read_lattices, rescore_lattices
from keraslm.lattices.slf import slf_rows
from keraslm.ngram.opening import load_ngram
from keraslm.report.options import ScoreOptions
from keraslm.report.table_input import TableInput
from keraslm.report.writer import write_records, write_scores
from keraslm.rescoring.formats.kaldi import read_keyed
from keraslm.rescoring.nbest import best_row, read_nbest, scored_rows
from keraslm.rescoring.pair_files import METHODS, PairReader
from keraslm.runs.checkpoint import METRICS, STATE, SUMS, VARIABLES, read_checkpoint
from keraslm.runs.create import update_config
from keraslm.runs.resume import PreviousRun
from keraslm.runs.run import Run
from keraslm.runs.weights import read_weights
from keraslm.scoring.scorer import load
from keraslm.scoring.seal import sealed
from keraslm.text.files import TextFile
from keraslm.text.importing import import_tokenizer
from keraslm.text.records import Records
from keraslm.text.tokenizer import Tokenizer
from keraslm.text.vocabulary import train_tokenizer
from tests.support import fake_model
from tests.support.program import strict_json
from tests.support.words import encode_text

Target = Callable[[bytes], None]

_FOLDER = tempfile.TemporaryDirectory(prefix="keraslm-fuzz-")
FOLDER = Path(_FOLDER.name)
WEIGHTS = ModelConfig(num_layers=1, units=2)
WORDS = 5
PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstandard
LINES = ["the cat sat", "", " a  dog\u00e9 \u65e5\u672c ", "x" * 40 + "\t\x00 1."]


def is_refused(target: Target, data: bytes) -> bool:
    """Whether a target refuses the bytes. Raises for a find."""
    try:
        target(data)
    except KeraslmError as error:
        message = str(error)
        assert message.strip() and "\n" not in message and len(message) <= LONGEST, message
        assert error.exit_code in (1, 2)
        return True
    return False


def _file(name: str, data: bytes) -> Path:
    path = FOLDER / name
    path.write_bytes(data)
    return path


@cache
def _run_folder() -> Path:
    """A run whose files the targets replace."""
    run = Run(FOLDER / "run", Config(), fake_model.TOKENIZER)
    run.path.mkdir()
    (run.path / "tokenizer.json").write_text(run.tokenizer.to_json(), encoding="utf-8")
    update_config(run, run.config, "jax")
    return run.path


# The run folder


def config(data: bytes) -> None:
    """`config.json`: the configuration can be written and read again, and gives the sizes of all weights."""
    (_run_folder() / "config.json").write_bytes(data)
    run = Run.open(_run_folder())
    assert Config.from_dict(json.loads(json.dumps(run.config.to_dict()))) == run.config
    for shape in weight_shapes(run.config.model, run.tokenizer.vocab_size).values():
        assert all(size >= 1 for size in shape) and len(str(math.prod(shape))) < 100


def metrics(data: bytes) -> None:
    """`metrics.jsonl`: the values that are shown and exported are finite numbers."""
    path = _run_folder()
    (path / "metrics.jsonl").write_bytes(data)
    for row in Run(path, Config(), fake_model.TOKENIZER).epochs():
        assert math.isfinite(row["perplexity"]) and math.isfinite(float(row.get("val_perplexity", 0)))


def weights(data: bytes) -> None:
    """`weights.safetensors`: finite tensors with the shapes of the configuration."""
    found = read_weights(_file("weights.safetensors", data), weight_shapes(WEIGHTS, WORDS))
    assert {name: value.shape for name, value in found.items()} == weight_shapes(WEIGHTS, WORDS)
    assert all(value.dtype == np.float32 and np.isfinite(value).all() for value in found.values())


def checkpoint(name: str, data: bytes) -> None:
    """A file of a checkpoint with valid checksums."""
    folder = FOLDER / "0001-00000003"
    folder.mkdir(exist_ok=True)
    files = checkpoint_files() | {name: data}
    sums = [f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)]
    for name, content in {**files, SUMS: "".join(sums).encode()}.items():
        (folder / name).write_bytes(content)
    found = read_checkpoint(folder)
    previous = PreviousRun(Run(_run_folder(), Config(), fake_model.TOKENIZER), found)
    assert previous.resumed_config(Config()) == Config()
    assert all(value.dtype.kind in "fiub" for value in found.variables.values())


def checkpoint_files() -> dict[str, bytes]:
    """The files of a complete checkpoint, without their checksums."""
    from safetensors.numpy import save

    state = {
        "format_version": 1,
        "epoch": 1,
        "window": 3,
        "config": Config().to_dict(),
        "texts": {"train": {"tokens": 3, "sha256": "a"}},
        "surroundings": {"backend": "jax", "jax": "1"},
        "log": {"seconds": 1.5, "seen": 0, "sum": 0.0},
    }
    variables = {"model/lstm_0/h": np.ones((2, 2), np.float32), "optimizer/iteration": np.array(3, np.int64)}
    rows = b'{"epoch": 1, "loss": 2.5, "perplexity": 7.0}\n'
    return {STATE: json.dumps(state).encode(), VARIABLES: save(variables), METRICS: rows}


# Tokenizers


def tokenizer(data: bytes) -> None:
    """`tokenizer.json` of a run or model file."""
    _check_tokenizer(Tokenizer.from_json(data.decode("utf-8", "surrogateescape")))


def imported_tokenizer(name: str, data: bytes) -> None:
    """An imported `tokenizer.json`, `tokens.txt` or sentencepiece `.model`."""
    _check_tokenizer(import_tokenizer(DataConfig(tokenizer=str(_file(name, data)))))


def _check_tokenizer(found: Tokenizer) -> None:
    """Ids are in the vocabulary and reproducible, and offsets are inside the line."""
    assert 0 <= found.eos_id < found.vocab_size and -1 <= found.unk_id < found.vocab_size
    again = Tokenizer.from_json(found.to_json())
    assert (again.eos_id, again.unk_id) == (found.eos_id, found.unk_id)
    encoded = found.encode_lines(LINES)
    for line, ids in zip(LINES, encoded, strict=True):
        assert ids[-1] == found.eos_id and ids.min() >= 0 and ids.max() < found.vocab_size
        places = found.offsets(line)
        assert len(places) == len(ids) and places.min() >= 0 and places.max() <= len(line)
        assert len(found.tokens(ids)) == len(ids)
        assert isinstance(found.decode(ids), str)
    for one, two in zip(encoded, again.encode_lines(LINES), strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(encode_text(found, LINES), np.concatenate(encoded))


@cache
def _trained(kind: str) -> Tokenizer:
    return train_tokenizer(LINES * 3, DataConfig(tokenizer=kind, vocab_size=270))


def round_trip(data: bytes) -> None:
    """Any text through our tokenizers: all give the same ids by line and by text; bytes and BPE restore the text."""
    lines = data.decode("utf-8", "replace").replace("\r", " ").split("\n")
    for kind in ("byte", "bpe", "word", "char"):
        found = _trained(kind)
        encoded = found.encode_lines(lines)
        np.testing.assert_array_equal(encode_text(found, lines), np.concatenate(encoded))
        if kind in ("byte", "bpe"):
            assert [found.decode(ids[:-1]) for ids in encoded] == lines


# Texts


def text(data: bytes) -> None:
    """A text, plain or compressed: the lines that `wc -l` counts and an unended one; blocks hold the same text."""
    path = _file("text", data)
    whole = b"".join(block.data for block in TextFile(path).blocks())
    assert not whole or whole.endswith(b"\n")
    if not data.startswith(PACKED):
        data = data.removeprefix(codecs.BOM_UTF8)
        data = data if b"\n" in data else data.replace(b"\r", b"\n")
        assert whole.removesuffix(b"\n") == data.removesuffix(b"\n")
    expected = [line.removesuffix(b"\r").replace(b"\r", b" ") for line in whole.split(b"\n")[:-1]]
    for errors in ("replace", "strict"):
        assert list(TextFile(path, errors)) == [line.decode("utf-8", "replace") for line in expected]


@cache
def _scorer():
    return load(fake_model.write(FOLDER / "fake.onnx", fake_model.BY_HISTORY), "cpu", threads=1)


def score(data: bytes) -> None:
    """A scored text: finite numbers, and one row of strict JSON per token or line."""
    lines = list(TextFile(_file("text", data), "replace"))
    scores = _scorer().logprobs(lines)
    assert len(scores) == len(lines) and all(np.isfinite(line).all() and (line <= 0).all() for line in scores)
    for level, count in (("token", sum(map(len, scores))), ("sentence", len(lines))):
        path = FOLDER / "rows"
        with path.open("w", encoding="utf-8", newline="\n") as out:
            write_scores(_scorer(), iter([*lines, None]), ScoreOptions(level=level, format="jsonl"), out, False)
        rows = path.read_text(encoding="utf-8").split("\n")
        assert rows.pop() == "" and len(rows) == count
        for row in rows:
            strict_json(row)


def table(format: str, data: bytes) -> None:
    """A table with scores: what was read comes back, with one row per row."""
    options = ScoreOptions(level="sentence", format=format, table=TableInput(format, "text", label="new"))
    records = list(Records([TextFile(_file("table", data))], format))[:200]
    path = FOLDER / "rows"
    with path.open("w", encoding="utf-8", newline="\n") as out:
        write_records(_scorer(), [TextFile(FOLDER / "table")], options, out)
    again = list(Records([TextFile(path)], format))[:200]
    assert len(again) == len(records)
    for before, after in zip(records, again, strict=True):
        assert list(after.names)[: len(before.names)] == list(before.names)
        assert list(after.values)[: len(before.values)] == list(before.values)


def nbest(format: str, data: bytes) -> None:
    """n-best lists: each row is read once, with finite scores, and is written in its format."""
    for utterance in itertools.islice(read_nbest(TextFile(_file("lists", data)), format), 2000):
        assert utterance and all(math.isfinite(s) for hypothesis in utterance for s in hypothesis.scores)
        rows = list(scored_rows(utterance, [-1.0] * len(utterance), format, "new"))
        rows += [best_row(hypothesis, -1.0, format) for hypothesis in utterance]
        assert all("\n" not in row for row in rows) and (format == "jsonl" or len(rows) == 2 * len(utterance))
        for row in rows if format == "jsonl" else ():
            strict_json(row)
            row.encode()


def lattices(format: str, data: bytes) -> None:
    """Lattices: the expanded ones are written and read again."""
    read = itertools.islice(read_lattices([TextFile(_file("lattice", data))], format), 20)
    for found in rescore_lattices(_scorer(), read, fillers=["cat"], mix=0.5, max_hypotheses=5):
        assert len(found.nbest(5)) >= 1 and not any("\n" in word for word in found.lattice.words)
        content = "".join(f"{row}\n" for row in (slf_rows if format == "slf" else kaldi_rows)(found)).encode()
        (again,) = read_lattices([TextFile(_file("written", content))], format)
        assert len(again.words) >= len(found.lattice.words) and again.utterance == found.utterance


def references(data: bytes) -> None:
    """References, one row per utterance."""
    found = read_keyed(TextFile(_file("references", data)))
    assert all(name and "\n" not in text for name, text in found.items())


def pairs(method: str, data: bytes) -> None:
    """Minimal pairs: names fit into the cells of a table."""
    for pair in PairReader([TextFile(_file("pairs", data))], method):
        for cell in (pair.field, pair.term, pair.uid, pair.number):
            assert isinstance(cell, str) and "\t" not in cell and "\n" not in cell
        f"{pair.good}{pair.bad}{pair.prefix_good}{pair.prefix_bad}".encode()


# Model files


def metadata(data: bytes) -> None:
    """Metadata of a sealed model file: keys and values separated by NUL, replacing those of a valid model."""
    parts = data.split(b"\x00")
    pairs = list(zip(parts[::2], parts[1::2], strict=False))
    given = {key for key, _ in pairs}
    kept = [(key, value) for key, value in _entries() if key not in given]
    content = sealed(_without_metadata() + b"".join(_entry(key, value) for key, value in kept + pairs))
    scorer = load(_file("model.onnx", content), "cpu", threads=1)
    scorer.session.info.configuration("model.onnx")
    assert all(np.isfinite(line).all() for line in scorer.logprobs(["the cat sat", "", "unheard"]))


@cache
def _without_metadata() -> bytes:
    proto = fake_model.build()
    del proto.metadata_props[:]
    return proto.SerializeToString()


@cache
def _entries() -> list[tuple[bytes, bytes]]:
    return [(key.encode(), value.encode()) for key, value in fake_model.model_info().to_metadata().items()]


def _entry(key: bytes, value: bytes) -> bytes:
    """`ModelProto.metadata_props` (14), a message of key (1) and value (2)."""
    inner = b"\x0a" + _varint(len(key)) + key + b"\x12" + _varint(len(value)) + value
    return b"\x72" + _varint(len(inner)) + inner


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


# Records of bulk scoring


def record(data: bytes) -> None:
    """The record of an output of bulk scoring: valid, or treated as missing."""
    found = Record.read(_file("record.json", data))
    if found:
        assert isinstance(found.settings, dict)
        assert found.text.fits(FOLDER / "record.json") is False


def arpa(data: bytes) -> None:
    """An ARPA file: every word has a log-probability, after any other."""
    ngram = load_ngram(_file("model.arpa", data))
    words = [*sorted(ngram.vocabulary or ())[:9], None, "\u65e5", *sorted(ngram.vocabulary or ())[:9], None]
    assert not np.isnan(ngram.logprobs(words)).any()


TARGETS: dict[str, Target] = {
    "checkpoint_state": partial(checkpoint, STATE),
    "checkpoint_variables": partial(checkpoint, VARIABLES),
    "tokenizer_file": partial(imported_tokenizer, "tokens.txt"),
    "sentencepiece": partial(imported_tokenizer, "sp.model"),
    **{f"lattice_{format}": partial(lattices, format) for format in ("slf", "kaldi")},
    **{f"table_{format}": partial(table, format) for format in ("csv", "raw", "jsonl")},
    **{f"nbest_{format}": partial(nbest, format) for format in ("tsv", "kaldi", "moses", "jsonl")},
    **{f"pairs_{method}": partial(pairs, method) for method in METHODS},
    **{f.__name__: f for f in (arpa, config, metrics, weights, tokenizer, round_trip, text, score, references)},
    **{f.__name__: f for f in (metadata, record)},
}
