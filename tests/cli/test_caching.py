"""`keraslm score --neural-cache`: what is printed, and what is refused."""

from __future__ import annotations

import json
import re

import pytest

import keraslm
from tests.support import arpa, fake_model
from tests.support.program import assert_refused

TEXT = "the cat the cat\n\nthe bird zebra the\ndog the dog\n"
NOTE = "keraslm: --context sentence empties the neural cache after each line; document and paragraph keep it.\n"


def flags_of(theta="2.5", share="0.3", window="4"):
    return ["--neural-cache", "--cache-theta", theta, "--cache-lambda", share, "--cache-window", window]


FLAGS = flags_of()


@pytest.fixture
def cached(bulk_model):
    return keraslm.with_cache(bulk_model, 2.5, 0.3, 4)


@pytest.mark.parametrize("context", ["sentence", "paragraph", "document"])
def test_scores_with_the_cache(program, bulk_model, text, cached, context):
    outcome = program("score", bulk_model, text(TEXT), "--level", "sentence", "--context", context, *FLAGS)
    expected = [line.logprob for line in cached.score_lines(TEXT.splitlines(), context)]
    found = [float(row.split("\t")[3]) for row in outcome.out.splitlines()[1:]]
    assert found == pytest.approx(expected, abs=1e-6)
    assert (outcome.code, outcome.err) == (0, NOTE if context == "sentence" else "")


def test_all_levels_and_columns(program, bulk_model, text, cached):
    """Ranks, entropies and spaces need complete distributions, which the cache has."""
    flags = [*FLAGS, "--context", "document", "--columns", "logprob,entropy"]
    lines = list(cached.score_lines(TEXT.splitlines(), "document", distributions=True))
    for level in ("token", "word"):
        rows = program("score", bulk_model, text(TEXT), "--level", level, *flags).out.splitlines()[1:]
        values = [list(map(float, row.split("\t"))) for row in rows]
        assert [row[0] for row in values] == pytest.approx([p for line in lines for p in line.logprobs], abs=1e-5)
        entropies = [e / 0.6931471805599453 for line in lines for e in line.entropies]
        assert [row[1] for row in values] == pytest.approx(entropies, abs=1e-5)
    assert program("score", bulk_model, text(TEXT), "--format", "srilm", *FLAGS).code == 0


def test_the_summary_and_its_signature(program, bulk_model, text, cached):
    flags = ["--level", "summary", "--json", "--signature", "--context", "document"]
    outcome = program("score", bulk_model, text(TEXT), *flags, *FLAGS)
    found = json.loads(outcome.out)
    assert found["perplexity"] == pytest.approx(cached.perplexity(TEXT.splitlines(), "document"))
    assert "|cache_window:4|cache_theta:2.5|cache_lambda:0.3|context:document|" in found["signature"]


@pytest.mark.parametrize("given", [{}, {"cache_theta": 0.5}, {"cache_lambda": 0.25}])
def test_parameters_are_tuned_and_printed_as_flags(program, bulk_model, text, given):
    valid, flags = text("the cat the cat\ndog the dog dog\n", "valid.txt"), ["--level", "summary", "--json"]
    flags += ["--context", "document", "--neural-cache"]
    some = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
    outcome = program("score", bulk_model, text(TEXT), *flags, *some, "--cache-tune", valid)
    tuned = keraslm.tune_cache(bulk_model, valid, "document", **given)
    found = re.fullmatch(
        r"keraslm: (--cache-theta \S+ --cache-lambda \S+), found on \S+valid\.txt \(10 tokens\): perplexity (\S+); "
        r"(\S+) without the cache\n",
        outcome.err,
    )
    assert found[1] == f"--cache-theta {tuned.cache_theta:g} --cache-lambda {tuned.cache_lambda:g}"
    assert (found[2], found[3]) == (f"{tuned.perplexity:.4f}", f"{tuned.model_perplexity:.4f}")
    again = program("score", bulk_model, text(TEXT), *flags, *found[1].split())
    assert (again.out, again.err) == (outcome.out, "")


def test_a_page_names_the_parameters(program, bulk_model, text, tmp_path):
    page = tmp_path / "page.html"
    assert program("score", bulk_model, text(TEXT), "--html", page, *FLAGS).code == 0
    assert "cache_theta" in page.read_text() and "2.5" in page.read_text()


def test_shards_are_scored_as_one_text(program, bulk_model, text, tmp_path):
    place, flags = text(TEXT, "a.txt"), ["--context", "document", *FLAGS]
    alone = program("score", bulk_model, place, *flags).out
    bulk = ["--output", tmp_path / "out", "--workers", "1", "--resume"]
    for _ in range(2):
        outcome = program("score", bulk_model, place, *flags, *bulk)
        assert (outcome.code, (tmp_path / "out" / "a.txt.tsv").read_text()) == (0, alone)
    assert "1 finished before" in outcome.err
    other = program("score", bulk_model, place, "--context", "document", *flags_of(window="5"), *bulk)
    assert_refused(other, "was made of something else: cache_window 4, now 5")
    assert_refused(program("score", bulk_model, place, "--context", "document", *bulk), "cache_theta 2.5, now none")
    record = json.loads((tmp_path / "out" / ".keraslm" / "a.txt.tsv.json").read_text())
    assert record["settings"]["cache_lambda"] == 0.3


def test_shards_with_tuned_parameters(program, bulk_model, text, tmp_path):
    valid = text("the cat the cat\n", "valid.txt")
    bulk = ["--output", tmp_path / "out", "--workers", "1", "--neural-cache", "--cache-tune", valid]
    assert "found on" in program("score", bulk_model, text(TEXT, "a.txt"), *bulk).err
    record = json.loads((tmp_path / "out" / ".keraslm" / "a.txt.tsv.json").read_text())
    assert record["settings"]["cache_theta"] == keraslm.tune_cache(bulk_model, valid).cache_theta


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--neural-cache"], "--neural-cache needs --cache-theta and --cache-lambda; --cache-tune TEXT finds the best"),
        (["--neural-cache", "--cache-theta", "1"], "--neural-cache needs --cache-theta and --cache-lambda;"),
        (["--cache-theta", "1"], "are for the neural cache: add --neural-cache."),
        (["--cache-window", "9"], "are for the neural cache: add --neural-cache."),
        (["--cache-tune", "v.txt"], "are for the neural cache: add --neural-cache."),
        ([*FLAGS, "--cache-tune", "v.txt"], "but both are given: leave out --cache-tune, or one of them."),
        (flags_of(theta="-1"), "--cache-theta is -1.0, but must be a number of at least 0."),
        (flags_of(share="1"), "--cache-lambda is 1.0, but must be at least 0 and below 1."),
        (flags_of(share="nan"), "--cache-lambda is nan, but must be at least 0 and below 1."),
        (flags_of(window="0"), "--cache-window is 0, but must be an integer of at least 1."),
        (["--neural-cache", "--cache-tune", "none.txt"], "none.txt: cannot be read (No such file"),
        (
            [*FLAGS, "--with", "MODEL"],
            "compares the hidden states of one model, but there are 2. Leave out the others.",
        ),
        ([*FLAGS, "--ngram", "NGRAM"], "are not combined: leave out --neural-cache or --ngram."),
    ],
)
@pytest.mark.parametrize("workers", [False, True])
def test_faults_of_flags(program, bulk_model, text, tmp_path, flags, message, workers):
    ngram = arpa.write_arpa(tmp_path / "model.arpa", ["the cat"], 2)
    flags = [{"MODEL": bulk_model, "NGRAM": ngram}.get(flag, flag) for flag in flags]
    flags += ["--output", tmp_path / "out", "--workers", "1"] if workers else []
    assert_refused(program("score", bulk_model, text(TEXT), *flags), message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("workers", [False, True])
def test_a_file_without_hidden_states(program, text, tmp_path, workers):
    old = fake_model.write(tmp_path / "old.onnx", info=fake_model.model_info(format_version="4"))
    assert program("score", old, text(TEXT), "--level", "summary").code == 0
    flags = [*FLAGS, "--output", tmp_path / "out", "--workers", "1"] if workers else FLAGS
    message = "old.onnx: format version 4, which does not return the hidden states that a neural cache needs. Export"
    assert_refused(program("score", old, text(TEXT), *flags), message)
    assert not (tmp_path / "out").exists()


def test_an_output_never_replaces_the_text_to_tune_on(program, bulk_model, text):
    valid = text("the cat\n", "valid.txt")
    flags = ["--neural-cache", "--cache-tune", valid, "--output", valid]
    assert_refused(program("score", bulk_model, text(TEXT), *flags), "would overwrite")
    assert valid.read_text() == "the cat\n"
