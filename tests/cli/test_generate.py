"""`keraslm generate` on a model whose answers are formulas."""

from __future__ import annotations

import pytest

from tests.support.program import assert_refused


def test_a_prompt_is_continued_until_the_end_of_its_line(program, fake):
    outcome = program("generate", fake, "the cat", "--seed", 3)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("the cat")
    assert outcome.out.count("\n") == 1 and outcome.out.endswith("\n")
    assert set(outcome.out.split()) <= {"the", "cat", "dog", "sat"}


def test_the_same_seed_gives_the_same_text(program, fake):
    line = ["generate", fake, "--max-tokens", 40, "--through-lines", "--seed"]
    assert program(*line, 1).out == program(*line, 1).out
    assert program(*line, 1).out != program(*line, 2).out


def test_words_are_separated_by_one_space(program, fake):
    line = ["--temperature", 0, "--max-tokens", 3]
    assert program("generate", fake, *line).out == "dog dog dog\n"
    assert program("generate", fake, "the", *line).out == "the dog dog dog\n"
    assert program("generate", fake, "the ", *line).out == "the dog dog dog\n"
    assert program("generate", fake, "the cat", "--max-tokens", 0).out == "the cat\n"


def test_lines_are_broken_at_the_end_symbol(program, fake):
    out = program("generate", fake, "--max-tokens", 200, "--through-lines", "--seed", 1).out
    assert "<eos>" not in out and " \n" not in out and "\n " not in out
    assert out.count("\n") > 5
    assert out.endswith("\n")


def test_the_unknown_word_is_drawn_on_request_only(program, fake):
    line = ["generate", fake, "--temperature", 0, "--max-tokens", 1]
    assert program(*line).out == "dog\n"
    assert program(*line, "--allow-unk").out == "<unk>\n"


def test_top_k_and_top_p_restrict_the_words(program, fake):
    line = ["generate", fake, "--max-tokens", 60, "--through-lines", "--seed", 1]
    assert set(program(*line, "--top-k", 2).out.split()) == {"dog", "cat"}
    assert set(program(*line, "--top-p", 0.2).out.split()) == {"dog"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--temperature", "-1"], " is -1.0, but must be 0 or more and finite"),
        (["--max-tokens", "-4"], " is -4, but must be 0 or more"),
        (["--temperature", "nan"], " is nan, but must be 0 or more and finite"),
        (["--top-k", "0"], " is 0, but must be at least 1"),
        (["--top-p", "0"], " is 0.0, but must be above 0 and at most 1"),
    ],
)
def test_bad_settings_are_refused(program, fake, flags, message):
    outcome = program("generate", fake, "the", *flags)
    assert_refused(outcome, message)
    assert outcome.out == ""


FLAGS = ["--max-tokens", 1, "--temperature", 0]


@pytest.mark.parametrize("prompt", ["- the cat", "-5", "--the cat", "-- the"])
def test_a_prompt_may_begin_with_a_hyphen(program, fake, prompt):
    assert program("generate", fake, prompt, *FLAGS).out == f"{prompt} dog\n"


def test_a_prompt_is_read_from_standard_input(program, fake):
    for data in (b"the cat\n", b"the cat"):
        assert program("generate", fake, "-", *FLAGS, stdin=data).out == "the cat dog\n"
    assert program("generate", fake, "-", *FLAGS, stdin=b"").out == "dog\n"
    assert_refused(program("generate", fake, "-", stdin=b"the\ncat\n"), "standard input: 2 lines, but a prompt is")
    assert_refused(program("generate", fake, "-", stdin=b"\xff"), "standard input: not UTF-8. Convert")


def test_a_prompt_after_two_hyphens_is_no_option(program, fake):
    assert_refused(program("generate", fake, "--temprature"), "Unknown option: --temprature; put -- before it")
    for prompt in ("--temprature", "--debug", "-h"):
        assert program("generate", fake, *FLAGS, "--", prompt).out == f"{prompt} dog\n"
