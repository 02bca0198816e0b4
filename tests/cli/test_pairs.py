"""`keraslm pairs` on a model whose answers are formulas: <eos> 1/21, sat 2, the 3, cat 4, dog 5, <unk> 6."""

from __future__ import annotations

import json

import pytest

from tests.support.program import assert_refused

PAIRS = [
    ("syntax", "binding", "a", "the cat", "the sat"),
    ("syntax", "islands", "b", "sat", "dog"),
    ("semantics", "quantifiers", "c", "a bird", "a fish"),
    ("syntax", "binding", "a", "dog", "cat"),
]


@pytest.fixture
def blimp(text):
    keys = ("field", "linguistics_term", "UID", "sentence_good", "sentence_bad")
    rows = (json.dumps(dict(zip(keys, pair, strict=True)) | {"pairID": str(n)}) for n, pair in enumerate(PAIRS))
    return text("".join(f"{row}\n" for row in rows), "pairs.jsonl")


@pytest.mark.parametrize(
    ("by", "rows"),
    [
        ("all", []),
        ("field", ["syntax\t3\t2\t0\t0.6667\t0\t0", "semantics\t1\t0\t1\t0.0000\t4\t1"]),
        (
            "term",
            ["binding\t2\t2\t0\t1.0000\t0\t0", "islands\t1\t0\t0\t0.0000\t0\t0", "quantifiers\t1\t0\t1\t0.0000\t4\t1"],
        ),
        ("uid", ["a\t2\t2\t0\t1.0000\t0\t0", "b\t1\t0\t0\t0.0000\t0\t0", "c\t1\t0\t1\t0.0000\t4\t1"]),
    ],
)
def test_accuracy_by_group(program, fake, blimp, by, rows):
    outcome = program("pairs", fake, blimp, "--by", by)
    header = f"{by}\tpairs\tright\tties\taccuracy\toovs\toov_pairs"
    assert outcome.out.splitlines() == [header, *rows, "all\t4\t2\t1\t0.5000\t4\t1"]
    assert outcome.err == ""


def test_one_row_per_pair(program, fake, blimp):
    rows = [row.split("\t") for row in program("pairs", fake, blimp, "--rows").out.splitlines()]
    assert rows[0][:4] == ["field", "term", "uid", "pair"]
    assert rows[1][:4] == ["syntax", "binding", "a", "0"]
    assert rows[1][4:] == ["-6.648661", "-7.341808", "0.693147", "right", "0", "the cat", "the sat"]
    assert [row[7] for row in rows[1:]] == ["right", "wrong", "tie", "right"]


@pytest.mark.parametrize(
    ("content", "row"),
    [(b"dog\tcat\nsat\tcat\n", "all\t2\t1\t0\t0.5000\t0\t0"), (b"", "all\t0\t0\t0\tnan\t0\t0")],
    ids=["two columns", "empty"],
)
def test_pairs_from_standard_input(program, fake, content, row):
    assert program("pairs", fake, stdin=content).out.splitlines()[1] == row


def test_wrong_use_is_refused(program, fake, text, blimp):
    assert_refused(program("pairs", fake, text("one\n")), "text.txt:1: 1 columns, but two are expected")
    assert_refused(program("pairs", fake, blimp, "--by", "genre"), "genre")
    assert_refused(program("pairs", fake, blimp, "--row"), "--row")
    assert_refused(program("pairs", fake, "gone.jsonl"), "gone.jsonl: cannot be read")


def test_words_after_prefixes(program, fake, text):
    rows = [
        {
            "one_prefix_prefix": "the",
            "one_prefix_word_good": "cat",
            "one_prefix_word_bad": "sat",
            "one_prefix_method": True,
        },
        {"sentence_good": "the cat", "sentence_bad": "cat the", "one_prefix_method": False},
    ]
    path = text("".join(f"{json.dumps(row)}\n" for row in rows))
    outcome = program("pairs", fake, path, "--method", "one-prefix")
    assert outcome.out.splitlines()[1] == "all\t1\t1\t0\t1.0000\t0\t0"
    note = "1 pairs were left out: they say that the method one-prefix does not apply to them"
    assert outcome.err == f"keraslm: {note}\n"
    outcome = program("pairs", fake, path, "--method", "one-prefix", "--rows", "--eos")
    row = outcome.out.splitlines()[1].split("\t")
    assert row[4:] == ["-4.702751", "-5.395898", "0.693147", "right", "0", "the cat", "the sat"]
    assert outcome.err == f"keraslm: {note}\n"
    outcome = program("pairs", fake, "--method", "one-prefix", "--separator", "", stdin=b"the ca\tt\tr\n")
    assert outcome.out.splitlines()[1] == "all\t1\t0\t0\t0.0000\t1\t1"  # cat 4/21, and <unk> 6/21
    assert_refused(program("pairs", fake, text(PLAIN), "--method", "two-prefix"), 'text.txt:1: no "prefix_good" with a')


PLAIN = '{"sentence_good": "the cat", "sentence_bad": "cat"}\n'


def test_sentences_without_their_ends(program, fake, text):
    found = [program("pairs", fake, text(PLAIN), "--rows", *flags).out.split("\t") for flags in ([], ["--no-eos"])]
    assert [row[-7:-5] for row in found] == [["-6.648661", "-4.702751"], ["-3.604138", "-1.658228"]]
