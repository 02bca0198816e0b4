"""The folder for browsers: its files, and what is refused. `tests/clients/test_web.py` opens the page in a browser."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

import keraslm
from keraslm.config import DataConfig
from keraslm.errors import UsageError
from keraslm.pictures.markup import SCHEMES
from keraslm.text.vocabulary import train_tokenizer
from keraslm_export.targets import web
from tests.support.made_run import make_run, make_speech_run
from tests.support.tiny import text_lines

LINES = text_lines(150, seed=1)
FILES = {"model.onnx", "model.json", "tokenizer.json", "index.html", "page.css", "icon.svg", "page.js", "tokenizer.js"}
FILES |= {"model.js", "suggest.js", "package.json"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    run = make_run(folder, LINES, units=8, embedding_dim=6, layer_units=(8, 5))
    return run, keraslm.export(run, folder / "my page", target="web")


# The folder


def test_the_folder_has_these_files_and_the_report_says_so(exported):
    run, report = exported
    assert {path.name for path in report.path.iterdir()} == FILES
    assert (report.target, report.path, report.cases) == ("web", run.path.parent / "my page", 4)
    assert report.bytes == sum(path.stat().st_size for path in report.path.iterdir())
    assert 0 < report.largest_difference < 1e-5 and report.recurrent_nodes == 2
    assert [path.name for path in run.path.parent.iterdir() if path.name.startswith(".")] == []


def test_the_model_in_the_folder_is_a_model_file(exported, tmp_path):
    run, report = exported
    keraslm.export(run, tmp_path / "model.onnx")
    assert (report.path / "model.onnx").read_bytes() == (tmp_path / "model.onnx").read_bytes()
    assert keraslm.load(report.path / "model.onnx").score("the cat") < 0
    assert (report.path / "tokenizer.json").read_text(encoding="utf-8") == run.tokenizer.to_json()


def test_the_page_is_told_what_javascript_cannot_read(exported):
    run, report = exported
    facts = json.loads((report.path / "model.json").read_text(encoding="utf-8"))
    expected = {"target": "web", "kind": "word", "lowercase": False, "split": False, "title": "my page"}
    expected |= {"layers": 2, "units": 8, "sizes": [8, 5], "precision": "float32", "cell": "lstm", "steps": 1024}
    expected |= {"eos_id": run.tokenizer.eos_id, "unk_id": run.tokenizer.unk_id, "vocab_size": run.tokenizer.vocab_size}
    assert facts == expected | {"keraslm_version": keraslm.__version__, "valid_perplexity": None}


def test_the_page_names_no_other_host(exported):
    _, report = exported
    for path in report.path.iterdir():
        if path.suffix in (".html", ".js", ".css", ".svg"):
            text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
            assert re.findall(r"\w+://|[\"'(]//|\bdata:", text) == [], path
    html = (report.path / "index.html").read_text(encoding="utf-8")
    assert "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'" in html
    assert " style=" not in html and " onclick" not in html
    package = json.loads((report.path / "package.json").read_text(encoding="utf-8"))
    assert list(package["dependencies"]) == ["onnxruntime-web"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", package["dependencies"]["onnxruntime-web"])


def test_the_colours_are_those_of_reports(exported):
    css = (exported[1].path / "page.css").read_text(encoding="utf-8")
    for colours, _ in SCHEMES.values():
        assert all(f"{{background:{colour};" in css for colour in colours.split())


def test_a_second_export_replaces_the_files_and_leaves_others(exported, tmp_path):
    run, _ = exported
    folder = tmp_path / "page"
    keraslm.export(run, folder, target="web")
    (folder / "node_modules").mkdir()
    (folder / "page.js").write_text("old")
    keraslm.export(run, folder, target="web")
    assert {path.name for path in folder.iterdir()} == FILES | {"node_modules"}
    assert (folder / "page.js").read_bytes() == (web.PAGE / "page.js").read_bytes()


def test_8_bit_weights(exported, tmp_path):
    run, _ = exported
    (tmp_path / "text.txt").write_text("\n".join(LINES), encoding="utf-8")
    found = keraslm.export(run, tmp_path / "page", target="web", int8=True, text=tmp_path / "text.txt", tolerance=0.5)
    facts = json.loads((tmp_path / "page" / "model.json").read_text(encoding="utf-8"))
    assert (facts["precision"], found.target) == ("int8", "web")
    assert found.int8 is not None and found.int8.tokens > 100


# Refusals


def test_a_folder_that_holds_something_else_is_refused(exported, tmp_path):
    run, _ = exported
    with pytest.raises(
        UsageError, match=r"holds config\.json.*, but no model that the target web has written\. Choose"
    ):
        keraslm.export(run, run.path, target="web")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match=r"is a file, but the target web writes a folder\. Choose a"):
        keraslm.export(run, tmp_path / "file", target="web")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_other_tokenizers_are_refused(tmp_path):
    run = make_run(tmp_path, LINES, tokenizer="unigram", vocab_size=80, units=4)
    with pytest.raises(UsageError) as refused:
        keraslm.export(run, tmp_path / "page", target="web")
    assert str(refused.value) == (
        f"{run.path} cannot become a file for target web: its page splits text into words, characters, bytes or "
        "byte-level BPE, as keraslm trains them, but the tokenizer of the run (unigram, a Unigram model) splits it in "
        "a different way. Train with `tokenizer` word, char, byte or bpe."
    )
    assert not (tmp_path / "page").exists()


CHANGES: dict[str, Any] = {
    "normalizer": lambda state: state.update(normalizer={"type": "NFC"}),
    "added tokens": lambda state: state["added_tokens"].append(
        {"id": 0, "content": "!", "special": True, "normalized": False, "single_word": False, "lstrip": False}
        | {"rstrip": False}
    ),
    "prefix": lambda state: state["pre_tokenizer"].update(add_prefix_space=True),
    "suffix": lambda state: state["model"].update(end_of_word_suffix="</w>"),
    "byte fallback": lambda state: state["model"].update(byte_fallback=True),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_byte_level_tokenizer_that_does_more_is_refused(change):
    state = json.loads(train_tokenizer(LINES, DataConfig(tokenizer="bpe", vocab_size=320)).to_json())
    assert web.tokenizer_facts(json.dumps(state)) == {"kind": "bytes", "lowercase": False, "split": True}
    CHANGES[change](state)
    assert web.tokenizer_facts(json.dumps(state)) is None


def test_the_symbols_of_a_speech_model_are_words(tmp_path):
    run = make_speech_run(tmp_path, num_layers=1)
    assert web.tokenizer_facts(run.tokenizer.to_json()) == {"kind": "word", "lowercase": False, "split": False}
