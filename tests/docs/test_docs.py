"""The documentation agrees with the programs."""

from __future__ import annotations

import gzip
import json
import re
import runpy
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from keraslm import load
from keraslm.server.app import Service, make_app
from keraslm.server.settings import Settings
from keraslm.text.files import TextFile
from tests.support import fake_model
from tests.support.words import train_words

ROOT = Path(__file__).resolve().parents[2]
HOW_TO = ROOT / "docs" / "how-to"
REFERENCE = ROOT / "docs" / "reference"
CLIENT = ROOT / "examples" / "onnx_client" / "client.py"
SPLIT = runpy.run_path(str(CLIENT))["split"]
PATTERNS = ("*.md", "docs/**/*.md", "examples/*/*.md", "benchmarks/*.md")
PAGES = sorted(str(path.relative_to(ROOT)) for pattern in PATTERNS for path in ROOT.glob(pattern))


def test_openapi_describes_the_server():
    description = (REFERENCE / "openapi.json").read_text(encoding="utf-8")
    paths = json.loads(description)["paths"]
    routes = {route.path: {*route.methods} - {"HEAD"} for route in make_app(Service(Settings())).routes}
    assert {path: {method.upper() for method in own} for path, own in paths.items()} == routes


@pytest.mark.parametrize("page", PAGES)
def test_files_named_in_page_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!http)([^)#]+)", text)
    paths = re.findall(r"(?<![\w./-])(?:docs|examples|benchmarks|keraslm|export|tests)/[\w./*-]*\w", text)
    assert len(links + paths) >= 5 or page != "README.md"
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []
    assert [path for path in paths if not any(ROOT.glob(path))] == []


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("split_punctuation", [False, True])
def test_example_client_matches_keraslm(tmp_path, lowercase, split_punctuation):
    tokenizer = train_words(
        ["the The cat , sat ΟΔΟΣ οδος ß ẞ"], lowercase=lowercase, split_punctuation=split_punctuation
    )
    size = tokenizer.vocab_size
    table = np.log(np.random.default_rng(1).dirichlet(np.ones(size), size))
    model = fake_model.write(tmp_path / "model.onnx", table, fake_model.info_of(tokenizer))
    lines = ["The cat, sat", "", "  the   the ", "«cat» sat.", "a<unk>the<eos>+the", "ΟΔΟΣ ẞ", "the\x1ccat", "a\rthe"]
    text = b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\n"
    done = subprocess.run([sys.executable, CLIENT, model], input=text, capture_output=True, check=True)
    found = [row.split("\t") for row in done.stdout.decode().splitlines()]
    (tmp_path / "text.txt").write_bytes(text)
    scores = list(load(model).score_lines(TextFile(tmp_path / "text.txt")))
    assert [int(tokens) for _, tokens in found] == [len(s.ids) for s in scores]
    assert [float(nats) for nats, _ in found] == pytest.approx([s.logprob for s in scores], abs=2e-6)


ASSIGNED = st.characters(exclude_categories=["Cs", "Cn", "Co"])  # in the tables of this Python


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("split_punctuation", [False, True])
@given(st.text(ASSIGNED | st.sampled_from("ΣσςİIẞßﬁǄǅ\u0301\u0307 \x1c\x1f\x85\xa0\u2028\u200b.«")))
@example("ΑΣ ΑΣ. Σ\u0301 İI ẞß ﬁ Ǆǅ <UNK>a<eos>")
def test_example_client_splits_as_the_library_does(lowercase, split_punctuation, text):
    tokenizer = train_words(["the"], lowercase=lowercase, split_punctuation=split_punctuation)
    backend = Tokenizer.from_str(tokenizer.to_json())
    whole = backend.normalizer.normalize_str(text) if lowercase else text
    expected = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(whole)]
    assert SPLIT(text, json.loads(tokenizer.to_json())) == expected


def test_example_client_does_not_import_keraslm():
    source = CLIENT.read_text(encoding="utf-8")
    imports = {line.split()[1] for line in source.splitlines() if line.startswith(("import ", "from "))}
    assert imports == {"json", "re", "string", "sys", "unicodedata", "numpy", "onnxruntime"}


def test_readme_example_runs(tmp_path, monkeypatch):
    """The block runs unchanged, except for the backend and the size of the model."""
    from keraslm.system.backend import select_backend

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text.split("```python\n")[1].split("```")[0]
    assert block.count('backend="jax"') == 1
    quick = f'backend="{select_backend()}", units=4, epochs=1, batch_size=2, num_steps=3, verbose=0'
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.txt").write_text("a sentence to score\ntwo sentences of a text\n" * 6, encoding="utf-8")
    (tmp_path / "valid.txt").write_text("a text of two\n" * 4, encoding="utf-8")
    printed: list[object] = []
    exec(block.replace('backend="jax"', quick), {"print": printed.append})
    perplexity, score, after, of_two = printed
    assert perplexity > 1 and of_two > 1 and score < 0 and after < 0
    assert json.loads((tmp_path / "runs" / "latest" / "config.json").read_text())["train"]["epochs"] == 1


@pytest.mark.parametrize("page", ["scoring", "rescoring"])
def test_the_python_examples_of_scores_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fake_model.write(tmp_path / "model.onnx")
    (tmp_path / "text.txt").write_text("the cat\n\ndog\n", encoding="utf-8")
    (tmp_path / "lists.tsv.gz").write_bytes(gzip.compress(b"u1\t-1\tthe cat\nu1\t-2\tdog\n"))
    (tmp_path / "u1.slf").write_text("N=2 L=1\nI=0\nI=1\nJ=0 S=0 E=1 W=the a=-1\n")
    pair = {"sentence_good": "cat", "sentence_bad": "sat", "linguistics_term": "binding"}
    (tmp_path / "blimp.jsonl").write_text(json.dumps(pair), encoding="utf-8")
    block = (HOW_TO / f"{page}.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    printed: list[object] = []
    exec(block, {"print": lambda *values: printed.append(values), "token": 2})
    assert printed and (page == "scoring" or printed[-2:] == [(0.0, 1), (1.0,)])


def test_the_python_examples_of_keyboards_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fake_model.write(tmp_path / "keyboard.onnx")
    (tmp_path / "test.txt").write_text("the cat\n\ndog\n", encoding="utf-8")
    _, *blocks = (HOW_TO / "keyboards.md").read_text(encoding="utf-8").split("```python\n")
    printed: list[str] = []
    for block in blocks:
        exec(block.split("```")[0], {"print": printed.append})
    assert 0 < float(printed[0]) < 1


def test_the_python_example_of_reading_studies_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fake_model.write(tmp_path / "model.onnx")
    block = (HOW_TO / "reading-studies.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    printed: list[tuple[object, ...]] = []
    given = {"print": lambda *values: printed.append(values), "pandas": types.SimpleNamespace(DataFrame=dict)}
    exec(block.replace("import pandas\n", ""), given)
    assert [values[0] for values in printed] == [
        *["the", "chairman", "believed", "the", "report", "was", "wrong"],
        "<eos>",
    ]


def test_the_python_example_of_filtering_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fake_model.write(tmp_path / "lm.onnx")
    documents = [{"text": text} for text in ("the cat", "dog", "", "sat")]
    (tmp_path / "docs.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, documents)).encode()))
    block = (HOW_TO / "filtering.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    printed: list[object] = []
    exec(block, {"print": lambda *values: printed.extend(values)})
    assert printed[:2] == [4, {"head": 1, "middle": 1, "tail": 1}]
    assert {path.name for path in tmp_path.glob("docs.*.jsonl.gz")} == {
        f"docs.{name}.jsonl.gz" for name in ("head", "middle", "tail")
    }
