"""Target `web`: a folder with a page that scores a line and predicts its next word, inside the browser.

    model.onnx       the model file of keraslm, float32 or int8; `keraslm score` reads it too
    tokenizer.json   the tokenizer of the run, as in the metadata of the file, which JavaScript cannot read
    model.json       what else the page must know: `page_facts`
    index.html, page.css, icon.svg, page.js, tokenizer.js, model.js, suggest.js, package.json

The page needs the package `onnxruntime-web`, which `npm install --ignore-scripts` puts into the folder, and any server
of static files; browsers load no modules from `file:`. It reads the files of its folder and nothing else. The text is
one line, scored with `context="sentence"`.

The script has tokenizers of its own, for words, characters, bytes and byte-level BPE, split as keraslm splits them.
Other tokenizers are refused.
"""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from keraslm.pictures.markup import color_rules
from keraslm.runs.run import Run
from keraslm.scoring.rows import MAX_LOGITS, MAX_STEPS
from keraslm.scoring.session import ModelSession
from keraslm.system import VERSION
from keraslm.text.encoders import CHARACTERS, byte_names
from keraslm.text.vocabulary import MARKS
from keraslm_export.targets import ExportReport, Options, onnx
from keraslm_export.targets.folders import check_folder, publish
from keraslm_export.targets.requirements import refuse

NAME = "web"
INT8 = True
PAGE = Path(__file__).with_name("page")
FACTS = "model.json"
MARK = (FACTS, "target", NAME)

_WORDS = {"type": "WhitespaceSplit"}
# Settings of a BPE model that does more than to merge bytes.
_CHANGES = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges")


def check(run: Run) -> None:
    if tokenizer_facts(run.tokenizer.to_json()) is None:
        kind, model = run.config.data.tokenizer, json.loads(run.tokenizer.to_json())["model"]["type"]
        raise refuse(
            run,
            NAME,
            "its page splits text into words, characters, bytes or byte-level BPE, as keraslm trains them, but the "
            f"tokenizer of the run ({kind}, a {model} model) splits it in a different way. Train with `tokenizer` "
            "word, char, byte or bpe.",
        )


def write(run: Run, path: Path, options: Options) -> ExportReport:
    """Write a run as a folder for browsers; the model file in it is verified first, as that of target `onnx` is.

    Args:
        run: with the weights it was opened with.
        path: a new or empty folder, or one that this function has written, whose files are then replaced.
        options: as for the model file.

    Raises:
        UsageError: the page cannot split text as the tokenizer does, or the folder holds something else. Other errors
            as of `keraslm.export`.
    """
    own = check_folder(path, NAME, MARK)
    with tempfile.TemporaryDirectory(prefix="keraslm-web-") as made:
        model = Path(made) / "model.onnx"
        report = onnx.write(run, model, options)
        files = folder_files(run, model, path.resolve().name)
    publish(path, files, own)
    return replace(report, path=path, bytes=sum(map(len, files.values())), target=NAME)


def folder_files(run: Run, model: Path, title: str) -> dict[str, bytes]:
    """The files of the folder, by name; `model` is a model file of the run."""
    files = {"model.onnx": model.read_bytes(), "tokenizer.json": run.tokenizer.to_json().encode()}
    files |= {path.name: path.read_bytes() for path in sorted(PAGE.iterdir()) if path.is_file()}
    dark = f"@media (prefers-color-scheme: dark) {{\n{color_rules('dark')}}}\n"
    files["page.css"] += (color_rules("light") + dark).encode()
    facts = json.dumps(page_facts(run, model) | {"title": title}, indent=2, ensure_ascii=False)
    return files | {FACTS: f"{facts}\n".encode()}


def page_facts(run: Run, model: Path) -> dict[str, Any]:
    """Special ids, the shape `[layers, rows, units]` of a state, and how the model file is called.

    `steps` is the largest number of tokens per call: that of `Scorer`, on which 8-bit scores depend.
    """
    session = ModelSession(model, "cpu")
    info, config = session.info, run.config.model
    perplexity = info.valid_perplexity
    return {
        "target": NAME,
        "keraslm_version": VERSION,
        **(tokenizer_facts(run.tokenizer.to_json()) or {}),
        "unk_id": info.unk_id,
        "eos_id": info.eos_id,
        "vocab_size": info.vocab_size,
        "layers": info.num_layers,
        "units": info.hidden_size,
        "steps": max(1, min(MAX_STEPS, MAX_LOGITS // session.logits_per_token)),
        "precision": info.precision,
        "cell": config.cell,
        "sizes": list(config.sizes),
        "valid_perplexity": perplexity if math.isfinite(perplexity) else None,
    }


def tokenizer_facts(text: str) -> dict[str, Any] | None:
    """How the page splits text as the tokenizer of a `tokenizer.json` does; None if it cannot.

    `kind` is `"word"`, `"char"` or `"bytes"`, before any merges. `lowercase` is as in the configuration. `split` says
    that words are split at punctuation, or bytes into the words of GPT-2.
    """
    state = json.loads(text)
    model, cutter, normalizer = state["model"], state["pre_tokenizer"] or {}, state["normalizer"]
    cuts = cutter["pretokenizers"] if cutter.get("type") == "Sequence" else [cutter]
    found = _bytes(model, cuts) if model["type"] == "BPE" else _symbols(model, cuts)
    if found is None or normalizer not in (None, {"type": "Lowercase"}) or state["added_tokens"]:
        return None
    kind, split = found
    return {"kind": kind, "lowercase": normalizer is not None, "split": split}


def _symbols(model: dict[str, Any], cuts: list[dict[str, Any]]) -> tuple[str, bool] | None:
    if model["type"] != "WordLevel":
        return None
    known = {"word": [_WORDS], "marks": [_WORDS, _split(MARKS)], "char": [_split(CHARACTERS)]}
    kind = next((name for name, steps in known.items() if steps == cuts), None)
    return None if kind is None else ("char" if kind == "char" else "word", kind == "marks")


def _bytes(model: dict[str, Any], cuts: list[dict[str, Any]]) -> tuple[str, bool] | None:
    plain = not any(model.get(name) for name in _CHANGES) and set(byte_names()) <= model["vocab"].keys()
    fits = [cut.get("type") for cut in cuts] == ["ByteLevel"] and not cuts[0]["add_prefix_space"]
    return ("bytes", cuts[0]["use_regex"]) if plain and fits else None


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
