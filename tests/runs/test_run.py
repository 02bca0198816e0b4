"""Opening, creating and replacing a run folder; damaged files are tested in `cli/test_run_faults.py`."""

import hashlib
import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from keraslm.config import Config
from keraslm.errors import RunError, WriteError
from keraslm.runs.create import check_free, create_run, update_config
from keraslm.runs.files import KEPT, TENSORBOARD, files_of
from keraslm.runs.folder import LATEST
from keraslm.runs.run import Run
from keraslm.text.files import TextFile
from tests.support.words import encode_text, train_words

TOKENIZER = train_words(["a b c"])

# Creating a run


def test_a_run_is_created_and_latest_points_to_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("runs/one", "elsewhere/two"):
        create_run(Run(Path(name), Config(), TOKENIZER), "jax", overwrite=False)
        assert LATEST.resolve() == (tmp_path / name).resolve()
        assert Run.open(LATEST).tokenizer.to_json() == TOKENIZER.to_json()
    assert sorted(path.name for path in Path("runs").iterdir()) == ["latest", "one"]


def test_overwriting_removes_exactly_the_files_that_the_previous_run_listed(run_copy, monkeypatch):
    monkeypatch.chdir(run_copy.parent)
    update_config(Run.open(run_copy), Config(), "jax", files=(KEPT, TENSORBOARD))
    checkpoints = run_copy / "checkpoints"
    mine = [
        checkpoints / "model.pt",
        checkpoints / ".keep" / "a",
        checkpoints / "0002-00000000" / "note",
        run_copy / "x",
    ]
    mine += [run_copy / "tensorboard" / "mine", run_copy / "weights-1.safetensors", run_copy / ".config.json.swp"]
    own = [run_copy / "weights-001.safetensors", run_copy / "tensorboard" / "events.out.tfevents.1.host"]
    for path in (*mine, *own, run_copy / ".config.json.abcdefgh.keraslm"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
    (checkpoints / "0002-00000000" / "SHA256SUMS").unlink()
    run = Run(run_copy, Config(), TOKENIZER)
    create_run(run, "jax", overwrite=True)
    mine[2] = checkpoints / ".0002-00000000.old" / "note"
    left = {path for path in run_copy.rglob("*") if path.is_file()}
    assert left == {run_copy / "config.json", run_copy / "tokenizer.json", *mine}
    assert run.epochs() == [] and Run.open(run_copy).config == Config()


FOREIGN = ["checkpoints/model.pt", "tensorboard/a", "best.safetensors", "metrics.jsonl", "tokenizer.json", "notes.txt"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", [*FOREIGN, "config.json"])
def test_a_folder_with_other_files_is_refused(tmp_path, monkeypatch, name, overwrite):
    """A `config.json` of Hugging Face, for example, does not make a folder a run."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w" / name
    path.parent.mkdir(parents=True)
    path.write_text('{"model_type": "llama", "vocab_size": 3}')
    with pytest.raises(
        RunError, match=rf"w holds {name.partition('/')[0]}, but no run of keraslm\. Choose a new or empty"
    ):
        create_run(Run(Path("w"), Config(), TOKENIZER), "jax", overwrite)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


def test_a_file_that_the_previous_run_did_not_write_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = Run(Path("run"), Config(), TOKENIZER, files=files_of(valid=False, keep_weights=0, tensorboard=False))
    create_run(plain, "jax", overwrite=False)
    best = Path("run/best.safetensors")
    best.write_text("mine")
    validated = replace(plain, files=files_of(valid=True, keep_weights=0, tensorboard=False))
    with pytest.raises(RunError, match=r"best\.safetensors was not written by the run in this folder"):
        create_run(validated, "jax", overwrite=True)
    with pytest.raises(RunError, match=r"best\.safetensors was not written by the run in this folder"):
        update_config(Run.open("run"), Config(), "jax", validated.files)
    create_run(plain, "jax", overwrite=True)
    assert best.read_text() == "mine"


def test_runs_latest_is_not_the_folder_of_a_new_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("runs/latest", "./runs/../runs/latest/", str(tmp_path / "runs" / "latest")):
        with pytest.raises(RunError, match=r"latest is the link to the last run\. Choose a different `run`"):
            create_run(Run(Path(name), Config(), TOKENIZER), "jax", overwrite=True)
    assert not Path("runs").exists()


def test_a_folder_that_cannot_be_written_is_a_write_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    with pytest.raises(WriteError, match=r"file/run: cannot be written \(File exists\)"):
        create_run(Run(Path("file/run"), Config(), TOKENIZER), "jax", overwrite=False)


def test_check_free(run_copy, tmp_path):
    (tmp_path / "empty").mkdir()
    check_free(tmp_path / "empty", overwrite=False)
    check_free(tmp_path / "absent", overwrite=False)
    check_free(run_copy, overwrite=True)
    message = r"copy already holds a run\. Choose a different `output`, or replace it with `overwrite=True`\."
    with pytest.raises(RunError, match=message):
        check_free(run_copy, False, "output")
    with pytest.raises(RunError, match=r"config\.json is a file, but a run needs a folder"):
        check_free(run_copy / "config.json", overwrite=True)


def change(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_repr_is_one_line(trained_run, config, tmp_path):
    start = f"lstm of 2 x 6 units, {trained_run.tokenizer.vocab_size} tokens"
    perplexity = trained_run.epochs()[-1]["val_perplexity"]
    assert repr(trained_run) == f"Run('{trained_run.path}': {start}, 3 epochs, val_perplexity {perplexity:.2f})"
    other = replace(trained_run, path=tmp_path, config=config.replace(layer_units=(6, 4)))
    assert repr(other) == f"Run('{tmp_path}': {start.replace('2 x 6', '6, 4')}, 0 epochs)"
    (tmp_path / "metrics.jsonl").write_text("{\n")
    assert repr(other).endswith(" tokens)")


def test_a_missing_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="absent: no such run folder"):
        Run.open("absent")
    with pytest.raises(RunError, match=r"runs/latest: no such run folder\. Train one first"):
        Run.open(LATEST)


def test_a_run_has_the_fingerprints_of_its_texts(trained_run, run_copy, config):
    expected = {}
    for split in ("train", "valid"):
        ids = encode_text(trained_run.tokenizer, TextFile(getattr(config.data, split)[0]))
        digest = hashlib.sha256(struct.pack(f"<{len(ids)}i", *ids.tolist())).hexdigest()
        expected[split] = {"tokens": len(ids), "sha256": digest}
    assert trained_run.texts == Run.open(trained_run.path).texts == expected
    update_config(Run.open(run_copy), Config(), "jax")
    assert Run.open(run_copy).texts == expected and Run.open(run_copy).config == Config()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_missing_file_is_named(run_copy, name):
    (run_copy / name).unlink()
    with pytest.raises(RunError, match=rf"copy: not a run folder, {name} is missing"):
        Run.open(run_copy)


@pytest.mark.parametrize("version", [None, 0, 3, True, "2"])
def test_a_different_format_version_is_refused(run_copy, version):
    change(run_copy / "config.json", format_version=version)
    with pytest.raises(RunError, match=rf"config\.json: format version {version!r}, but this keraslm reads 1 to 2"):
        Run.open(run_copy)


@pytest.mark.parametrize("size", [100, None, "13"])
def test_a_vocabulary_of_a_different_size_is_refused_with_both_numbers(run_copy, trained_run, size):
    change(run_copy / "config.json", vocab_size=size)
    message = f"tokenizer.json has {trained_run.tokenizer.vocab_size} tokens, but config.json says {size!r}"
    with pytest.raises(RunError, match=message):
        Run.open(run_copy)


def test_epochs_are_the_rows_with_a_perplexity(run_copy):
    run = Run.open(run_copy)
    run.metrics_path.write_text('{"epoch": 1, "window": 3, "loss": 2.0}\n{"epoch": 1, "loss": 2.0, "perplexity": 7}\n')
    assert run.epochs() == [{"epoch": 1, "loss": 2.0, "perplexity": 7}]
    run.append({"epoch": 2, "perplexity": 6})
    assert [row["epoch"] for row in run.epochs()] == [1, 2]
    run.metrics_path.unlink()
    assert run.epochs() == []


@pytest.mark.parametrize("half", [b"{", b'{"epoch": 2, "perplexity": 6}', b'{"a": "\xc3'])
def test_an_unfinished_last_row_is_ignored(run_copy, half):
    run = Run.open(run_copy)
    run.metrics_path.write_bytes(b'{"epoch": 1, "perplexity": 7}\n' + half)
    assert run.epochs() == [{"epoch": 1, "perplexity": 7}]
