"""`keraslm evaluate` with test-time techniques: table, JSON and errors."""

from __future__ import annotations

import pytest

import keraslm
from tests.support.program import assert_refused, strict_json


def test_the_table_lists_each_technique_below_the_plain_perplexity(program, tiny_run, tiny_folder):
    text = tiny_folder / "held-out.txt"
    flags = ["--temperature", "tune", "--neural-cache", "--cache-window", 50, "--cache-lambda", 0.1]
    outcome = program("evaluate", tiny_run.path, text, *flags)
    expected = keraslm.evaluate(
        tiny_run, text, temperature="tune", neural_cache=True, cache_window=50, cache_lambda=0.1
    )
    assert (outcome.code, outcome.err) == (0, "")
    plain, table = outcome.out.split("\n\n")
    assert plain == "\n".join(keraslm.evaluate(tiny_run, text).rows())
    lines = table.splitlines()
    assert lines[0].split() == ["test", "time", "perplexity"]
    assert lines[1].split() == ["plain", f"{expected.perplexity:.4f}"]
    heat, both = expected.variants
    valid = tiny_folder / "valid.txt"
    temperature, theta = heat.parameters["temperature"], both.parameters["theta"]
    assert lines[2].split(maxsplit=2)[1:] == [
        f"{heat.perplexity:.4f}",
        f"temperature {temperature:g} tuned on {valid}",
    ]
    assert lines[3].startswith("temperature + neural cache ") and lines[3].endswith(
        f"  window 50, lambda 0.1; temperature {temperature:g}, theta {theta:g} tuned on {valid}"
    )
    assert len(lines) == 4


def test_a_note_marks_a_number_tuned_on_the_evaluated_text(program, tiny_run, tiny_folder):
    outcome = program("evaluate", tiny_run.path, tiny_folder / "valid.txt", "--neural-cache")
    note = "note: 'neural cache' was tuned on the evaluated text; this number is optimistic"
    assert outcome.out.splitlines()[-1] == note


def test_variants_as_json(program, tiny_run, tiny_folder):
    text = tiny_folder / "held-out.txt"
    values = strict_json(program("evaluate", tiny_run.path, text, "--mc-dropout", 2, "--seed", 4, "--json").out)
    assert values == keraslm.evaluate(tiny_run, text, mc_dropout=2, seed=4).to_dict()
    (variant,) = values["variants"]
    assert (variant["name"], variant["parameters"]) == ("mc dropout", {"passes": 2, "seed": 4})
    assert variant["tuned_on"] is None and variant["optimistic"] is False
    # The run was trained without dropout.
    assert variant["perplexity"] == pytest.approx(values["perplexity"], rel=1e-5)


def test_with_can_be_repeated(program, tiny_run, tiny_folder):
    flags = ["--with", tiny_run.path, "--with", tiny_run.path]
    text = tiny_folder / "held-out.txt"
    values = strict_json(program("evaluate", tiny_run.path, *flags, text, "--json").out)
    assert [variant["name"] for variant in values["variants"]] == [*[f"run {tiny_run.path}"] * 3, "ensemble"]
    assert values["variants"][-1]["perplexity"] == pytest.approx(values["perplexity"], rel=1e-5)


def test_tune_on_names_the_text(program, tiny_run, tiny_folder):
    text, other = tiny_folder / "valid.txt", tiny_folder / "held-out.txt"
    values = strict_json(
        program("evaluate", tiny_run.path, "--temperature", "tune", "--tune-on", other, text, "--json").out
    )
    assert values["variants"][0]["tuned_on"] == str(other)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--temperature", "0"], "--temperature is 0.0, but must be a number above 0, or tune"),
        (["--temperature", "warm"], "Invalid value"),
        (["--mc-dropout", "1.5"], "is not an integer"),
        (["--mc-dropout", "2", "--neural-cache"], "--neural-cache and --mc-dropout cannot be combined"),
        (["--with", "gone"], "gone: no such run folder"),
        (["--temperature", "tune", "--tune-on", "gone.txt"], "gone.txt: cannot be read"),
        (
            ["--temperature", "2", "--tune-on", "a.txt"],
            "--tune-on is a.txt, but nothing is tuned. Add --temperature tune",
        ),
    ],
)
def test_errors_name_flags(program, tiny_run, tiny_folder, flags, words):
    assert_refused(program("evaluate", tiny_run.path, tiny_folder / "held-out.txt", *flags), words)


def test_the_help_groups_the_test_time_flags(program):
    shown = program("evaluate", "--help").out
    plain, group = shown.split("─ Test time")
    assert "--cache STR" in plain and "--neural-cache" not in plain
    for flag in ("--temperature", "--neural-cache", "--dynamic", "--mc-dropout", "--with", "--tune-on"):
        assert flag in group
    assert "()" not in shown
