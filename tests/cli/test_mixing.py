"""`keraslm score` and `keraslm rescore` with an n-gram model."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest

import keraslm
from keraslm.config import DataConfig
from keraslm.text.vocabulary import train_tokenizer
from tests.support import arpa, fake_model, toy
from tests.support.program import assert_refused

LINES = ["the cat sat", "the bird sat", "a bird"]  # without dog, which is in the vocabulary of the model
TEXT = "the cat\n\nthe bird zebra\ndog\n"
VOCABULARIES = (
    "3-grams; 3 words are in both vocabularies, 2 only in that of the n-gram model, 1 only in that of the model\n"
)
KNOWN = (
    "keraslm: of 10 words and ends of lines, 1 are known to the model only and 1 to the n-gram model only (the other "
    "gives them the probability 0), 1 to neither\n"
)


@pytest.fixture
def ngram(tmp_path):
    return arpa.write_arpa(tmp_path / "model.arpa", LINES, 3)


@pytest.fixture
def byte_model(tmp_path):
    tokenizer = train_tokenizer(["the"], DataConfig(tokenizer="byte"))
    size = tokenizer.vocab_size
    table = np.log(np.random.default_rng(3).dirichlet(np.ones(size), size))
    return fake_model.write(tmp_path / "bytes.onnx", table, fake_model.info_of(tokenizer))


@pytest.mark.parametrize("flags", [[], ["--ngram-weight", "0.3"], ["--ngram-weight", "0"]])
def test_scores_of_a_mixture(program, fake, text, ngram, flags):
    weight = float(flags[-1]) if flags else 0.5
    outcome = program("score", fake, text(TEXT), "--level", "sentence", "--ngram", ngram, *flags)
    expected = [line.logprob for line in keraslm.mix(fake, ngram, weight).score_lines(TEXT.splitlines())]
    found = [float(row.split("\t")[3]) for row in outcome.out.splitlines()[1:]]
    assert found == pytest.approx(expected, abs=1e-6)
    assert (outcome.code, outcome.err) == (0, f"keraslm: {ngram}: {VOCABULARIES}{KNOWN}")


def test_the_summary_and_its_signature(program, fake, text, ngram):
    outcome = program("score", fake, text(TEXT), "--level", "summary", "--json", "--signature", "--ngram", ngram)
    found, mixed = json.loads(outcome.out), keraslm.mix(fake, ngram)
    assert found["perplexity"] == pytest.approx(mixed.perplexity(TEXT.splitlines()))
    assert f"|ngram:{mixed.ngram.digest[:12]}|ngram_weight:0.5|" in found["signature"] and found["oovs"] == 1


def test_the_weight_is_tuned_before_scoring(program, fake, text, ngram):
    valid = text("the cat sat\na bird\ndog sat\n", "valid.txt")
    flags = ["--ngram", ngram, "--ngram-tune", valid]
    outcome = program("score", fake, text(TEXT), "--level", "summary", "--json", *flags)
    tuned = keraslm.tune_mix(fake, ngram, valid)
    assert json.loads(outcome.out)["perplexity"] == pytest.approx(
        keraslm.mix(fake, ngram, tuned.weight).perplexity(TEXT.splitlines())
    )
    found = re.search(
        r"weight (\S+) of the n-gram model, found on \S+valid\.txt \(10 words in (\d+) steps\): (.*)\n", outcome.err
    )
    assert float(found[1]) == pytest.approx(tuned.weight, abs=1e-6) and int(found[2]) == tuned.steps
    alone = f"{tuned.lstm_perplexity:.4f} of the model alone, {tuned.ngram_perplexity:.4f} of the n-gram model alone"
    assert found[3] == f"perplexity {tuned.perplexity:.4f}; {alone}"


def test_words_of_subword_models(program, byte_model, text, ngram):
    outcome = program("score", byte_model, text(TEXT), "--ngram", ngram, "--level", "word")
    found = [row.split("\t")[2] for row in outcome.out.splitlines()[1:]]
    assert found == ["the", "cat", "<eos>", "<eos>", "the", "bird", "zebra", "<eos>", "dog", "<eos>"]
    assert "3-grams of 5 words; the model has no list of words" in outcome.err
    refused = program("score", byte_model, text(TEXT), "--ngram", ngram)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.splitlines()[1] == (
        "keraslm: UsageError: The tokens of this model are parts of words, but an n-gram model predicts complete "
        "words. With --ngram, choose --level word, --level sentence or --level summary."
    )
    assert program("score", byte_model, text(TEXT), "--ngram", ngram, "--format", "kenlm").code == 0


@pytest.mark.parametrize("kind", ["by_words", "by_bytes"])
def test_shards_are_scored_as_one_text(program, fake, byte_model, text, ngram, tmp_path, kind):
    model, place = fake if kind == "by_words" else byte_model, text(TEXT, "a.txt")
    flags = ["--level", "word", "--ngram", ngram, "--ngram-weight", "0.25"]
    alone = program("score", model, place, *flags).out
    for _ in range(2):
        outcome = program("score", model, place, *flags, "--output", tmp_path / "out", "--workers", "1", "--resume")
        assert outcome.code == 0
        assert (tmp_path / "out" / "a.txt.tsv").read_text() == alone
    assert "1 finished before" in outcome.err
    flags[-1] = "0.5"
    other = program("score", model, place, *flags, "--output", tmp_path / "out", "--workers", "1", "--resume")
    assert_refused(other, "was made of something else: ngram_weight 0.25, now 0.5")
    record = json.loads((tmp_path / "out" / ".keraslm" / "a.txt.tsv.json").read_text())
    assert record["settings"]["ngram"] == keraslm.load_ngram(ngram).digest


def test_shards_with_a_tuned_weight(program, fake, text, ngram, tmp_path):
    place = text(TEXT, "a.txt")
    flags = ["--ngram", ngram, "--ngram-tune", text("the cat sat\ndog\n", "valid.txt"), "--output", tmp_path / "out"]
    assert "found on" in program("score", fake, place, *flags, "--workers", "1").err
    record = json.loads((tmp_path / "out" / ".keraslm" / "a.txt.tsv.json").read_text())
    tuned = keraslm.tune_mix(fake, ngram, ["the cat sat", "dog"]).weight
    assert record["settings"]["ngram_weight"] == pytest.approx(tuned)


def test_faults_of_shards(program, fake, byte_model, text, ngram, tmp_path):
    place, out = text(TEXT, "a.txt"), ["--output", tmp_path / "out", "--workers", "1"]
    wrong = text(toy.TOY.replace("ngram 1=5", "ngram 1=6"), "wrong.arpa")
    assert_refused(program("score", fake, place, *out, "--ngram", wrong), "wrong.arpa:13: 5 1-grams end here")
    assert_refused(program("score", fake, place, *out, "--ngram", tmp_path / "none"), "none: cannot be read")
    assert_refused(program("score", byte_model, place, *out, "--ngram", ngram), "choose --level word")


def test_hypotheses_are_scored_by_the_mixture(program, fake, text, ngram):
    lists = text("u1\t-1\tthe cat\nu1\t-2\tthe bird sat\nu2\t-3\tdog\n")
    outcome = program("rescore", fake, lists, "--ngram", ngram, "--ngram-weight", "0.25")
    mixed = keraslm.mix(fake, ngram, 0.25)
    found = [row.split("\t") for row in outcome.out.splitlines()]
    assert [float(row[2]) for row in found] == pytest.approx([mixed.score(row[3]) for row in found], abs=1e-6)
    assert "1 are known to the model only and 1 to the n-gram model only" in outcome.err
    assert program("rescore", fake, lists, "--best", "--ngram", ngram).out == "u1\tthe cat\nu2\tdog\n"
    tuned = program("rescore", fake, lists, "--ngram", ngram, "--ngram-tune", text("the cat\ndog\n", "valid.txt"))
    weight = keraslm.tune_mix(fake, ngram, ["the cat", "dog"]).weight
    assert float(tuned.out.split("\t")[2]) == pytest.approx(keraslm.mix(fake, ngram, weight).score("the cat"), abs=1e-6)


def test_the_mix_with_an_old_score_is_something_else(program, fake, text, ngram):
    """`--mix` interpolates a score of the first pass with the log-probability of the mixture."""
    flags = ["--ngram", ngram, "--interpolate", "1", "--mix", "0", "--best"]
    assert program("rescore", fake, text("u1\t-2\tthe cat\nu1\t-1\tdog\n"), *flags).out == "u1\tdog\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--ngram-weight", "0.3"], "--ngram-weight and --ngram-tune need an n-gram model: add --ngram FILE."),
        (["--ngram-tune", "valid.txt"], "--ngram-weight and --ngram-tune need an n-gram model"),
        (["--ngram", "NGRAM", "--ngram-weight", "1.2"], "--ngram-weight is 1.2, but must be between 0 and 1."),
        (["--ngram", "NGRAM", "--ngram-weight", "nan"], "--ngram-weight is nan, but must be between 0 and 1."),
        (["--ngram", "NGRAM", "--ngram-weight", "0.3", "--ngram-tune", "v.txt"], "leave out --ngram-weight."),
        (["--ngram", "NGRAM", "--ngram-tune", "none.txt"], "none.txt: cannot be read (No such file"),
        (["--ngram", "none.arpa"], "none.arpa: cannot be read (No such file"),
    ],
)
@pytest.mark.parametrize("command", ["score", "rescore"])
def test_faults_of_flags(program, fake, text, ngram, command, flags, message):
    flags = [ngram if flag == "NGRAM" else flag for flag in flags]
    assert_refused(program(command, fake, text("u1\tthe cat\n"), *flags), message)


def test_what_needs_complete_distributions_is_refused(program, fake, text, ngram, tmp_path):
    path = text(TEXT)
    refused = program("score", fake, path, "--ngram", ngram, "--html", tmp_path / "page.html")
    assert_refused(refused, "Ranks, entropies, --html and --plot need complete distributions", "or --ngram.")
    assert not (tmp_path / "page.html").exists()
    assert_refused(program("score", fake, path, "--ngram", ngram, "--columns", "rank"), "complete distributions")


def test_an_output_never_replaces_the_files_that_are_read(program, fake, text, ngram):
    valid, lists = text("the cat\n", "valid.txt"), text("u1\tthe cat\n")
    for command in ("score", "rescore"):
        for place in (ngram, valid):
            flags = ["--ngram", ngram, "--ngram-tune", valid, "--output", place]
            assert_refused(program(command, fake, lists, *flags), "would overwrite")
    folder = ["--output", ngram.parent, "--workers", "1", "--ngram", ngram.rename(ngram.parent / "a.txt.tsv")]
    assert_refused(program("score", fake, text(TEXT, "a.txt"), *folder), "would be overwritten by scores")
    assert math.isfinite(keraslm.load_ngram(ngram.parent / "a.txt.tsv").logprobs(["the"])[0])
