"""Minimal pairs on a model whose answers are formulas: <eos> 1/21, sat 2, the 3, cat 4, dog 5, <unk> 6."""

from __future__ import annotations

import math

import pytest

from keraslm.errors import TextError
from keraslm.rescoring.pairs import Pair, PairResults, pairs, read_pairs, score_pairs
from keraslm.text.files import TextFile

JSON = (
    '{"sentence_good": "the cat", "sentence_bad": "the sat", "field": "syntax", "linguistics_term": "binding", '
    '"UID": "principle_A", "pairID": "7", "lexically_identical": true}\n'
    '{"sentence_good": "dog", "sentence_bad": "cat"}\n'
)


@pytest.fixture
def file(tmp_path):
    def write(content: str) -> TextFile:
        (tmp_path / "pairs").write_text(content, encoding="utf-8")
        return TextFile(tmp_path / "pairs", name="pairs")

    return write


def test_blimp_and_two_columns_are_read(file):
    assert list(read_pairs(file(JSON))) == [
        Pair("the cat", "the sat", "syntax", "binding", "principle_A", "7"),
        Pair("dog", "cat", number="2"),
    ]
    expected = [Pair("a b", "", number="1"), Pair("c", "d", number="2")]
    assert list(read_pairs(file("a b\t\nc\td\n"))) == expected
    assert [pair.good for pair in read_pairs(file("sentence_good\tsentence_bad\na\tb\n"))] == ["a"]
    assert list(read_pairs(file(""))) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\n", "pairs:1: 1 columns, but two are expected: good sentence, tab, bad sentence"),
        ("a\tb\n\n", "pairs:2: 1 columns"),
        ("a\tb\tc\n", "pairs:1: 3 columns"),
        ('{"sentence_good": "a"}\n', 'pairs:1: no "sentence_bad" with a string'),
        (JSON + "\n", "pairs:3: not a JSON object"),
        (JSON + "a\tb\n", "pairs:3: not a JSON object"),
    ],
)
def test_faults(file, content, message):
    with pytest.raises(TextError) as refused:
        list(read_pairs(file(content)))
    assert message in str(refused.value)


def test_the_more_probable_sentence_is_preferred(by_id):
    given = [Pair("the cat", "the sat"), ("sat", "dog"), ("cat", "cat sat"), ("the", "the")]
    found = list(score_pairs(by_id, given))
    assert [(score.pair.good, score.pair.bad) for score in found[1:]] == given[1:] and found[0].pair == given[0]
    assert [score.result for score in found] == ["right", "wrong", "right", "tie"]
    assert found[0].difference == pytest.approx(math.log(4 / 2), rel=1e-6)
    assert found[0].good == pytest.approx(math.log(3 * 4 * 1 / 21**3), rel=1e-6)


def test_ties_count_as_wrong_and_unknown_words_are_counted(by_id):
    found = pairs(by_id, [("a bird", "a fish"), ("dog", "cat"), ("bird", "cat")])
    assert found.cells() == ["3", "2", "1", "0.6667", "5", "2"]  # pairs, right, ties, accuracy, OOVs, pairs with one
    assert found.accuracy == pytest.approx(2 / 3)
    assert math.isnan(PairResults([]).accuracy)


def test_results_by_group_for_a_file_and_a_model_path(fake, file):
    found = pairs(fake, file(JSON).path)
    assert found.accuracy == 1.0
    assert {name: len(results.scores) for name, results in found.by("field").items()} == {"syntax": 1, "-": 1}
