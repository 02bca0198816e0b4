"""`keraslm export --target`, and files for other programs given to commands of keraslm."""

from __future__ import annotations

import json
import re

import pytest

import keraslm
from keraslm.errors import ModelFileError
from keraslm.scoring import contract, kenlm
from tests.support import fake_model
from tests.support.made_run import make_run, make_speech_run
from tests.support.program import assert_refused


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_speech_run(tmp_path_factory.mktemp("run"), num_layers=1)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """Paths of the files by target."""
    folder = tmp_path_factory.mktemp("exported")
    paths = {name: folder / f"{name}.onnx" for name in ("sherpa-streaming", "rasr")}
    for name, path in paths.items():
        keraslm.export(run, path, target=name)
    return paths


def test_the_report_names_the_reader_and_all_files(program, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = program("export", "lm.onnx", "--run", run.path, "--target", "rasr")
    assert (outcome.code, outcome.err) == (0, "")
    assert re.fullmatch(
        r"export    .*/run -> lm\.onnx: converting in a new process\n"
        r"verified  4 shapes; largest difference Keras - onnxruntime \d\.\d\de-\d\d nats, "
        r"alone - in a batch \d\.\d\de[-+]\d\d nats\n"
        r"graph     LSTM nodes: 1; no loops; all weights finite\n"
        r"target    rasr: read by RASR, as a language model of type onnx\n"
        r"done      lm\.vocab\.txt\n"
        r"done      lm\.onnx \(0\.0 MB\)\n",
        outcome.out,
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lm.onnx", "lm.vocab.txt"]


def test_what_a_target_cannot_use_is_refused(program, run, tmp_path):
    model = tmp_path / "lm.onnx"
    outcome = program("export", model, "--run", run.path, "--target", "rasr", "--int8")
    assert_refused(outcome, "Target rasr is written in float32 only; export without --int8.")
    outcome = program("export", model, "--run", run.path, "--target", "sherpa-streaming", "--text", "text.txt")
    assert_refused(outcome, "--text is used only to compare int8 with float32; it needs --int8.")
    assert_refused(program("export", model, "--run", run.path, "--target", "kaldi"), "kaldi")
    assert list(tmp_path.iterdir()) == []


def test_show_names_the_target_of_each_file(program, run, exported, fake):
    found = json.loads(program("show", exported["sherpa-streaming"], "--json").out)
    assert found["target"] == "sherpa-streaming" and "OnlineRecognizer" in found["read by"]
    assert found["inputs"] == {"x": "int64 [N, 1]", "h0": "float32 [1, N, 6]", "c0": "float32 [1, N, 6]"}
    assert found["metadata"]["sos_id"] == "1" and found["written by"] == f"keraslm {keraslm.__version__}"
    found = json.loads(program("show", exported["rasr"], "--json").out)
    assert found["target"] == "rasr" and found["inputs"]["word-length"] == "int32 [B]"
    assert found["metadata"]["STATE_c_0"] == "next_c_0"
    outcome = program("show", exported["rasr"])
    assert outcome.code == 0 and re.search(r"^target +rasr$", outcome.out, re.MULTILINE)
    found = json.loads(program("show", fake, "--json").out)
    assert (found["target"], found["read by"]) == ("onnx", "keraslm and onnxruntime")


@pytest.mark.parametrize(
    "line",
    [
        ("score", "MODEL", "text.txt"),
        ("score", "MODEL", "text.txt", "--workers", "1", "--output", "scores"),
        ("score", "FAKE", "text.txt", "--with", "MODEL"),
        ("generate", "MODEL"),
        ("rescore", "MODEL", "text.txt"),
        ("pairs", "MODEL", "text.txt"),
    ],
    ids=" ".join,
)
def test_commands_refuse_files_for_other_programs(program, exported, fake, tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("u1\t-1\tthe cat\n")
    for target, reader in (("sherpa-streaming", "read by sherpa-onnx, as the"), ("rasr", "read by RASR")):
        places = {"MODEL": exported[target], "FAKE": fake}
        outcome = program(*(places.get(part, part) for part in line))
        sentence = f"{exported[target]}: export target {target}, which is {reader}"
        assert_refused(outcome, sentence, "Make a model for keraslm with: keraslm export")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["text.txt"]


def test_python_refuses_files_for_other_programs(exported):
    for call in (keraslm.load, keraslm.ModelSession, kenlm.Model):
        with pytest.raises((ModelFileError, OSError), match="export target rasr, which is read by RASR"):
            call(str(exported["rasr"]))


def test_a_damaged_file_of_a_target_is_reported_as_damaged(program, exported, tmp_path):
    data = bytearray(exported["rasr"].read_bytes())
    (tmp_path / "cut.onnx").write_bytes(data[:-10])
    assert_refused(program("show", tmp_path / "cut.onnx"), "has no checksum at its end")
    data[len(data) // 2] ^= 1
    (tmp_path / "flipped.onnx").write_bytes(data)
    for command in ("show", "generate"):
        assert_refused(program(command, tmp_path / "flipped.onnx"), "damaged: its checksum does not match")


def test_a_target_of_a_later_version_is_not_scored(program, tmp_path, monkeypatch):
    written = contract.ModelInfo.to_metadata
    monkeypatch.setattr(contract.ModelInfo, "to_metadata", lambda self: written(self) | {"keraslm_target": "later"})
    path = fake_model.write(tmp_path / "later.onnx")
    assert_refused(program("generate", path), "export target later, which is read by a different program")
    assert json.loads(program("show", path, "--json").out)["target"] == "later"


def test_a_folder_for_transformers(program, run, tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    outcome = program("export", "mine", "--run", run.path, "--target", "hf")
    assert (outcome.code, outcome.err) == (0, "")
    assert re.fullmatch(
        r"export    .*/run -> mine: converting in a new process\n"
        r"verified  4 shapes; largest difference Keras - transformers \d\.\d\de-\d\d nats, "
        r"loss \d\.\d\de[-+]\d\d nats\n"
        r"target    hf: read by transformers, with trust_remote_code=True\n"
        r"done      mine \(0\.0 MB\)\n",
        outcome.out,
    )
    facts = json.loads(program("show", "mine", "--json").out)
    assert (facts["target"], facts["read by"]) == ("hf", "transformers, with trust_remote_code=True")
    assert facts["configuration"]["hidden_size"] == run.config.model.sizes[-1]
    refused = program("export", "mine", "--run", run.path, "--target", "hf", "--all-checkpoints")
    assert_refused(refused, "has kept no weights at numbers of words. Train with --save-at-words")
    refused = program("export", "mine", "--run", run.path, "--target", "hf", "--all-checkpoints", "--int8")
    assert_refused(
        refused, "--all-checkpoints writes all kept weights in float32: leave out --int8, --text, --weights."
    )
    refused = program("export", "mine", "--run", run.path, "--all-checkpoints")
    assert_refused(refused, "--all-checkpoints needs --target hf")
    refused = program("export", "mine", "--run", run.path, "--target", "hf", "--int8")
    assert_refused(refused, "written in float32 only; export without --int8")


def test_a_folder_for_browsers(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path, units=4, num_layers=1)
    outcome = program("export", "page", "--run", run.path, "--target", "web")
    assert (outcome.code, outcome.err) == (0, "")
    assert re.fullmatch(
        r"export    .*/run -> page: converting in a new process\n"
        r"verified  4 shapes; largest difference Keras - onnxruntime \d\.\d\de-\d\d nats, "
        r"one pass - chunks \d\.\d\de[-+]\d\d nats\n"
        r"graph     LSTM nodes: 1; no loops; all weights finite\n"
        r"target    web: read by a web browser, through the page in the folder\n"
        r"done      page \(0\.0 MB\)\n",
        outcome.out,
    )
    facts = json.loads(program("show", "page", "--json").out)
    assert (facts["target"], facts["file"]) == ("web", "page/model.onnx")
    assert facts["read by"] == "a web browser, through the page in the folder"
    assert json.loads(program("show", "page/model.onnx", "--json").out)["target"] == "onnx"
    (tmp_path / "text.txt").write_text("the cat\n")
    assert program("score", "page/model.onnx", "text.txt").code == 0
    refused = program("export", "page", "--run", run.path, "--target", "hf")
    assert_refused(refused, "but no model that the target hf has written. Choose a new folder.")
