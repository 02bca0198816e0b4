"""Every tokenizer and context on the command line: train, evaluate, export, score, generate."""

import pytest
import tokenizers

import keraslm
from keraslm.config import CONTEXTS
from keraslm.system.backend import select_backend
from keraslm.text.files import TextFile
from tests.support.program import strict_json
from tests.support.tiny import text_lines

MODES = [
    ("word", "paragraph", []),
    ("char", "sentence", ["--shuffle"]),
    ("byte", "document", []),
    ("bpe", "paragraph", ["--vocab-size", "300", "--shuffle"]),
    ("unigram", "sentence", ["--vocab-size", "80"]),
    ("tokens.txt", "document", ["--softmax", "adaptive", "--cutoffs", "5,12"]),
    ("added.json", "paragraph", []),
]
# Symbols that are written in the text: end symbols inside lines, alone and in a row, unknown words, and other names.
LITERAL = [
    "the <eos> cat </s> sat <unk> dog",
    "<eos>",
    "</s>",
    "a <eos> <eos> cat",
    "cat </s> </s> sat </s>",
    "<s> <unk>",
]
# Tokenizers compute nothing on a backend: on the other backends one mode per context is enough.
MODES = [mode for mode in MODES if select_backend() == "jax" or mode[0] in ("word", "char", "tokens.txt")]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modes")
    for name, count in (("train", 120), ("valid", 30)):
        lines = text_lines(count, seed=count)
        lines[::7] = [""] * len(lines[::7])
        lines[3:3] = LITERAL
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    words = sorted({word for line in text_lines(120, seed=120)[:60] for word in line.split()})
    symbols = ["<blk>", "</s>", "<unk>", *words]
    (folder / "tokens.txt").write_text("".join(f"{s} {n}\n" for n, s in enumerate(symbols)), encoding="utf-8")
    added = tokenizers.Tokenizer(tokenizers.models.BPE())
    added.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=["</s>"], initial_alphabet=alphabet, show_progress=False
    )
    added.train_from_iterator(words, trainer)  # its end symbol is found in texts
    added.save(str(folder / "added.json"))
    return folder


@pytest.mark.parametrize(("kind", "context", "more"), MODES, ids=[mode[0] for mode in MODES])
def test_training_evaluation_and_scoring_agree(program, texts, tmp_path, monkeypatch, kind, context, more):
    monkeypatch.chdir(tmp_path)
    kind = str(texts / kind) if "." in kind else kind
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
    assert scored["nats"] == pytest.approx(evaluated["nats"], rel=1e-6)
    for name in scored:
        assert scored[name] == pytest.approx(evaluated[name], rel=1e-4), name
    assert evaluated["context"] == context
    for other in CONTEXTS if kind == "word" or "." in kind else ():  # in whose texts end symbols can be written
        found = keraslm.evaluate("run", texts / "valid.txt", context=other).nats
        scores = keraslm.load("model.onnx").score_lines(TextFile(texts / "valid.txt"), other)
        assert keraslm.summarize(scores).nats == pytest.approx(found, rel=1e-6), other
    counted = program("tokenize", "--with", "run", texts / "valid.txt", "--level", "summary", "--json").out
    kenlm = dict(row.split("\t") for row in program(*arguments[:3], "--format", "kenlm").out.splitlines()[-2:])
    srilm = program(*arguments[:3], "--format", "srilm", "--level", "summary", "--unk", "exclude").out
    for name in ("lines", "words", "tokens", "characters", "bytes", "oovs"):
        assert strict_json(counted)[name] == evaluated[name] == scored[name]
    assert kenlm["Tokens:"] == str(evaluated["words"] + evaluated["lines"])
    assert f": {evaluated['lines']} sentences, {evaluated['words']} words, {kenlm['OOVs:']} OOVs" in srilm
    generated = program("generate", "model.onnx", "the", "--max-tokens", "9", "--seed", "1")
    assert generated.code == 0 and generated.out.startswith("the")
