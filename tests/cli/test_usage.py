"""Help, wrong use, and the messages and exit codes of errors."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

import keraslm
from keraslm.commands.flags import ELSEWHERE, with_flags
from keraslm.errors import Interrupted
from keraslm.scoring import session
from tests.support.program import assert_refused, start

ROOT = Path(__file__).resolve().parents[2]
VERBS = ["train", "evaluate", "export", "score", "rescore", "pairs", "generate", "predict", "show"]

IMPORTED = """
import sys
from keraslm.cli import run
lines = "--help", "train --help", "show {}", "generate {} the", "score {}"
codes = [run([part.format(sys.argv[1]) for part in line.split()]) for line in lines]
print(sorted({"keras", "tensorflow", "jax", "torch"} & set(sys.modules)), codes, file=sys.stderr)
"""


HELPED = """
import sys
from keraslm.cli import run
code = run(["score", "--help"])
print(sorted({"numpy", "onnxruntime"} & set(sys.modules)), code, file=sys.stderr)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder for files that a command writes by mistake."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_program_lists_its_verbs_and_each_has_help(program):
    out = program("--help").out
    for verb in VERBS:
        outcome = program(verb, "--help")
        assert verb in out and (outcome.code, outcome.err) == (0, "")
        assert outcome.out.startswith(f"Usage: keraslm {verb} ")
    assert program("--version").out == f"{keraslm.__version__}\n"


def test_the_help_needs_no_numpy():
    """Importing it takes 50 ms, a sixth of the time until the help appears."""
    assert start(command=[sys.executable, "-c", HELPED]).err == "[] 0\n"


def test_the_help_of_train_lists_every_configuration_field(program):
    out = program("train", "--help").out
    for part in keraslm.Config().to_dict().values():
        for name in part:
            assert f"--{name.replace('_', '-')}" in out


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (["fly"], "fly"),
        (["show"], "PATH"),
        (["show", "a", "b"], "b"),
        (["score", "m.onnx", "--colour"], "--colour"),
        (["score", "m.onnx", "--level", "page"], "page"),
        (["score", "m.onnx", "--context"], "--context"),
        (["score", "m.onnx", "--provider", "tpu"], "tpu"),
        (["generate", "m.onnx", "--top-k", "many"], "many"),
        (["generate", "m.onnx", "--temperature", "hot"], "hot"),
        (["train", "--train", "gone.txt", "--epochs", "1.5"], "1.5"),
        (["generate", "m.onnx", "--max-tokens", "2.7"], "2.7"),
        (["train", "--preset", "huge"], "huge"),
        (["train", "--backend", "numpy"], "numpy"),
        (["evaluate", "run", "text", "--errors", "ignore"], "ignore"),
        (["export", "m.onnx", "n.onnx"], "n.onnx"),
    ],
)
def test_wrong_use_exits_with_2_and_one_sentence(program, line, found):
    outcome = program(*line)
    assert_refused(outcome, found, "keraslm --help")
    assert outcome.out == ""


@pytest.mark.parametrize(
    ("other", "flag"),
    [
        *(("lr", "learning-rate"), ("batch", "batch-size"), ("hidden", "units"), ("layers", "num-layers")),
        *(("dropout", "output-dropout"), ("epoch", "epochs"), ("val", "valid"), ("validation", "valid")),
        *(("vocab", "vocab-size"), ("bptt", "num-steps"), ("seq-len", "num-steps"), ("unit", "units")),
    ],
)
def test_the_names_of_other_programs_lead_to_the_flag(program, other, flag):
    for line in ([f"--{other}", "1"], [f"--{other}=1"]):
        assert_refused(program("train", *line), f"Unknown option: --{other}", f"Did you mean --{flag}?")


def test_every_flag_that_is_suggested_exists():
    helps = " ".join((ROOT / "docs" / "reference" / "cli.md").read_text().split())
    assert all(f"{flag} " in helps for flag in ELSEWHERE)


def test_a_text_without_a_flag_is_refused_with_the_flag(program):
    assert_refused(program("train", "a.txt", "b.txt"), "found a.txt b.txt", "use --train a.txt b.txt. See keraslm")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--units", "0"], "--units is 0, but must be at least 1"),
        (["--output-dropout", "1"], "--output-dropout is 1.0"),
        (["--learning-rate", "nan"], "--learning-rate is nan"),
        (["--data", "d", "--train", "t"], "give either --data, or --train and --valid"),
        (["--valid", "v"], "--valid is v, but --train is missing"),
    ],
)
def test_an_invalid_configuration_is_refused_before_anything_is_written(program, folder, flags, message):
    assert_refused(program("train", *flags), message)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("line", [["show", "gone.onnx", "--debug"], ["--debug", "show", "gone.onnx"]])
def test_debug_raises_the_error(program, line):
    with pytest.raises(keraslm.KeraslmError, match=r"gone\.onnx: cannot be read"):
        program(*line)


BUG = "unexpected ZeroDivisionError: by zero. This is a bug in keraslm; --debug shows the traceback."
STOPPED = "Stopped after window 3; a checkpoint is saved."


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ZeroDivisionError("by zero"), 1, BUG),
        (KeyboardInterrupt(), 130, "interrupted"),
        (Interrupted(STOPPED, signal.SIGINT), 130, f"Interrupted: {STOPPED}"),
        (Interrupted(STOPPED, signal.SIGTERM), 143, f"Interrupted: {STOPPED}"),
    ],
)
def test_every_error_is_one_line_with_an_exit_code(program, fake, monkeypatch, error, code, message):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(session, "ModelSession", fail)
    outcome = program("show", fake)
    assert (outcome.code, outcome.err) == (code, f"keraslm: {message}\n")


def test_scoring_generating_and_help_load_no_framework(fake):
    outcome = start(fake, stdin=b"the cat\n", command=[sys.executable, "-c", IMPORTED])
    assert (outcome.code, outcome.err) == (0, "[] [0, 0, 0, 0, 0]\n")


def test_the_program_exits_with_the_code_and_prints_a_traceback_on_debug():
    assert_refused(start("show", "gone.onnx"), "gone.onnx: cannot be read")
    outcome = start("show", "gone.onnx", "--debug")
    assert outcome.code == 1
    assert outcome.err.startswith("Traceback")
    assert "ModelFileError: gone.onnx: cannot be read" in outcome.err


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("`min_count` is 0.", "--min-count is 0."),
        ('`lr_final` needs `lr_schedule="cosine"`.', "--lr-final needs --lr-schedule cosine."),
        ("Pass `overwrite=True`.", "Pass --overwrite."),
        ("Use `learning_rate=0.001`.", "Use --learning-rate 0.001."),
        ("`with_runs` needs the same tokenizer.", "--with needs the same tokenizer."),
        ("a.txt: line 3 holds `a b` and ``.", "a.txt: line 3 holds `a b` and ``."),
    ],
)
def test_arguments_in_messages_are_shown_as_flags(message, shown):
    assert with_flags(message) == shown


@pytest.mark.parametrize("command", ["score", "pairs", "tokenize", "rescore"])
def test_a_file_may_begin_with_a_hyphen(program, fake, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    for name in ("-a.txt", "--best"):
        (tmp_path / name).write_text("the\tcat\n")
        start = [command, "--with", fake] if command == "tokenize" else [command, fake]
        assert_refused(program(*start, "--bset"), "Unknown option: --bset")
        assert program(*start, "--", name).code == 0
    assert program(*start, "-a.txt").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--train", ""], "--train is empty"),
        (["train", "--train="], "--train is empty"),
        (["train", "--train", "a.txt", ""], "The argument after a.txt is empty"),
        (["train", "--run", ""], "--run is empty"),
        (["train", "--data", ""], "--data is empty"),
        (["train", "--tokenizer", "", "--overwrite"], "--tokenizer is empty"),
        (["average", "a", "b", "--output", ""], "--output is empty"),
        (["evaluate", "", "a.txt"], "The argument after evaluate is empty"),
        (["evaluate", "run", "a.txt", "--with", ""], "--with is empty"),
        (["score", "m.onnx", ""], "The argument after m.onnx is empty"),
        (["generate", "m.onnx", "--with", ""], "--with is empty"),
    ],
)
def test_an_empty_argument_is_refused(program, tmp_path, monkeypatch, arguments, message):
    """A variable of the shell that is not set; `--run ""` would be the current folder."""
    monkeypatch.chdir(tmp_path)
    assert_refused(program(*arguments), message, "Perhaps a variable is not set")
    assert not [*tmp_path.iterdir()]


def test_a_prompt_may_be_empty(program, fake):
    assert program("generate", fake, "", "--max-tokens=1").code == 0
