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
