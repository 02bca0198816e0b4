"""Every tokenizer and context on the command line: train, evaluate, export, score, generate."""

import pytest

import keraslm
from keraslm.system.backend import select_backend
from tests.support.program import strict_json
from tests.support.tiny import text_lines

MODES = [
    ("word", "paragraph", []),
    ("char", "sentence", ["--shuffle"]),
    ("byte", "document", []),
    ("bpe", "paragraph", ["--vocab-size", "300", "--shuffle"]),
    ("unigram", "sentence", ["--vocab-size", "80"]),
    ("tokens.txt", "document", ["--softmax", "adaptive", "--cutoffs", "5,12"]),
]
# Tokenizers compute nothing on a backend: on the other backends one mode per context is enough.
MODES = [mode for mode in MODES if select_backend() == "jax" or mode[0] in ("word", "char", "tokens.txt")]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modes")
    for name, count in (("train", 120), ("valid", 30)):
        lines = text_lines(count, seed=count)
        lines[::7] = [""] * len(lines[::7])
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    words = sorted({word for line in text_lines(120, seed=120)[:60] for word in line.split()})
    symbols = ["<blk>", "</s>", "<unk>", *words]
    (folder / "tokens.txt").write_text("".join(f"{s} {n}\n" for n, s in enumerate(symbols)), encoding="utf-8")
    return folder


@pytest.mark.parametrize(("kind", "context", "more"), MODES, ids=[mode[0] for mode in MODES])
def test_training_evaluation_and_scoring_agree(program, texts, tmp_path, monkeypatch, kind, context, more):
    monkeypatch.chdir(tmp_path)
    kind = str(texts / kind) if kind.endswith(".txt") else kind
    small = ["--units", "8", "--epochs", "2", "--batch-size", "2", "--num-steps", "9", "--progress", "none"]
    line = ["train", "--data", texts, "--tokenizer", kind, "--context", context, "--run", "run", *small, *more]
    outcome = program(*line)
    assert (outcome.code, outcome.err) == (0, ""), outcome.err
    valid = (texts / "valid.txt").read_bytes()
    assert f"{len(valid.decode()):,} characters, {len(valid):,} bytes" in outcome.out
    tutorial = strict_json(program("evaluate", "run", texts / "valid.txt", "--tutorial", "--json").out)
    for name in ("perplexity", "perplexity_per_word", "bits_per_character", "bits_per_byte"):
        assert keraslm.load_run("run").epochs()[-1][f"val_{name}"] == pytest.approx(tutorial[name], rel=1e-3), name
    assert program("export", "model.onnx", "--run", "run").code == 0
    evaluated = strict_json(program("evaluate", "run", texts / "valid.txt", "--json").out)
    arguments = ["score", "model.onnx", texts / "valid.txt", "--level", "summary", "--json"]
    scored = strict_json(program(*arguments, "--context", context).out)
    assert scored["nats"] == pytest.approx(evaluated["nats"], rel=1e-5)
    for name in scored:
        assert scored[name] == pytest.approx(evaluated[name], rel=1e-4), name
    assert evaluated["context"] == context
    generated = program("generate", "model.onnx", "the", "--max-tokens", "9", "--seed", "1")
    assert generated.code == 0 and generated.out.startswith("the")
