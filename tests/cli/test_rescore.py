"""`keraslm rescore` on a model whose answers are formulas: <eos> 1/21, sat 2, the 3, cat 4, dog 5, <unk> 6."""

from __future__ import annotations

import gzip
import importlib.util
import json
import math

import pytest

from tests.support.program import assert_refused

with_jiwer = pytest.mark.skipif(importlib.util.find_spec("jiwer") is None, reason="jiwer is not installed")

LISTS = "u1\t-10\t-4\tthe cat sat\nu1\t-9.5\t-4\tthe cat\nu2\t-7\t-2\tdog\nu2\t-7.5\t-2\t\n"
SCORED = (
    "u1\t-10\t-4\t-9.000036\tthe cat sat\nu1\t-9.5\t-4\t-6.648661\tthe cat\n"
    "u2\t-7\t-2\t-4.479607\tdog\nu2\t-7.5\t-2\t-3.044523\t\n"
)


def test_each_row_gets_the_score_of_the_model(program, fake, text):
    outcome = program("rescore", fake, text(LISTS))
    assert (outcome.code, outcome.out, outcome.err) == (0, SCORED, "")
    assert math.log(3 * 4 * 2 * 1 / 21**4) == pytest.approx(-9.000036, abs=1e-6)


@pytest.mark.parametrize("names", [[], ["-"]])
def test_standard_input_is_read(program, fake, names):
    assert program("rescore", fake, *names, stdin=gzip.compress(LISTS.encode())).out == SCORED


def test_a_header_is_kept_and_names_the_new_score(program, fake, text):
    path = text("utterance\tam\tlm\ttext\n" + LISTS)
    assert program("rescore", fake, path).out == "utterance\tam\tlm\tlm_logprob\ttext\n" + SCORED
    assert program("rescore", fake, path, "--name", "rnn").out.startswith("utterance\tam\tlm\trnn\ttext\n")
    assert_refused(program("rescore", fake, path, "--name", "am"), "a score am already exists; choose a different")


def test_a_header_without_scores_is_kept(program, fake, text):
    path = text("utterance\ttext\nu2\tdog\n")
    assert program("rescore", fake, path).out == "utterance\tlm_logprob\ttext\nu2\t-4.479607\tdog\n"


def test_an_input_that_a_folder_or_a_pattern_stands_for_is_not_replaced(program, fake, text, tmp_path):
    for name in ("lists.tsv", "said.tsv", "before.tsv"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "only.tsv").write_text("u1\tthe\n")
    for flags in (
        [tmp_path / "lists.tsv"],
        [tmp_path / "lists.tsv" / "*.tsv"],
        [text(LISTS), "--references", tmp_path / "said.tsv"],
        [text(LISTS), "--prefixes", tmp_path / "before.tsv" / "o*"],
    ):
        output = tmp_path / (flags[-1].name if flags[-1].suffix else flags[-1].parent.name) / "only.tsv"
        output = output if output.exists() else flags[-1].parent / "only.tsv"
        outcome = program("rescore", fake, *flags, "--output", output)
        assert_refused(outcome, f"{output}: this output would overwrite the input {output}")
        assert output.read_text() == "u1\tthe\n"


def test_base_10(program, fake, text):
    rows = program("rescore", fake, text(LISTS), "--base", "10").out.splitlines()
    assert float(rows[0].split("\t")[3]) == pytest.approx(math.log10(24 / 21**4), abs=1e-6)


@pytest.mark.parametrize(
    ("flags", "best"),
    [
        ([], ["the cat", ""]),  # -13.5 - 6.65 against -14 - 9; -9.5 - 3.04 against -9 - 4.48
        (["--weight", "0.3"], ["the cat", "dog"]),  # -9 - 1.34 against -9.5 - 0.91
        (["--weight", "0.3", "--word-penalty", "-1"], ["the cat", ""]),  # -11.34 against -10.41
        (["--word-penalty", "3"], ["the cat sat", "dog"]),  # -14 against -14.15; -10.48 against -12.54
        (["--scales", "2,1", "--weight", "0.6"], ["the cat", "dog"]),  # -16 - 2.69 against -17 - 1.83
        (["--interpolate", "1", "--mix", "0"], ["the cat", "dog"]),
        (["--interpolate", "1", "--mix", "1"], ["the cat", ""]),
    ],
)
def test_the_best_hypotheses(program, fake, text, flags, best):
    outcome = program("rescore", fake, text(LISTS), "--best", *flags)
    assert outcome.out == f"u1\t{best[0]}\nu2\t{best[1]}\n"


def test_kaldi_archives(program, fake, text):
    lists, costs = text("utt-1 the cat\nutt-2 dog\nutt-3\n"), text("utt-1 1\nutt-2 1\nutt-3 9\n", "costs")
    line = ["rescore", fake, lists, "--format", "kaldi"]
    assert program(*line).out == "utt-1 6.648661\nutt-2 4.479607\nutt-3 3.044523\n"
    assert program(*line, "--best").out == "utt \n"
    assert program(*line, "--scores", costs, "--best").out == "utt dog\n"
    assert_refused(program(*line, "--scores", costs, "--best", "--scales", "1,2"), f"{lists}:1: 1 scores, but")


def test_a_missing_list_is_not_read_from_standard_input(program, fake, text):
    outcome = program("rescore", fake, "--format", "kaldi", "--scores", text("utt-1 1\n"), text("utt-1 a\n", "lists"))
    assert_refused(outcome, "--scores takes every file that follows it: name the n-best list before it.")


def test_json_lines(program, fake, text):
    path = text('{"utterance": "u", "hypotheses": [{"text": "dog"}, {"text": "the cat", "scores": {}}]}\n')
    found = json.loads(program("rescore", fake, path, "--format", "jsonl").out)
    assert [each["scores"] for each in found["hypotheses"]] == [{"lm_logprob": -4.479607}, {"lm_logprob": -6.648661}]
    best = json.loads(program("rescore", fake, path, "--format", "jsonl", "--best").out)
    assert best == {"utterance": "u", "text": "dog", "total": -4.479607}


def test_prefixes_and_texts_without_their_ends(program, bulk_model, by_history, text):
    lists, before = text("u1\tcat\nu2\tdog\n"), text("u1 the\nu2 the cat\n", "before")
    for flags, scores in (
        ([], [by_history.score("cat", prefix="the"), by_history.score("dog", prefix="the cat")]),
        (["--no-eos"], [by_history.score("cat", "the", eos=False), by_history.score("dog", "the cat", eos=False)]),
        (
            ["--context", "document"],
            [own.logprob for own in by_history.score_texts([("the\n", "cat"), ("the cat\n", "dog")])],
        ),
    ):
        outcome = program("rescore", bulk_model, lists, "--prefixes", before, *flags)
        found = [float(row.split("\t")[1]) for row in outcome.out.splitlines()]
        assert found == pytest.approx(scores, abs=2e-6)
    assert_refused(
        program("rescore", bulk_model, lists, "--prefixes", text("u1 a\n", "few")), "utterance 'u2' is not in"
    )
    assert_refused(program("rescore", bulk_model, lists, "--prefixes", before, "--output", before), "before")


def test_lists_of_moses(program, fake, text):
    path = text(
        "0 ||| the cat ||| LM0= -2 ||| -9.5\n0 ||| dog ||| LM0= -3 ||| -10 ||| 0-0\n1 ||| sat ||| LM0= 0 ||| 1\n"
    )
    line = ["rescore", fake, path, "--format", "moses"]
    assert program(*line).out == (
        "0 ||| the cat ||| LM0= -2 KerasLM0= -6.648661 ||| -9.5\n"
        "0 ||| dog ||| LM0= -3 KerasLM0= -4.479607 ||| -10 ||| 0-0\n1 ||| sat ||| LM0= 0 KerasLM0= -5.395898 ||| 1\n"
    )
    assert "||| LM0= -2 LM1= -6.648661 |||" in program(*line, "--name", "LM1").out
    assert program(*line, "--best").out == "0 ||| dog\n1 ||| sat\n"
    assert_refused(program(*line, "--name", "LM0"), "a feature LM0 already exists; choose a different --name")


def test_integers_of_json_lines(program, fake, text):
    path = text('{"utterance": 17, "text": "dog"}\n{"utterance": 17, "text": "cat"}\n')
    line = ["rescore", fake, path, "--format", "jsonl"]
    assert [json.loads(row)["utterance"] for row in program(*line).out.splitlines()] == [17, 17]
    assert json.loads(program(*line, "--best").out) == {"utterance": 17, "text": "dog", "total": -4.479607}


def test_complete_utterances_before_a_fault_are_written(program, fake, text):
    outcome = program("rescore", fake, text(LISTS + "u3\t1\t1\ta\nu3\tx\t1\ta\n"))
    assert_refused(outcome, "text.txt:6: 'x' is not a finite number")
    assert outcome.out == SCORED


def test_output_appears_when_complete(program, fake, text, tmp_path):
    target = tmp_path / "scored.tsv"
    assert program("rescore", fake, text(LISTS), "--output", target).out == ""
    assert target.read_text() == SCORED
    assert program("rescore", fake, text(LISTS + "u3\n"), "--output", target).code == 2
    assert target.read_text() == SCORED
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scored.tsv", "text.txt"]
    assert_refused(
        program("rescore", fake, text(LISTS), "--output", tmp_path / "no" / "x"),
        "no/x: give the name of a file in a folder that exists",
    )


def test_replaced_bytes_are_counted(program, fake, text):
    path = text(b"u1\t1\tthe \xff\n")
    assert_refused(program("rescore", fake, path), "text.txt:1:10: byte 0xff")
    outcome = program("rescore", fake, path, "--errors", "replace")
    assert outcome.err == f"keraslm: {path}: 1 lines contained invalid UTF-8, read as U+FFFD\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tune"], "--tune counts errors: add --references FILE."),
        (["--bootstrap", "10"], "--bootstrap counts errors: add --references FILE."),
        (["--by-utterance"], "--by-utterance counts errors: add --references FILE."),
        (
            ["--references", "r", "--by-utterance", "--tune"],
            "--by-utterance prints the errors at one setting: leave out",
        ),
        (["--references", "r", "--by-utterance", "--bootstrap", "9"], "leave out --tune and --bootstrap."),
        (["--references", "r", "--bootstrap", "0"], "--bootstrap is 0, but must be at least 1."),
        (["--references", "r", "--seed", "-1"], "--seed is -1, but must be 0 or more."),
        (["--format", "moses", "--name", "a_b"], "--name is 'a_b', but the name of a feature of Moses has no white"),
        (["--unit", "byte"], "byte"),
        (["--best", "--references", "r"], "--best prints hypotheses and --references a table"),
        (["--scales", "1,x"], "--scales 1,x: expected numbers separated by commas, or first:last:step"),
        (["--references", "r", "--tune", "--weights", "0:1"], "--weights 0:1: expected numbers"),
        (["--references", "r", "--tune", "--weights", "1:0:0.1"], "--weights 1:0:0.1"),
        (["--references", "r", "--tune", "--weights", "0:1:0"], "--weights 0:1:0"),
        (["--references", "r", "--weights", "5"], "--weights are values to try: add --tune."),
        (["--references", "r", "--word-penalties", "5"], "--word-penalties are values to try: add --tune."),
        (["--references", "r", "--tune", "--weight", "2"], "a grid of weights and word penalties: leave out --weight."),
        (["--weight", "2"], "--weight combines the scores of a hypothesis: add --best or --references FILE."),
        (["--scales", "1,2"], "--scales combines the scores of a hypothesis: add --best or --references FILE."),
        (["--best", "--mix", "0.3"], "--mix is the share of the model in an interpolation: add --interpolate COLUMN."),
        (["--best", "--interpolate", "1", "--mix", "2"], "is 2, but must be between 0 and 1"),
        (["--scores", "x"], "the other formats hold their scores in the rows"),
        (["--score-columns", "1"], "4 columns, but 3 are expected"),
        (["--interpolate", "lm", "--best"], "no score 'lm' to interpolate with"),
        (["--wieght", "2"], "--wieght"),
    ],
)
def test_wrong_use(program, fake, text, flags, message):
    outcome = program("rescore", fake, text(LISTS), *flags)
    assert_refused(outcome, message)


def test_missing_jiwer_gives_the_pip_line(program, fake, text, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "jiwer" else find(name, *rest))
    outcome = program("rescore", fake, text(LISTS), "--references", text("u1 a\n", "said"))
    assert_refused(outcome, "Counting errors needs the package jiwer", 'pip install "keraslm[wer]"')


HEADER = "setting\tweight\tword_penalty\twer\terrors\tsubstitutions\tdeletions\tinsertions\twords\n"


@with_jiwer
def test_word_errors_of_rescored_lists(program, fake, text):
    said = text("u1\tthe cat sat\nu2 dog\n", "said")
    assert program("rescore", fake, text(LISTS), "--references", said).out == (
        HEADER
        + "first-pass\t-\t-\t25.00\t1\t0\t1\t0\t4\n"  # the cat; dog
        + "oracle\t-\t-\t0.00\t0\t0\t0\t0\t4\n"
        + "rescored\t1\t0\t50.00\t2\t0\t2\t0\t4\n"  # the cat; nothing
    )


@with_jiwer
def test_tuning_prints_the_best_setting_and_the_grid(program, fake, text):
    said = text("u1\tthe cat sat\nu2 dog\nu3 sat\n", "said")
    flags = ["--references", said, "--tune", "--weights", "0:1:1", "--word-penalties", "-1,3"]
    outcome = program("rescore", fake, text(LISTS), *flags)
    assert outcome.out == (
        HEADER
        + "first-pass\t-\t-\t25.00\t1\t0\t1\t0\t4\n"
        + "oracle\t-\t-\t0.00\t0\t0\t0\t0\t4\n"
        + "best\t0\t3\t0.00\t0\t0\t0\t0\t4\n"
        + "grid\t0\t-1\t50.00\t2\t0\t2\t0\t4\n"
        + "grid\t0\t3\t0.00\t0\t0\t0\t0\t4\n"
        + "grid\t1\t-1\t50.00\t2\t0\t2\t0\t4\n"
        + "grid\t1\t3\t0.00\t0\t0\t0\t0\t4\n"
    )
    assert outcome.err == f"keraslm: {said}: 1 utterances have no hypotheses and are not counted\n"


@with_jiwer
def test_errors_of_each_utterance(program, fake, text):
    said = text("u1\tthe cat sat\nu2 dog\nu3 sat\n", "said")
    outcome = program("rescore", fake, text(LISTS), "--references", said, "--by-utterance", "--weight", "0.3")
    assert outcome.out == (
        "utterance\twords\tfirst_pass_errors\toracle_errors\trescored_errors\treference\tfirst_pass\toracle\trescored\n"
        "u1\t3\t1\t0\t1\tthe cat sat\tthe cat\tthe cat sat\tthe cat\n"
        "u2\t1\t0\t0\t0\tdog\tdog\tdog\tdog\n"
    )
    assert outcome.err == f"keraslm: {said}: 1 utterances have no hypotheses and are not counted\n"


@with_jiwer
def test_confidence_intervals(program, fake, text):
    said = text("u1\tthe cat sat\nu2 dog\n", "said")
    flags = ["--references", said, "--bootstrap", "500", "--seed", "3"]
    outcome = program("rescore", fake, text(LISTS), *flags)
    header, first, oracle, rescored = [row.split("\t") for row in outcome.out.splitlines()]
    assert header[-3:] == ["wer_low", "wer_high", "improvement"]
    assert first[-3:] == ["0.00", "33.33", "-"]  # u1 twice: 1 of 3 words; u2 twice: none
    assert oracle[-3:-1] == ["0.00", "0.00"] and 0.65 < float(oracle[-1]) < 0.85  # unless u2 is drawn twice
    assert rescored[-3:] == ["33.33", "100.00", "0.0000"]
    assert program("rescore", fake, text(LISTS), *flags).out == outcome.out
    tuned = program("rescore", fake, text(LISTS), *flags, "--tune", "--weights", "0:1:1", "--word-penalties", "0")
    assert [row.split("\t")[-1] == "-" for row in tuned.out.splitlines()] == [False, True, False, False, True, True]


@with_jiwer
def test_character_errors(program, fake, text):
    said = text("u1\tthe cat sat\nu2 dog\n", "said")
    rows = program("rescore", fake, text(LISTS), "--references", said, "--unit", "char").out.splitlines()
    assert rows[0] == HEADER.replace("wer", "cer").replace("words", "characters").rstrip()
    assert rows[1] == "first-pass\t-\t-\t25.00\t3\t0\t3\t0\t12"  # "sat" is missing
    flags = ["--best", "--word-penalty", "1"]
    assert program("rescore", fake, text(LISTS), *flags).out == "u1\tthe cat\nu2\tdog\n"
    assert program("rescore", fake, text(LISTS), *flags, "--unit", "char").out == "u1\tthe cat sat\nu2\tdog\n"
