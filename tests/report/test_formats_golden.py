"""The formats of KenLM and SRILM, byte by byte what their programs printed for the same probabilities."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from keraslm.report.kenlm_format import kenlm_rows
from keraslm.report.options import ScoreOptions
from keraslm.report.srilm_format import srilm_rows
from keraslm.scoring.measures import LineScore
from tests.support.words import train_words

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
ARPA = (GOLDEN / "kenlm" / "model.arpa").read_text(encoding="utf-8")
KNOWN = [line.split("\t")[1] for line in ARPA.split("\\2-grams:")[0].splitlines() if "\t" in line]
TOKENIZER = train_words([" ".join(word for word in KNOWN if word not in ("<unk>", "<s>"))])
# What an LSTM cannot have: KenLM's ids (but 0 for `<unk>`), and the length of an n-gram.
IDS = re.compile(r"=(?:(0)|\d+) \d+ (?=\S+\t)")
LENGTHS = re.compile(r"\[\dgram\]")


def query(name):
    return (GOLDEN / "kenlm" / f"{name}.out").read_text(encoding="utf-8")


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
def test_the_output_is_that_of_query(name, level, verbosity):
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
def test_the_output_is_that_of_ngram(name, model, unk, level, debug):
    expected = (GOLDEN / "srilm" / f"{model}-{name}-{debug}.out").read_text(encoding="utf-8").splitlines()
    lines = (line for line in scores(name) if line.text.strip())  # SRILM has no blank lines
    found = list(srilm_rows(lines, TOKENIZER, ScoreOptions(level=level, format="srilm", unk=unk), name=f"{name}.txt"))
    assert [LENGTHS.sub("[gram]", row) for row in found] == [LENGTHS.sub("[gram]", row) for row in expected]


def test_a_text_without_lines_is_one_line_of_ngram():
    expected = (GOLDEN / "srilm" / "closed-empty-2.out").read_text(encoding="utf-8").splitlines()
    assert list(srilm_rows([], TOKENIZER, ScoreOptions(format="srilm"), name="empty.txt")) == expected
