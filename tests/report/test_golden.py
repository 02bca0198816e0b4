"""The formats of KenLM and SRILM and their numbers, byte by byte as their programs printed them."""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm.report.kenlm_format import kenlm_rows, shortest
from keraslm.report.options import ScoreOptions
from keraslm.report.srilm_format import number, srilm_rows
from keraslm.scoring.measures import LineScore
from tests.support.words import train_words

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
ARPA = (GOLDEN / "kenlm" / "model.arpa").read_text(encoding="utf-8")
KNOWN = [line.split("\t")[1] for line in ARPA.split("\\2-grams:")[0].splitlines() if "\t" in line]
TOKENIZER = train_words([" ".join(word for word in KNOWN if word not in ("<unk>", "<s>"))])
NUMBERS = [line.split() for line in (GOLDEN / "kenlm" / "numbers.txt").read_text().splitlines()]
# An LSTM cannot have KenLM's ids (but 0 for `<unk>`) or the length of an n-gram.
IDS = re.compile(r"=(?:(0)|\d+) \d+ (?=\S+\t)")
LENGTHS = re.compile(r"\[\dgram\]")


def query(name):
    return (GOLDEN / "kenlm" / f"{name}.out").read_text(encoding="utf-8")


def outputs(program):
    """Everything that a program printed."""
    return "".join(path.read_text(encoding="utf-8") for path in sorted((GOLDEN / program).glob("*.out")))


def scores(name):
    """The lines of a text with the probabilities that `query` printed for it."""
    lines = (GOLDEN / "kenlm" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    rows = query(f"{name}-2").splitlines()[: len(lines)]
    for line, row in zip(lines, rows, strict=True):
        (ids,) = TOKENIZER.encode_lines([line])
        costs = np.array(re.findall(r"=\d+ \d+ (\S+)\t", row), np.float32).astype(np.float64) * math.log(10)
        yield LineScore(line, ids, costs, ids == TOKENIZER.unk_id)


@pytest.mark.parametrize("name", ["text", "oovs", "blank", "empty", "worst"])
@pytest.mark.parametrize(("level", "verbosity"), [("word", 2), ("sentence", 1), ("summary", 0)])
def test_output_equals_that_of_query(name, level, verbosity):
    expected = query(f"{name}-2").splitlines()
    if verbosity < 2:
        expected = [row[row.find("Total: ") :] if "Total: " in row else row for row in expected]
    if verbosity < 1:
        expected = [row for row in expected if "Total: " not in row]
    if name == "text":
        assert expected == query(f"text-{verbosity}").splitlines()
    found = kenlm_rows(scores(name), TOKENIZER, ScoreOptions(level=level, format="kenlm"))
    assert [IDS.sub(r"=\1 ", row) for row in found] == [IDS.sub(r"=\1 ", row) for row in expected]


@pytest.mark.parametrize("name", ["text", "oovs"])
@pytest.mark.parametrize(("model", "unk"), [("closed", "exclude"), ("open", "include")])
@pytest.mark.parametrize(("level", "debug"), [("word", 2), ("sentence", 1), ("summary", 0)])
def test_output_equals_that_of_ngram(name, model, unk, level, debug):
    expected = (GOLDEN / "srilm" / f"{model}-{name}-{debug}.out").read_text(encoding="utf-8").splitlines()
    lines = (line for line in scores(name) if line.text.strip())  # SRILM has no blank lines
    found = list(srilm_rows(lines, TOKENIZER, ScoreOptions(level=level, format="srilm", unk=unk), name=f"{name}.txt"))
    assert [LENGTHS.sub("[gram]", row) for row in found] == [LENGTHS.sub("[gram]", row) for row in expected]


def test_a_text_without_lines_is_one_line_of_ngram():
    expected = (GOLDEN / "srilm" / "closed-empty-2.out").read_text(encoding="utf-8").splitlines()
    assert list(srilm_rows([], TOKENIZER, ScoreOptions(format="srilm"), name="empty.txt")) == expected


@pytest.mark.parametrize(("kind", "codes", "type_"), [("s", "If", np.float32), ("d", "Qd", np.float64)])
def test_shortest_numbers_equal_those_of_double_conversion(kind, codes, type_):
    expected = {bits: text for k, bits, text in NUMBERS if k == kind}
    assert len(expected) > 150
    values = {bits: struct.unpack(f"<{codes[1]}", struct.pack(f"<{codes[0]}", int(bits, 16)))[0] for bits in expected}
    assert {bits: shortest(type_(value)) for bits, value in values.items()} == expected


def test_every_number_of_query_is_reproduced():
    text = outputs("kenlm")
    singles = re.findall(r"=\d+ \d+ (\S+)\t", text) + re.findall(r"Total: (\S+) ", text)
    doubles = re.findall(r"OOVs:\t(\S+[.naif]\S*)", text)
    assert {"-0.000012345678", "-3.4e-12", "-1.1e-30", "-5", "0", "-8.483346"} <= set(singles)
    assert {"NaN", "inf", "17364.36151527692"} <= set(doubles)
    assert [shortest(np.float32(each)) for each in singles] == singles
    assert [shortest(np.float64(each)) for each in doubles] == doubles


def test_every_number_of_ngram_is_reproduced():
    text = outputs("srilm")
    pairs = re.findall(r"gram\] (\S+) \[ (\S+) \]", text)
    found = [each for pair in pairs + re.findall(r"logprob= (\S+) ppl= (\S+)", text) for each in pair]
    found += re.findall(r"ppl1= ([^u\s]\S*)", text)
    assert {"1e-05", "-1.234568e-05", "-5", "-inf", "inf", "0", "1", "1.039113e+267", "3576992"} <= set(found)
    assert [number(float(each)) for each in found] == found


@given(st.floats(width=32), st.floats())
def test_shortest_numbers_are_read_back(single, double):
    np.testing.assert_equal(np.float32(shortest(np.float32(single))), np.float32(single))
    np.testing.assert_equal(float(shortest(np.float64(double))), double)
