"""Thresholds, bounds and buckets, compared with NumPy and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm.errors import ArgumentTypeError, UsageError
from keraslm.filtering.criteria import Criteria, Scores, quantile
from keraslm.filtering.result import Distribution, FilterResult
from keraslm.perplexity import TextCost


def scores(*perplexities: float, bits: float = 1.0) -> list[Scores]:
    return [Scores(value, bits, 3) for value in perplexities]


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=40), st.sampled_from([0.01, 0.25, 0.3, 1 / 3, 0.5, 0.99, 1.0]))
def test_a_quantile_is_that_of_numpy(values, share):
    ascending = sorted(values)
    expected = np.quantile(np.array(ascending), round(share, 12), method="inverted_cdf")
    if abs(share * len(values) - round(share * len(values))) > 1e-9 or share in (0.25, 0.5, 1.0):
        assert quantile(ascending, share) == expected
    assert sum(value <= quantile(ascending, share) for value in values) >= share * len(values) - 1e-9


@pytest.mark.parametrize("share", [number / 100 for number in range(1, 101)])
def test_of_a_hundred_documents_each_percent_is_one(share):
    """In binary numbers, 0.07 * 100 is 7.000000000000001."""
    assert quantile([float(value) for value in range(1, 101)], share) == round(100 * share)


def test_thresholds_are_those_of_the_sample():
    values = np.random.default_rng(3).lognormal(5, 1, 500).round(4)
    keep = Criteria(keep=0.3).rule(scores(*values))
    assert keep.thresholds == (np.quantile(values, 0.3, method="inverted_cdf"),) and keep.sampled == 500
    assert sum(map(keep.keeps, scores(*values))) == 150
    rule = Criteria(bucket=("head", "middle", "tail")).rule(scores(*values))
    assert rule.thresholds == tuple(np.quantile(values, [1 / 3, 2 / 3], method="inverted_cdf"))
    names = [rule.bucket_of(each) for each in scores(*values)]
    assert [names.count(name) for name in ("head", "middle", "tail")] == [167, 167, 166]
    assert all(map(rule.keeps, scores(*values)))


def test_bounds_are_inclusive():
    rule = Criteria(min_perplexity=10, max_perplexity=20).rule()
    assert [rule.keeps(each) for each in scores(9.9999, 10, 20, 20.0001, math.inf)] == [False, True, True, False, False]
    rule = Criteria(min_bits_per_byte=1.5, max_bits_per_byte=2).rule()
    found = [rule.keeps(each) for bits in (1.4, 1.5, 2.0, 2.1) for each in scores(7, bits=bits)]
    assert found == [False, True, True, False]


def test_a_share_is_that_of_the_documents_within_the_bounds():
    sample = scores(1, 2, 3, 10, 20, 30, 40, 1000)
    rule = Criteria(min_perplexity=5, max_perplexity=100, keep=0.5).rule(sample)
    assert (rule.thresholds, rule.sampled) == ((20,), 4)
    assert [each.perplexity for each in sample if rule.keeps(each)] == [10, 20]
    rule = Criteria(min_perplexity=5, max_perplexity=100, bucket=("a", "b")).rule(sample)
    assert [(rule.keeps(each), rule.bucket_of(each)) for each in sample[2:6]] == [
        *((False, "a"), (True, "a"), (True, "a"), (True, "b"))
    ]


def test_given_cutoffs_divide_buckets():
    rule = Criteria(bucket=["head", "middle", "tail"], cutoffs=[30, 300]).rule()
    found = [rule.bucket_of(each) for each in scores(1, 30, 30.0001, 300, 301, math.inf)]
    assert found == ["head", "head", "middle", "middle", "tail", "tail"]
    assert not rule.criteria.needs_sample and rule.marks() == [30, 300]


def test_without_criteria_everything_is_kept():
    rule = Criteria().rule()
    assert rule.keeps(Scores(math.inf, math.inf, 1)) and rule.bucket_of(Scores(3, 1, 1)) == ""


def test_an_empty_sample_keeps_nothing():
    rule = Criteria(keep=0.5).rule([])
    assert math.isnan(rule.thresholds[0]) and not rule.keeps(Scores(1.0, 1.0, 1)) and rule.marks() == []


def test_equal_documents_have_equal_decisions():
    rule = Criteria(keep=0.1).rule(scores(*[7.0] * 9, 8.0))
    assert [rule.keeps(each) for each in scores(7, 8)] == [True, False]
    assert Criteria(bucket=("a", "b", "c")).rule(scores(5, 5, 5)).bucket_of(Scores(5, 1, 1)) == "a"


def test_scores_are_rounded_as_they_are_written():
    cost = TextCost(1, 2, 3, 8, 8, predicted=3, nats=6.0)
    assert Scores.of(cost) == Scores(round(math.exp(2), 4), round(6 / math.log(2) / 8, 6), 3)
    assert Scores.of(TextCost(1, 2, 3, 8, 8, predicted=3, nats=math.inf)).perplexity == math.inf


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"max_perplexity": -1}, UsageError, "`max_perplexity` is -1, but must be 0 or more"),
        ({"min_bits_per_byte": math.nan}, UsageError, "`min_bits_per_byte` is nan"),
        ({"max_perplexity": "3"}, ArgumentTypeError, "`max_perplexity` is '3', but a number is expected"),
        ({"min_perplexity": 3, "max_perplexity": 2}, UsageError, "`min_perplexity` is 3, above `max_perplexity`"),
        ({"keep": 0}, UsageError, "`keep` is 0, but must be a share above 0 and up to 1"),
        ({"keep": 30}, UsageError, "`keep` is 30, but"),
        ({"sample": 0}, UsageError, "`sample` is 0, but must be at least 1"),
        ({"bucket": "head"}, ArgumentTypeError, "`bucket` is 'head', but an iterable of strings"),
        ({"bucket": ["head"]}, UsageError, "two or more different names"),
        ({"bucket": ["a", "a"]}, UsageError, "two or more different names"),
        ({"bucket": ["a", "../b"]}, UsageError, "names of letters and digits"),
        ({"bucket": ["a", "b"], "keep": 0.5}, UsageError, "`bucket` keeps all documents: leave out `keep`"),
        ({"cutoffs": [3]}, UsageError, "`cutoffs` divides buckets: name them with `bucket`"),
        ({"bucket": ["a", "b"], "cutoffs": [3, 4]}, UsageError, "2 numbers, but 2 buckets need 1"),
        ({"bucket": ["a", "b", "c"], "cutoffs": [4, 3]}, UsageError, "ascending perplexities are expected"),
        ({"bucket": ["a", "b"], "cutoffs": [math.nan]}, UsageError, "ascending perplexities are expected"),
    ],
)
def test_wrong_criteria_are_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        Criteria(**arguments)


# Distributions


def test_quantiles_of_a_distribution_are_those_of_numpy():
    values, found = np.random.default_rng(1).lognormal(5, 1.5, 20_000) + 1, Distribution()
    for value in values:
        found.add(value)
    for share in (0.05, 0.5, 0.95):
        assert found.quantile(share) == pytest.approx(np.quantile(values, share), rel=0.003)
    counts, edges = found.histogram()
    logs = np.log10(values)
    assert len(counts) <= 60 and edges[0] <= logs.min() and edges[-1] >= logs.max()
    np.testing.assert_array_equal(counts, np.histogram(logs, edges)[0])


@pytest.mark.parametrize("value", [0.5, 1.0, 20.0, 1e300, math.inf])
def test_a_distribution_takes_every_perplexity(value):
    found = Distribution()
    found.add(value)
    counts, edges = found.histogram()
    assert counts.sum() == 1 and len(edges) == len(counts) + 1
    assert found.quantile(0.5) == pytest.approx(min(max(value, 1.0), 1e12), rel=0.00012)


def test_a_distribution_of_nothing_has_no_quantiles():
    found = Distribution()
    assert math.isnan(found.quantile(0.5)) and found.histogram()[0].tolist() == [0]


def test_a_result_is_described_in_lines():
    result = FilterResult(Criteria(bucket=("low", "high")).rule(scores(10, 20, 30)))
    for each, bucket in zip(scores(10, 20, 30), ("low", "low", "high"), strict=True):
        result.add(each, True, bucket)
    result.add(None, False, "")
    result.seconds = 2.0
    assert result.lines() == [
        "4 documents: 3 kept, 0 dropped, 1 without a text",
        "buckets: low 2, high 1; cutoffs 20, from the first 3 documents",
        "perplexity: 10 (5%), 10 (25%), 20 (50%), 30 (75%), 30 (95%)",
        "9 tokens in 2.0 s, 4 tokens and 2 documents per second",
    ]
    assert (result.documents, result.kept, result.dropped, result.missing) == (4, 3, 0, 1)


def test_many_unknown_words_are_reported():
    result = FilterResult(Criteria().rule())
    for oovs in (0, 2):
        result.add(Scores(10.0, 1.0, 10, oovs), True, "")
        assert len(result.lines()) == 3
    result.add(Scores(10.0, 1.0, 10, 2), True, "")
    assert result.lines()[3].startswith("13% of the tokens are <unk>, which is easy to predict")
