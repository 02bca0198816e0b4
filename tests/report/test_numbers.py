"""Numbers as KenLM and SRILM write them, against what their programs wrote."""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm.report.numbers import shortest_float32, shortest_float64, srilm_number

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
NUMBERS = [line.split() for line in (GOLDEN / "kenlm" / "numbers.txt").read_text().splitlines()]


def value_of(kind, bits):
    codes = ("<I", "<f") if kind == "s" else ("<Q", "<d")
    return struct.unpack(codes[1], struct.pack(codes[0], int(bits, 16)))[0]


def golden(program, suffix=".out"):
    files = sorted((GOLDEN / program).glob(f"*{suffix}"))
    assert files
    return "".join(path.read_text(encoding="utf-8") for path in files)


@pytest.mark.parametrize("kind", ["s", "d"])
def test_numbers_are_written_as_double_conversion_writes_them(kind):
    shortest = shortest_float32 if kind == "s" else shortest_float64
    expected = {bits: text for k, bits, text in NUMBERS if k == kind}
    assert len(expected) > 150
    assert {bits: shortest(value_of(kind, bits)) for bits in expected} == expected


def test_every_number_of_query_is_written_again():
    text = golden("kenlm")
    singles = re.findall(r"=\d+ \d+ (\S+)\t", text) + re.findall(r"Total: (\S+) ", text)
    doubles = re.findall(r"OOVs:\t(\S+[.naif]\S*)", text)
    assert {"-0.000012345678", "-3.4e-12", "-1.1e-30", "-5", "0", "-8.483346"} <= set(singles)
    assert {"NaN", "inf", "17364.36151527692"} <= set(doubles)
    assert [shortest_float32(float(each)) for each in singles] == singles
    assert [shortest_float64(float(each)) for each in doubles] == doubles


def test_totals_of_query_are_float32():
    for line in (GOLDEN / "kenlm" / "text-2.out").read_text(encoding="utf-8").splitlines()[:-4]:
        total = np.float32(0)
        for cost in re.findall(r"=\d+ \d+ (\S+)\t", line):
            total += np.float32(cost)
        assert re.findall(r"Total: (\S+) ", line) == [shortest_float32(total)]


def test_every_number_of_ngram_is_written_again():
    text = golden("srilm")
    found = re.findall(r"gram\] (\S+) \[ (\S+) \]", text) + re.findall(r"logprob= (\S+) ppl= (\S+)", text)
    numbers = [each for pair in found for each in pair] + re.findall(r"ppl1= ([^u\s]\S*)", text)
    assert {"1e-05", "-1.234568e-05", "-5", "-inf", "inf", "0", "1", "1.039113e+267", "3576992"} <= set(numbers)
    assert [srilm_number(float(each), 7) for each in numbers] == numbers


@pytest.mark.parametrize(
    ("logprob", "written"),
    [
        (-0.1, "0.7943282 [ -0.1 ]"),
        (-0.000012345678, "0.9999716 [ -1.234568e-05 ]"),
        (-5.0, "1e-05 [ -5 ]"),
        (-1.1e-30, "1 [ -1.1e-30 ]"),
        (-45.5, "3.162278e-46 [ -45.5 ]"),
        (-math.inf, "0 [ -inf ]"),
    ],
)
def test_ngram_writes_both_numbers_of_a_word_with_seven_digits(logprob, written):
    assert written in golden("srilm")
    single = float(np.float32(logprob))
    assert f"{srilm_number(10**single, 7)} [ {srilm_number(single, 7)} ]" == written


def test_a_double_too_large_for_a_single_is_infinite():
    assert shortest_float32(-1e300) == "-inf"
    assert shortest_float32(1e-300) == "0"


@given(st.floats(width=32))
def test_float32_is_read_back(value):
    np.testing.assert_equal(np.float32(shortest_float32(value)), np.float32(value))


@given(st.floats())
def test_float64_is_read_back(value):
    np.testing.assert_equal(float(shortest_float64(value)), value)
