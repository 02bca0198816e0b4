"""Each command that opens a run refuses malformed files with one sentence and exit code 2."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest

from tests.support import fake_model
from tests.support.made_run import make_run
from tests.support.program import assert_refused, strict_json


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("sound"), num_layers=1, units=4)
    run.metrics_path.write_text('{"epoch": 1, "perplexity": 7.0, "val_perplexity": 8.0}\n', encoding="utf-8")
    return run.path


@pytest.fixture
def refused(program, sound, tmp_path, text):
    """Check that each command refuses a run with a file replaced by these bytes."""

    def check(name: str, data: bytes, *parts: str, commands=("show", "evaluate", "export")) -> None:
        run = shutil.copytree(sound, tmp_path / "run")
        (run / name).write_bytes(data)
        lines = {
            "show": ("show", run),
            "evaluate": ("evaluate", run, text("the cat\n")),
            "export": ("export", tmp_path / "model.onnx", "--run", run),
        }
        for command in commands:
            outcome = program(*lines[command])
            assert_refused(outcome, str(run), *parts)
            assert "Traceback" not in outcome.out
        assert not (tmp_path / "model.onnx").exists()

    return check


def of(path, *keys, to):
    """The content of a JSON file with one value changed."""
    inner = changed = json.loads(path.read_text())
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = to
    return json.dumps(changed).encode()


CONFIGS = {
    "empty": (b"", "not JSON"),
    "cut": (b'{"format_version": 1, "model": {', "not JSON"),
    "no object": (b"[1, 2]", "format version None"),
    "nested": (b"[" * 100_000, "not JSON"),
    "not UTF-8": (b"\xff\xfe{", "cannot be read"),
    "version": (("format_version", "2\n3"), r"format version '2\n3', but this keraslm reads 1 to 2"),
    "section": (("model", None), "no section 'model'"),
    "field": (("model", "heads", 2), "Unknown configuration field 'heads'"),
    "type": (("model", "units", "4"), "units is '4'"),
    "NaN": (("train", "learning_rate", float("nan")), "learning_rate is nan"),
    "huge integer": (("model", "units", 10**4000), "units is 1000000"),
    "huge float": (("model", "init_scale", 10**400), ", but must be a finite number"),
    "layers": (("model", "num_layers", 10**9), "num_layers is 1000000000, but must be at least 1 and at most 1000"),
    "line ends": (("data", "valid", ["\n\x1b[31m"]), r"valid is \n\x1b[31m, but train is missing"),
    "vocabulary": (("vocab_size", [10**300] * 99), "but config.json says [1000"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_malformed_configuration(refused, sound, case):
    change, message = CONFIGS[case]
    data = change if isinstance(change, bytes) else of(sound / "config.json", *change[:-1], to=change[-1])
    refused("config.json", data, message)


TRUNCATION = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
TOKENIZERS = {
    "empty": (b"", "not a tokenizer.json of the tokenizers library"),
    "cut": (b'{"version": "1.0", "model": {"type": ', "not a tokenizer.json"),
    "no object": (b"null", "not a tokenizer.json"),
    "nested": (b'{"normalizer": ' + b'{"type": "Sequence", "normalizers": [' * 5000, "not a tokenizer.json"),
    "not UTF-8": (b"\xff\xfe", "cannot be read"),
    "no model": (("model", None), "not a tokenizer.json"),
    "model": (("model", "type", "Magic"), "not a tokenizer.json"),
    "vocabulary": (("model", "vocab", [1, 2]), "not a tokenizer.json"),
    "negative id": (("model", "vocab", {"<unk>": -1}), "not a tokenizer.json"),
    "gap": (("model", "vocab", "a", 99), "are not 0 to"),
    "id twice": (("model", "vocab", "a", 0), "are not 0 to"),
    "no unknown word": (("model", "unk_token", "nope"), "no token 'nope' for unknown words"),
    "no end symbol": (("post_processor", None), "does not end each line with one token"),
    "other end symbol": (("post_processor", "special_tokens", "<eos>", "ids", [77]), "does not end each line"),
    "truncation": (("truncation", TRUNCATION), "The tokenizer has truncation"),
}


@pytest.mark.parametrize("case", TOKENIZERS)
def test_a_malformed_tokenizer(refused, sound, case):
    change, message = TOKENIZERS[case]
    data = change if isinstance(change, bytes) else of(sound / "tokenizer.json", *change[:-1], to=change[-1])
    refused("tokenizer.json", data, message)


METRICS = [
    b"{",
    b"3\n",
    b'{"epoch": 1\n{"epoch": 1}',
    b'["perplexity"]',
    b"\xff",
    b"[" * 10_000,
    b'{"perplexity": NaN}',
    b'{"perplexity": 1%s}' % (b"0" * 400),
]
METRICS += [b'{"perplexity": %s}' % value for value in (b"null", b'"7"', b"[7]", b"{}", b"true", b"1e999")]
METRICS += [b'{"perplexity": 7, "val_perplexity": %s}' % value for value in (b"null", b'"8"', b"Infinity")]


@pytest.mark.parametrize("data", METRICS)
def test_malformed_metrics(refused, data):
    refused("metrics.jsonl", data.removesuffix(b"\n") + b"\n", "metrics.jsonl: ", commands=["show"])


def test_a_run_without_metrics_is_shown(program, sound, tmp_path):
    run = shutil.copytree(sound, tmp_path / "run")
    (run / "metrics.jsonl").write_bytes(b"")
    assert strict_json(program("show", run, "--json").out)["perplexity"] is None


WEIGHTS = [b"", b"\x00" * 7, b"\xff" * 8 + b"{}", b"\x02" + b"\x00" * 7 + b"[]", b"PK\x03\x04", b"\x80\x04."]
WEIGHTS += [b"\x10\x27" + b"\x00" * 6 + b"{" * 10_000]


@pytest.mark.parametrize("data", WEIGHTS)
def test_malformed_weights(refused, data):
    refused("weights.safetensors", data, "weights.safetensors: ", commands=["evaluate", "export"])


# The same inside a model file with a valid checksum

INFOS = {
    "tokenizer": ({"tokenizer": "{}"}, "metadata tokenizer: not a tokenizer.json"),
    "end symbol": ({"keys": {"post_processor": None}}, "does not end each line with one token"),
    "size": ({"vocab_size": 10**30}, "but the metadata say tensor(float) of shape"),
    "layers": ({"num_layers": -1}, "but the metadata say tensor(float) of shape"),
    "digest": ({"tokenizer_sha256": "0" * 64}, "the tokenizer does not match tokenizer_sha256"),
    "ids": ({"eos_id": 3}, "are not the tokenizer's"),
}


@pytest.mark.parametrize("case", INFOS)
def test_malformed_metadata(program, tmp_path, text, case):
    changes, message = INFOS[case]
    if "keys" in changes:
        tokenizer = json.dumps(json.loads(fake_model.TOKENIZER.to_json()) | changes["keys"])
        changes = {"tokenizer": tokenizer, "tokenizer_sha256": hashlib.sha256(tokenizer.encode()).hexdigest()}
    path = fake_model.write(tmp_path / "model.onnx", info=fake_model.model_info(**changes))
    for command in (("score", path, text("the cat\n")), ("show", path), ("generate", path)):
        assert_refused(program(*command), str(path), message)


def test_a_malformed_configuration_of_a_model(program, tmp_path):
    path = fake_model.write(tmp_path / "model.onnx", info=fake_model.model_info(config="[]"))
    assert_refused(program("show", path), f"{path}: metadata 'config' is not a configuration")
