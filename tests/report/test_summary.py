"""Costs of lines added up, and the summary of a text. Token i has probability (i + 1) / 21."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from keraslm import ScoreOptions, TextCost, load, summarize
from keraslm.perplexity import BASES, bits, perplexity
from keraslm.report.tables import table
from tests.support import fake_model
from tests.support.fake_model import TOKENIZER

LINES = ["the bürd sat", "", "cat"]
NATS = math.log(21**7 / (3 * 6 * 2 * 4))


@pytest.fixture
def summary(by_id):
    return summarize(by_id.score_lines(LINES))


def strict(values):
    """Write and parse strict JSON, without NaN and Infinity."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(json.dumps(values), parse_constant=refuse)


def test_counts(summary):
    counts = (summary.lines, summary.words, summary.tokens, summary.oovs, summary.characters, summary.bytes)
    assert counts == (3, 4, 7, 1, 18, 19)


def test_formulas(summary):
    assert summary.nats == pytest.approx(NATS, rel=1e-6)
    assert summary.perplexity == pytest.approx(math.exp(NATS / 7), rel=1e-6)
    assert summary.bits_per_token == pytest.approx(NATS / math.log(2) / 7, rel=1e-6)
    assert summary.perplexity_excluding_oovs == pytest.approx((21**6 / (3 * 2 * 4)) ** (1 / 6), rel=1e-6)
    assert summary.perplexity_per_word == pytest.approx(math.exp(NATS / (4 + 3)), rel=1e-6)
    assert summary.bits_per_character == pytest.approx(NATS / math.log(2) / 18, rel=1e-6)
    assert summary.bits_per_byte == pytest.approx(NATS / math.log(2) / 19, rel=1e-6)


def test_costs_of_lines_add_up_to_the_cost_of_the_text(by_history):
    lines = list(by_history.score_lines([*LINES, "dog bird"]))
    first, second = summarize(lines[:2]), summarize(lines[2:])
    both = summarize(lines)
    assert {**vars(first + second), "nats": 0, "oov_nats": 0} == {**vars(both), "nats": 0, "oov_nats": 0}
    assert (first + second).nats == pytest.approx(both.nats) == -math.fsum(line.logprob for line in lines)
    assert (first + second).oov_nats == pytest.approx(both.oov_nats)


def test_sums_and_counts_are_those_of_the_scored_tokens():
    cost = TextCost(5, 40, 45, 200, 200, oovs=30, predicted=40, predicted_oovs=10, nats=100.0, oov_nats=10.0)
    assert cost.perplexity == pytest.approx(math.exp(100 / 40))
    assert cost.bits_per_token == pytest.approx(100 / 40 / math.log(2))
    assert cost.perplexity_excluding_oovs == pytest.approx(math.exp(90 / 30))
    assert cost.perplexity_per_word == pytest.approx(math.exp(100 / 40 * 45 / 45))
    assert cost.bits_per_character == pytest.approx(100 / 40 * 45 / math.log(2) / 200)


def test_rows(summary):
    assert summary.rows() == [
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
        "bits_per_token            3.3680",
        "perplexity_excluding_oovs 12.3647",
        "perplexity_per_word       10.3248",
        "bits_per_character        1.3098",
        "bits_per_byte             1.2409",
        "note: 25 % of the tokens in lines are <unk>, which is easy to predict",
    ]
    assert "note" not in " ".join(dataclasses.replace(summary, tokens=13).rows())  # a tenth


def test_json_holds_every_number(summary):
    values = strict(summary.to_dict())
    assert {name: getattr(summary, name) for name in values} == values
    assert TextCost(**{field.name: values[field.name] for field in dataclasses.fields(TextCost)}) == summary


def test_quotients_of_an_empty_text_are_not_a_number():
    summary = summarize([])
    assert (summary.lines, summary.tokens, summary.nats) == (0, 0, 0.0)
    assert "perplexity                nan" in summary.rows()
    assert not any(row.startswith("note") for row in summary.rows())
    undefined = {name for name, value in strict(summary.to_dict()).items() if value is None}
    assert undefined == {
        *("perplexity", "perplexity_excluding_oovs", "perplexity_per_word"),
        *("bits_per_token", "bits_per_character", "bits_per_byte"),
    }


def test_a_text_of_unknown_words_has_a_note(by_id):
    summary = summarize(by_id.score_lines(["zebra gnu", "emu"]))
    assert (summary.words, summary.oovs) == (3, 3)
    assert summary.perplexity == pytest.approx((21**5 / 6**3) ** (1 / 5), rel=1e-6)
    assert math.isnan(summary.perplexity_excluding_oovs)
    assert any(row.startswith("note: ") for row in summary.rows())
    assert strict(summary.to_dict())["perplexity_excluding_oovs"] is None


def test_blank_lines_are_not_unknown_words(by_id):
    summary = summarize(by_id.score_lines(["", " "]))
    assert (summary.words, summary.tokens, summary.oovs) == (0, 2, 0)
    assert summary.perplexity_excluding_oovs == pytest.approx(summary.perplexity) == pytest.approx(21.0, rel=1e-6)
    assert not any(row.startswith("note") for row in summary.rows())


def test_a_perplexity_beyond_all_floats_is_infinite(tmp_path):
    answers = fake_model.BY_ID.copy()
    answers[:, 3] = -1000.0
    answers -= np.logaddexp.reduce(answers, axis=1)[:, None]
    lines = list(load(fake_model.write(tmp_path / "model.onnx", answers)).score_lines(["cat " * 50]))
    summary = summarize(lines)
    assert summary.perplexity == math.inf
    assert strict(summary.to_dict())["perplexity"] is None
    assert list(table(lines, TOKENIZER, ScoreOptions(level="sentence")))[1].endswith("\tinf")


@pytest.mark.parametrize("base", BASES)
def test_perplexity_is_the_same_in_every_base(base):
    assert perplexity(NATS / BASES[base], 7, base) == pytest.approx(math.exp(NATS / 7))
    assert perplexity(1e6, 1, base) == math.inf and math.isnan(perplexity(0.0, 0, base))


@pytest.mark.parametrize(("nats", "expected"), [(math.log(0.5), 1.0), (math.log(1 / 8), 3.0), (0.0, 0.0)])
def test_bits_are_nats_over_ln_2(nats, expected):
    assert bits(nats) == pytest.approx(expected)


def test_a_certain_token_has_no_negative_zero():
    assert str(bits(0.0)) == str(bits(-0.0)) == "0.0"
