"""Scores as text, held to the letter."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import math

import numpy as np
import pytest

from keraslm import Summary, load, summarize
from keraslm.perplexity import bits
from keraslm.report.options import ScoreOptions
from keraslm.report.tables import table
from tests.support import fake_model
from tests.support.fake_model import TOKENIZER

# <eos> 1/21, sat 2/21, the 3/21, cat 4/21, <unk> 6/21, as float32 holds their logarithms: the file gives no more.
TOKEN_ROWS = [
    "sentence_id\ttoken_id\ttoken\tlogprob\tsurprisal",
    "1\t1\tthe\t-1.945910\t2.807355",
    "1\t2\t<unk>\t-1.252763\t1.807355",
    "1\t3\tsat\t-2.351375\t3.392318",
    "1\t4\t<eos>\t-3.044523\t4.392318",
    "2\t1\t<eos>\t-3.044523\t4.392318",
    "3\t1\tcat\t-1.658228\t2.392317",
    "3\t2\t<eos>\t-3.044523\t4.392318",
]
SENTENCE_ROWS = [
    "sentence_id\ttokens\toovs\tlogprob\tsurprisal\tperplexity",
    "1\t4\t1\t-8.594571\t12.399345\t8.5732",
    "2\t1\t0\t-3.044523\t4.392318\t21.0000",
    "3\t2\t0\t-4.702751\t6.784635\t10.5000",
]
LINES = ["the bürd sat", "", "cat"]
TOKENS, SENTENCES = ScoreOptions(level="token"), ScoreOptions(level="sentence")


@pytest.fixture
def scores(by_id):
    return by_id.score_lines(LINES)


def strict(text):
    """Parse JSON as the standard has it: no NaN, no Infinity."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_token_rows(scores):
    assert list(table(scores, TOKENIZER, TOKENS)) == TOKEN_ROWS


def test_sentence_rows(scores):
    assert list(table(scores, TOKENIZER, SENTENCES)) == SENTENCE_ROWS


def test_rows_are_tab_separated_values(scores):
    rows = list(csv.DictReader(table(scores, TOKENIZER, TOKENS), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert [row["token"] for row in rows] == ["the", "<unk>", "sat", "<eos>", "<eos>", "cat", "<eos>"]
    assert sum(float(row["surprisal"]) for row in rows) == pytest.approx(math.log2(21**7 / (3 * 6 * 2 * 4)), abs=1e-5)


def test_an_empty_text_has_only_headers():
    assert list(table([], TOKENIZER, TOKENS)) == TOKEN_ROWS[:1]
    assert list(table([], TOKENIZER, SENTENCES)) == SENTENCE_ROWS[:1]


def test_rows_come_one_by_one(by_id):
    endless = by_id.score_lines(itertools.repeat("cat"))
    assert list(itertools.islice(table(endless, TOKENIZER, TOKENS), 3))[-1] == "1\t2\t<eos>\t-3.044523\t4.392318"
    assert (
        next(itertools.islice(table(endless, TOKENIZER, SENTENCES), 1, None)) == "1\t2\t0\t-4.702751\t6.784635\t10.5000"
    )


def test_summary_counts(scores):
    summary = summarize(scores)
    counts = (summary.lines, summary.words, summary.tokens, summary.oovs, summary.characters, summary.bytes)
    assert counts == (3, 4, 7, 1, 18, 19)


def test_summary_formulas(scores):
    summary = summarize(scores)
    nats = math.log(21**7 / (3 * 6 * 2 * 4))
    assert summary.nats == pytest.approx(nats, rel=1e-6)
    assert summary.perplexity == pytest.approx(math.exp(nats / 7), rel=1e-6)
    assert summary.perplexity_excluding_oovs == pytest.approx((21**6 / (3 * 2 * 4)) ** (1 / 6), rel=1e-6)
    assert summary.bits_per_character == pytest.approx(nats / math.log(2) / 18, rel=1e-6)
    assert summary.bits_per_byte == pytest.approx(nats / math.log(2) / 19, rel=1e-6)


def test_summary_as_rows(scores):
    assert summarize(scores).rows() == [
        "lines                     3",
        "words                     4",
        "tokens                    7",
        "characters                18",
        "bytes                     19",
        "oovs                      1",
        "predicted                 7",
        "nats                      16.3418",
        "oov_nats                  1.2528",
        "perplexity                10.3248",
        "perplexity_excluding_oovs 12.3647",
        "perplexity_per_word       10.3248",
        "bits_per_character        1.3098",
        "bits_per_byte             1.2409",
    ]


def test_summary_of_an_empty_text_is_not_a_number():
    summary = summarize([])
    assert (summary.lines, summary.tokens, summary.nats) == (0, 0, 0.0)
    assert "perplexity                nan" in summary.rows()
    assert not any(row.startswith("note") for row in summary.rows())
    values = strict(json.dumps(summary.to_dict()))
    undefined = (
        "perplexity",
        "perplexity_excluding_oovs",
        "perplexity_per_word",
        "bits_per_character",
        "bits_per_byte",
    )
    assert {name for name, value in values.items() if value is None} == set(undefined)


def test_summary_of_unknown_words_alone_is_finite_and_says_so(by_id):
    summary = summarize(by_id.score_lines(["zebra gnu", "emu"]))
    assert (summary.words, summary.oovs) == (3, 3)
    assert summary.perplexity == pytest.approx((21**5 / 6**3) ** (1 / 5), rel=1e-6)
    assert math.isnan(summary.perplexity_excluding_oovs)
    assert any(row.startswith("note: ") for row in summary.rows())
    assert strict(json.dumps(summary.to_dict()))["perplexity_excluding_oovs"] is None


def test_summary_of_blank_lines_has_no_unknown_words(by_id):
    summary = summarize(by_id.score_lines(["", " "]))
    assert (summary.words, summary.tokens, summary.oovs) == (0, 2, 0)
    assert summary.perplexity_excluding_oovs == pytest.approx(summary.perplexity) == pytest.approx(21.0, rel=1e-6)
    assert not any(row.startswith("note") for row in summary.rows())


def test_json_holds_every_number_of_the_summary(scores):
    summary = summarize(scores)
    values = strict(json.dumps(summary.to_dict()))
    assert {name: getattr(summary, name) for name in values} == values
    assert Summary(**{field.name: values[field.name] for field in dataclasses.fields(Summary)}) == summary


def test_a_perplexity_beyond_all_floats_is_infinite(tmp_path):
    answers = fake_model.BY_ID.copy()
    answers[:, 3] = -1000.0
    answers -= np.logaddexp.reduce(answers, axis=1)[:, None]
    lines = list(load(fake_model.write(tmp_path / "model.onnx", answers)).score_lines(["cat " * 50]))
    summary = summarize(lines)
    assert summary.perplexity == math.inf
    assert strict(json.dumps(summary.to_dict()))["perplexity"] is None
    assert list(table(lines, TOKENIZER, SENTENCES))[1].endswith("\tinf")


@pytest.mark.parametrize(("nats", "expected"), [(math.log(0.5), 1.0), (math.log(1 / 8), 3.0), (0.0, 0.0)])
def test_bits_are_nats_over_ln_2(nats, expected):
    assert bits(nats) == pytest.approx(expected)


def test_a_certain_token_has_no_negative_zero():
    assert str(bits(0.0)) == str(bits(-0.0)) == "0.0"
