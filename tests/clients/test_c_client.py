"""`examples/onnx_client/client.c`, built against onnxruntime's C API, scores as keraslm does.

The headers are Debian's, the library is that of the Python package. Both contexts, 8-bit weights and all JSON escapes
are tried, and the files that the program must refuse.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import keraslm
from tests.support import fake_model
from tests.support.made_run import make_run
from tests.support.words import train_words

SOURCE = Path(__file__).parents[2] / "examples" / "onnx_client" / "client.c"
STRICT = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-g"]
SANITIZED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
TRAINED = [
    "the company said it would n't pay N million for the u.s. unit",
    'η γάτα κοιμάται 😀 café «naïve» a\\b "quoted" x/y',
    "the the the <unk> said",
]
LINES = [
    "the company said it would pay N million",
    'η γάτα κάθεται 😀 😁 café cafe\u0301 «naïve» a\\b "quoted" x/y',
    "",
    " \t the\u00a0unit\u2003\u3000said\u0085it\u202fN\r",
    "nothing of this is known ΟΔΟΣ 日本",
    "the <unk> said <eos> the unit <eos>",
    "said\x1cit the\u200bunit",
    "the company " * 400,
    "the unit",
]
SPLIT_OTHERWISE = (7, 5)  # longer than a call of the program, and of two sentences, which keraslm scores side by side
TOLERANCE = 1e-4  # nats per line


@pytest.fixture(scope="session")
def build(headers, tmp_path_factory):
    """A function from flags of the compiler to the program."""
    if not (compiler := shutil.which("gcc")):
        pytest.skip("no gcc to build the program with")
    libraries = list((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))
    if not libraries:
        pytest.skip(f"onnxruntime {onnxruntime.__version__} has no shared library in its Python package")
    folder = tmp_path_factory.mktemp("build")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(libraries[0])
    jansson = next(headers.glob("lib/**/libjansson.a"))

    def compiled(*flags: str) -> Path:
        program = folder / f"client{len(flags)}"
        includes = [f"-I{headers / 'include'}", f"-I{headers / 'include' / 'onnxruntime'}"]
        libraries = [f"-L{folder}", "-lonnxruntime", jansson, f"-Wl,-rpath,{folder}"]
        line = [compiler, *STRICT, *flags, *includes, SOURCE, *libraries, "-o", program]
        done = subprocess.run([*map(str, line)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return program

    return compiled


@pytest.fixture(scope="session", params=["plain", "sanitized"])
def client(request, build):
    return build(*(SANITIZED if request.param == "sanitized" else []))


@pytest.fixture(scope="session", params=["full", "adaptive", "int8"])
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    fields = {"softmax": "adaptive", "cutoffs": (4, 10)} if request.param == "adaptive" else {}
    run = make_run(folder, TRAINED, units=24, layer_units=(24, 16), tie_weights=False, **fields)
    (folder / "text.txt").write_text("\n".join(TRAINED), encoding="utf-8")
    int8 = {"int8": True, "text": folder / "text.txt", "tolerance": 0.5} if request.param == "int8" else {}
    keraslm.export(run, folder / "model.onnx", **int8)
    return folder / "model.onnx"


def run(program: Path, text: bytes, *arguments: object) -> subprocess.CompletedProcess[str]:
    line = [program, *arguments]
    done = subprocess.run([*map(str, line)], input=text, capture_output=True, timeout=120, check=False)
    return subprocess.CompletedProcess(line, done.returncode, done.stdout.decode(), done.stderr.decode())


def scores(program: Path, lines: list[str], *arguments: object) -> tuple[list[float], list[int]]:
    done = run(program, "\n".join(lines).encode(), *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [row.split("\t") for row in done.stdout.splitlines()]
    return [float(nats) for nats, _ in rows], [int(tokens) for _, tokens in rows]


# Scores


def test_each_line_has_the_score_of_keraslm(client, model):
    nats, tokens = scores(client, ["\ufeff" + LINES[0], *LINES[1:]], model)
    scorer = keraslm.load(model, "cpu")
    expected = [scorer.score(line) for line in LINES]
    if "int8" in str(model):  # whose scales are per call: keraslm passes these two lines in other calls
        assert [nats.pop(i) for i in SPLIT_OTHERWISE] == pytest.approx([expected.pop(i) for i in SPLIT_OTHERWISE], 1e-3)
    largest = np.abs(np.subtract(nats, expected)).max()
    print(f"\nclient.c, {model.parent.name[:-1]}: largest difference {largest:.1e} nats")
    assert nats == pytest.approx(expected, abs=TOLERANCE)
    assert tokens == [len(ids) for ids in scorer.tokenizer.encode_lines(LINES)]


def test_the_state_is_carried_over_lines(client, model):
    lines = [line for number, line in enumerate(LINES) if number not in SPLIT_OTHERWISE or "int8" not in str(model)]
    nats, _ = scores(client, lines, model, "document")
    scorer = keraslm.load(model, "cpu")
    expected = [line.logprob for line in scorer.score_lines(lines, context="document", lines_ahead=1)]
    assert nats == pytest.approx(expected, abs=TOLERANCE)
    assert np.abs(np.subtract(nats, scores(client, lines, model)[0])).max() > 0.01


def escape_all(tokenizer: dict) -> str:
    """The JSON of a tokenizer with every character of every word as `\\uXXXX`, surrogate pairs included."""
    text = json.dumps(tokenizer | {"model": tokenizer["model"] | {"vocab": {}}})
    words = []
    for word, number in tokenizer["model"]["vocab"].items():
        units = word.encode("utf-16-be").hex("-", 2).split("-")
        words.append('"' + "".join(f"\\u{unit}" for unit in units) + f'" : {number}')
    return text.replace('"vocab": {}', '"vocab":{' + "\r\n\t,".join(words) + "}")


@pytest.mark.parametrize("write", [escape_all, json.dumps, lambda t: json.dumps(t, ensure_ascii=False)])
def test_every_escape_of_json(client, tmp_path, write):
    tokenizer = train_words([*TRAINED, "\b \x7f \x1f \uffff \U00010000 \U0010ffff / \\u0041"])
    size = tokenizer.vocab_size
    table = np.log(np.random.default_rng(1).dirichlet(np.ones(size), size))
    info = fake_model.info_of(tokenizer)
    plain = fake_model.write(tmp_path / "plain.onnx", table, info)
    words = {**vars(info), "tokenizer": write(json.loads(tokenizer.to_json()))}
    rewritten = fake_model.write(tmp_path / "model.onnx", table, type(info)(**words))
    lines = [*LINES, "\b \x7f \x1f \uffff \U00010000 \U0010ffff / \\u0041 A"]
    nats, _ = scores(client, lines, rewritten)
    scorer = keraslm.load(plain, "cpu")
    assert nats == pytest.approx([scorer.score(line) for line in lines], abs=TOLERANCE)


# Refusals: one sentence, and a non-zero exit code


def refused(program: Path, *arguments: object, text: bytes = b"the cat\n") -> str:
    done = run(program, text, *arguments)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_files_that_are_no_models(client, tmp_path):
    assert "File doesn't exist" in refused(client, tmp_path / "none.onnx")
    (tmp_path / "text.txt").write_text("the cat\n")
    assert "Protobuf parsing failed" in refused(client, tmp_path / "text.txt")
    assert "directory" in refused(client, tmp_path)
    assert "Give a model file" in refused(client)
    assert "Give a model file" in refused(client, "model.onnx", "paragraph")


def test_models_of_other_programs_and_formats(client, tmp_path):
    proto = fake_model.build()
    del proto.metadata_props[:]
    (tmp_path / "other.onnx").write_bytes(proto.SerializeToString())
    assert "not a model file of keraslm" in refused(client, tmp_path / "other.onnx")
    for key, value, message in (("format_version", "5", "format version"), ("tokenizer", "{", "damaged")):
        proto = fake_model.build()
        next(entry for entry in proto.metadata_props if entry.key == key).value = value
        (tmp_path / "other.onnx").write_bytes(proto.SerializeToString())
        assert message in refused(client, tmp_path / "other.onnx")


@pytest.mark.parametrize(
    "fields", [{"lowercase": True}, {"split_punctuation": True}, {"tokenizer": "char"}, {"tokenizer": "byte"}]
)
def test_other_tokenizers(client, tmp_path, fields):
    tokenizer = train_words(["the cat"], **fields)
    table = np.log(np.full((tokenizer.vocab_size,) * 2, 1 / tokenizer.vocab_size))
    path = fake_model.write(tmp_path / "model.onnx", table, fake_model.info_of(tokenizer))
    assert "tokenizer does more than look up words" in refused(client, path)


def test_a_text_with_nul(client, model):
    assert "U+0000" in refused(client, model, text=b"the\0cat\n")
