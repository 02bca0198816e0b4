"""`keraslm evaluate` and `keraslm show`."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil

import pytest

import keraslm
from tests.support import fake_model
from tests.support.program import assert_refused, strict_json
from tests.support.tiny import HELD_OUT


def cells(out: str) -> dict[str, str]:
    """Lines `name   value` by name, split at the first two spaces."""
    pairs = (line.strip().split("  ", 1) for line in out.split("\n") if "  " in line.strip())
    return {name.strip(): value.strip() for name, value in pairs}


def test_evaluation_as_a_table(program, tiny_run, tiny_folder):
    text = tiny_folder / "held-out.txt"
    outcome = program("evaluate", tiny_run.path, text)
    expected = keraslm.evaluate(tiny_run, text)
    assert (outcome.code, outcome.err) == (0, "")
    shown = {line[:25].rstrip(): line[26:] for line in outcome.out.splitlines()}
    assert outcome.out == "".join(f"{row}\n" for row in expected.rows())
    assert [shown[name] for name in ("lines", "words", "tokens", "predicted tokens")] == ["7", "16", "23", "23"]
    characters = sum(len(line) + 1 for line in HELD_OUT)
    assert (shown["characters"], shown["bytes"]) == (str(characters), str(text.stat().st_size))
    assert (shown["text"], shown["counting"], shown["context"]) == (str(text), "every token", "document")
    assert shown["perplexity per token"] == f"{expected.perplexity:,.4f}"
    assert shown["bits per character"] == f"{expected.nats / math.log(2) / characters:,.4f}"


def test_evaluation_as_json_and_from_standard_input(program, tiny_run, tiny_folder):
    text = tiny_folder / "held-out.txt"
    values = strict_json(program("evaluate", tiny_run.path, text, "--json").out)
    assert values == keraslm.evaluate(tiny_run, text).to_dict()
    assert values["perplexity"] == pytest.approx(math.exp(values["nats"] / 23))
    piped = strict_json(program("evaluate", tiny_run.path, "-", "--json", stdin=text.read_bytes()).out)
    assert piped == values | {"text": "standard input"}


def test_the_validation_text_of_the_run_needs_no_name(program, tiny_run, tiny_folder):
    text = tiny_folder / "valid.txt"
    assert program("evaluate", tiny_run.path, "--valid").out == program("evaluate", tiny_run.path, text).out
    refused = program("evaluate", tiny_run.path, text, "--valid")
    assert_refused(refused, f"--valid evaluates the validation text of the run; leave out {text}")


def test_tutorial_counting_leaves_tokens_out(program, tiny_run, tiny_folder):
    values = strict_json(program("evaluate", tiny_run.path, tiny_folder / "valid.txt", "--tutorial", "--json").out)
    assert values["counting"] == "tutorial"
    rows, steps = tiny_run.config.train.batch_size, tiny_run.config.train.num_steps
    assert values["predicted"] == (values["tokens"] // rows - 1) // steps * rows * steps < values["tokens"]
    assert values["perplexity"] == pytest.approx(tiny_run.epochs()[-1]["val_perplexity"], rel=1e-4)


def test_evaluation_reports_faults_in_one_sentence(program, tiny_run, tmp_path, text):
    assert_refused(program("evaluate", tmp_path / "gone", text("the\n")), "gone: no such run folder")
    assert_refused(program("evaluate", tiny_run.path, text("")), "text.txt: 0 tokens")
    path = text(b"the cat\n\xff\n")
    assert_refused(program("evaluate", tiny_run.path, path), f"{path}:2:1: byte 0xff", "--errors replace")
    assert program("evaluate", tiny_run.path, path, "--errors", "replace").code == 0


def test_show_describes_a_run(program, tiny_run):
    outcome = program("show", tiny_run.path)
    assert (outcome.code, outcome.err) == (0, "")
    shown = cells(outcome.out)
    vocabulary = tiny_run.tokenizer.vocab_size
    assert shown["file"] == str(tiny_run.path.resolve())
    assert shown["vocabulary"] == str(vocabulary)
    assert shown["embedding/embeddings"] == f"{vocabulary} x 6"
    assert shown["lstm_0/kernel"] == "6 x 32"
    assert shown["units"] == "8"
    assert shown["epochs trained"] == "2"
    assert shown["tokenizer sha256"] == tiny_run.tokenizer.digest
    assert shown["weights sha256"] == hashlib.sha256(tiny_run.weights_path.read_bytes()).hexdigest()


def test_show_describes_a_run_as_json(program, tiny_run):
    facts = strict_json(program("show", tiny_run.path, "--json").out)
    vocabulary, last = tiny_run.tokenizer.vocab_size, tiny_run.epochs()[-1]
    # Embeddings of 6; four gates of 8 units over 6 inputs, 8 recurrent ones and a bias; the projection and its bias.
    assert facts["parameters"] == 6 * vocabulary + 4 * 8 * (6 + 8 + 1) + (8 + 1) * vocabulary
    assert (facts["perplexity"], facts["validation perplexity"]) == (last["perplexity"], last["val_perplexity"])
    assert facts["model"]["units"] == 8
    assert facts["train"]["epochs"] == 2


def test_show_omits_the_fields_that_layer_units_replaces(program, tiny_run, tmp_path):
    folder = shutil.copytree(tiny_run.path, tmp_path / "run")
    header = json.loads((folder / "config.json").read_text())
    header["model"] |= {"num_layers": 2, "units": 200, "layer_units": (8,)}  # the same network
    (folder / "config.json").write_text(json.dumps(header))
    model = strict_json(program("show", folder, "--json").out)["model"]
    assert model["layer_units"] == [8] and not {"num_layers", "units"} & model.keys()


def test_show_describes_a_model(program, tiny_model, tiny_run, fake):
    outcome = program("show", tiny_model)
    assert (outcome.code, outcome.err) == (0, "")
    shown = cells(outcome.out)
    assert shown["file"] == str(tiny_model)
    assert shown["written by"] == f"keraslm {keraslm.__version__}"
    assert shown["vocabulary"] == str(tiny_run.tokenizer.vocab_size)
    assert shown["model sha256"] == hashlib.sha256(tiny_model.read_bytes()).hexdigest()
    assert cells(program("show", fake).out)["validation perplexity"] == "none"


def test_show_describes_a_model_as_json(program, tiny_model, tiny_run):
    facts = strict_json(program("show", tiny_model, "--json").out)
    assert facts["parameters"] == strict_json(program("show", tiny_run.path, "--json").out)["parameters"]
    assert facts["tokenizer sha256"] == tiny_run.tokenizer.digest
    assert facts["validation perplexity"] == tiny_run.epochs()[-1]["val_perplexity"]
    assert facts["file"] == str(tiny_model)
    config = tiny_run.config.to_dict()
    assert {part: facts[part] for part in config} == config


def test_show_of_a_model_with_an_infinite_perplexity_is_json(program, tmp_path):
    info = fake_model.model_info(valid_perplexity=math.inf)
    path = fake_model.write(tmp_path / "model.onnx", info=info)
    assert strict_json(program("show", path, "--json").out)["validation perplexity"] is None


def test_show_of_a_model_with_a_damaged_configuration_fails(program, tmp_path):
    path = fake_model.write(tmp_path / "model.onnx", info=fake_model.model_info(config="{"))
    assert_refused(program("show", path), "config")


def test_show_fails_without_a_model_or_a_trained_run(program, tiny_run, tmp_path):
    assert_refused(program("show", tmp_path / "gone"), "gone: cannot be read (No such file or directory)")
    assert_refused(program("show", tmp_path), f"{tmp_path}: not a run folder, config.json is missing")
    copy = shutil.copytree(tiny_run.path, tmp_path / "copy")
    (copy / "weights.safetensors").unlink()
    assert_refused(program("show", copy), f"{copy}: no weights yet")


FORMATTED = re.compile(r"\s*[-+]?\d[\d,.]*(\s*[x,;]\s*[-+]?\d[\d,.]*|\s+\d[\d,.]*)*\s*%?\s*")


def strings_of(value):
    if isinstance(value, dict | list):
        return [text for inner in (value.values() if isinstance(value, dict) else value) for text in strings_of(inner)]
    return [value] if isinstance(value, str) else []


def test_json_holds_numbers_as_numbers(program, tiny_run, tiny_model, tiny_folder):
    assert all(map(FORMATTED.fullmatch, ["4,522 x 128", "0, 2", "3", "1.5 %"]))
    text = tiny_folder / "held-out.txt"
    lines = [
        ["show", tiny_run.path],
        ["show", tiny_model],
        ["score", tiny_model, text, "--level", "summary", "--signature"],
        ["tokenize", "--with", tiny_run.path, text, "--level", "summary"],
        ["evaluate", tiny_run.path, text, "--neural-cache", "--temperature", "1.2"],
    ]
    for line in lines:
        found = strict_json(program(*line, "--json").out)
        assert not [each for each in strings_of(found) if FORMATTED.fullmatch(each)]
    shown = strict_json(program("show", tiny_model, "--json").out)
    assert shown["layers"]["embedding/embeddings"] == [tiny_run.tokenizer.vocab_size, 6]
