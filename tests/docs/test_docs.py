"""What the documentation says is what the programs do."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keraslm import load
from tests.support import fake_model
from tests.support.words import train_words

ROOT = Path(__file__).resolve().parents[2]


def module_of(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_cli_page_is_the_live_help():
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == module_of(ROOT / "docs" / "write_cli.py").page(), "run: make docs"


def test_every_file_that_the_readme_names_is_there():
    words = (ROOT / "README.md").read_text(encoding="utf-8").replace("`", " ").split()
    named = {w.strip(".,;:") for w in words if w.startswith(("docs/", "examples/", "benchmarks/"))}
    assert len(named) >= 5
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("split_punctuation", [False, True])
def test_the_example_client_gives_the_scores_of_keraslm(tmp_path, lowercase, split_punctuation):
    words = ["the The cat , sat"]
    tokenizer = train_words(words, lowercase=lowercase, split_punctuation=split_punctuation)
    info = fake_model.info_of(tokenizer)
    size = tokenizer.vocab_size
    table = np.log(np.random.default_rng(1).dirichlet(np.ones(size), size))
    model = fake_model.write(tmp_path / "model.onnx", table, info)
    lines = ["The cat, sat", "", "  the   the ", "«cat» sat.", "a<unk>the<eos>+the"]
    client = ROOT / "examples" / "onnx_client" / "client.py"
    done = subprocess.run(
        [sys.executable, client, model], input="\n".join(lines) + "\n", capture_output=True, text=True, check=True
    )
    found = [row.split("\t") for row in done.stdout.splitlines()]
    scores = list(load(model).score_lines(lines))
    assert [int(tokens) for _, tokens in found] == [len(s.ids) for s in scores]
    assert [float(nats) for nats, _ in found] == pytest.approx([s.logprob for s in scores], abs=2e-6)


def test_the_example_client_imports_nothing_of_keraslm():
    source = (ROOT / "examples" / "onnx_client" / "client.py").read_text(encoding="utf-8")
    imports = {line.split()[1] for line in source.splitlines() if line.startswith(("import ", "from "))}
    assert imports == {"json", "re", "string", "sys", "unicodedata", "numpy", "onnxruntime"}


def test_the_python_example_of_the_readme_runs(tmp_path, monkeypatch, tiny_texts):
    """The block is run as it stands, but for the backend of this process and a model that trains in seconds."""
    from keraslm.system.backend import select_backend

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text.split("```python\n")[1].split("```")[0]
    assert 'keraslm.preset("small"), backend="jax"' in block
    sizes = "units=4, epochs=1, batch_size=2, num_steps=3, verbose=0"
    quick = f'keraslm.preset("small"), backend="{select_backend()}", {sizes}'
    monkeypatch.chdir(tmp_path)
    for name, lines in tiny_texts.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    printed: list[object] = []
    exec(block.replace('keraslm.preset("small"), backend="jax"', quick), {"print": printed.append})
    perplexity, score, of_two = printed
    assert perplexity > 1 and of_two > 1 and score < 0
    assert json.loads((tmp_path / "runs" / "latest" / "config.json").read_text())["train"]["epochs"] == 1


@pytest.fixture
def tiny_texts():
    return {"train.txt": ["a sentence to score", "two sentences of a text"] * 6, "valid.txt": ["a text of two"] * 4}
