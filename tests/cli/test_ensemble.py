"""`--with`: several model files as one, in every command that scores.

The first model answers <eos> 1/21, sat 2, the 3, cat 4, dog 5, <unk> 6, the second model the reverse (6 to 1).
"""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from keraslm import load
from tests.support import fake_model
from tests.support.fake_model import BY_ID, V
from tests.support.program import assert_refused
from tests.support.words import train_words


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The mean of both answers is 1/6 for every token."""
    table = np.log(np.exp(BY_ID)[:, ::-1])
    return fake_model.write(tmp_path_factory.mktemp("other") / "other.onnx", table)


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    tokenizer = train_words(["the bird sat on the mat"])
    size = tokenizer.vocab_size
    table = np.log(np.full((size, size), 1 / size))
    return fake_model.write(tmp_path_factory.mktemp("odd") / "odd.onnx", table, fake_model.info_of(tokenizer))


def test_score_prints_the_mean(program, fake, other, text):
    outcome = program("score", fake, text("the cat\ndog\n"), "--with", other)
    rows = [row.split("\t") for row in outcome.out.splitlines()[1:]]
    assert [row[2] for row in rows] == ["the", "cat", "<eos>", "dog", "<eos>"]
    assert {row[3] for row in rows} == {"-1.791759"} and outcome.err == ""  # log(1/6)


def test_the_flag_is_accepted_anywhere_and_repeatedly(program, fake, other, text):
    path = text("the cat\n")
    found = program("score", "--with", other, fake, path, "--with", other, "--with", fake, "--level", "sentence")
    assert found.out.splitlines()[1].split("\t")[3] == f"{3 * math.log(1 / 6):.6f}"
    found = program("score", fake, path, "--with", other, "--with", other, "--level", "summary", "--json")
    wanted = sum(math.log((a + 2 * (7 - a)) / 63) for a in (3, 4, 1))
    assert json.loads(found.out)["nats"] == pytest.approx(-wanted, rel=1e-6)


def test_the_signature_and_the_page_name_all_files(program, fake, other, text, tmp_path):
    page = tmp_path / "page.html"
    outcome = program("score", fake, text("the cat\n"), "--with", other, "--signature", "--html", page)
    digests = [load(path).session.digest for path in (fake, other)]
    assert f"signature model:{digests[0][:12]}+{digests[1][:12]}|" in outcome.err
    written = page.read_text()
    assert "model.onnx + other.onnx" in written and f"{digests[0]} + {digests[1]}" in written


def test_shards_are_scored_by_all_files(program, fake, other, text, tmp_path):
    path, out = text("the cat\n"), tmp_path / "out"
    flags = ("--workers", "1", "--output", out, "--level", "sentence")
    assert program("score", fake, path, "--with", other, *flags).code == 0
    assert (out / "text.txt.tsv").read_text().splitlines()[1].split("\t")[3] == f"{3 * math.log(1 / 6):.6f}"
    assert "1 finished before" in program("score", fake, path, "--with", other, *flags, "--resume").err
    assert_refused(program("score", fake, path, *flags, "--resume"), "was made of something else: with", "now none")


def test_rescore_pairs_and_generate_use_the_mean(program, fake, other, text):
    lists = program("rescore", fake, text("u1\t-1\tthe cat\nu1\t-2\tdog\n"), "--with", other)
    assert [row.split("\t")[2] for row in lists.out.splitlines()] == [f"{n * math.log(1 / 6):.6f}" for n in (3, 2)]
    pairs = program("pairs", fake, text("dog\tthe cat\n"), "--with", other, "--rows")
    assert float(pairs.out.splitlines()[1].split("\t")[6]) == pytest.approx(math.log(6), abs=1e-5)
    flags = ("--temperature", "0", "--max-tokens", "3", "--with", other, "--with", other)
    assert program("generate", fake, "the", *flags).out == "the\n"  # <eos> has 13/63
    assert program("generate", fake, "the", *flags[:4]).out == "the dog dog dog\n"


@pytest.mark.parametrize("command", ["score", "rescore", "pairs"])
def test_a_different_tokenizer_is_refused_with_both_names(program, fake, odd, text, command):
    size = load(odd).session.info.vocab_size
    assert_refused(
        program(command, fake, text("a\tb\n"), "--with", odd),
        f"{odd}: a different tokenizer than that of {fake}: {size} tokens",
        f"instead of {V} tokens",
    )


def test_a_missing_member_is_named(program, fake, text):
    assert_refused(program("score", fake, text("a\n"), "--with", "gone.onnx"), "gone.onnx: cannot be read")
    assert_refused(program("generate", fake, "--with", "gone.onnx"), "gone.onnx: cannot be read")
