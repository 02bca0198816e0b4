"""Minimal pairs on a model whose answers are formulas: <eos> 1/21, sat 2, the 3, cat 4, dog 5, <unk> 6."""

from __future__ import annotations

import math

import pytest

from keraslm.errors import TextError, UsageError
from keraslm.rescoring.pair_files import METHODS, Pair, PairReader
from keraslm.rescoring.pairs import PairResults, pairs, score_pairs
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
    assert list(PairReader([file(JSON)])) == [
        Pair("the cat", "the sat", "syntax", "binding", "principle_A", "7"),
        Pair("dog", "cat", number="2"),
    ]
    expected = [Pair("a b", "", number="1"), Pair("c", "d", number="2")]
    assert list(PairReader([file("a b\t\nc\td\n")])) == expected
    assert [pair.good for pair in PairReader([file("sentence_good\tsentence_bad\na\tb\n")])] == ["a"]
    assert list(PairReader([file("")])) == []


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
        list(PairReader([file(content)]))
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


# The first pairs of anaphor_number_agreement, npi_present_1 and adjunct_island of BLiMP, without the other labels.
BLIMP = (
    '{"sentence_good": "Many teenagers were helping themselves.", '
    '"sentence_bad": "Many teenagers were helping herself.", '
    '"one_prefix_prefix": "Many teenagers were helping", "one_prefix_word_good": "themselves", '
    '"one_prefix_word_bad": "herself", "UID": "anaphor_number_agreement", "simple_LM_method": true, '
    '"one_prefix_method": true, "two_prefix_method": false, "pairID": "0"}\n'
    '{"sentence_good": "Even Suzanne has really joked around.", "sentence_bad": "Even Suzanne has ever joked around.", '
    '"two_prefix_prefix_good": "Only Suzanne has", "two_prefix_prefix_bad": "Even Suzanne has", '
    '"two_prefix_word": "ever", "simple_LM_method": true, "one_prefix_method": false, "two_prefix_method": true}\n'
    '{"sentence_good": "a", "sentence_bad": "b", "simple_LM_method": true, "one_prefix_method": false, '
    '"two_prefix_method": false}\n'
)


def test_each_method_reads_its_fields_and_leaves_out_the_pairs_that_say_so(file):
    reader = PairReader([file(BLIMP), file(BLIMP)], "one-prefix")
    pair = Pair("themselves", "herself", uid="anaphor_number_agreement", number="0")
    prefix = "Many teenagers were helping"
    assert [*reader] == [Pair(**vars(pair) | {"prefix_good": prefix, "prefix_bad": prefix})] * 2
    assert reader.left_out == 4
    assert len([*reader]) == 2 and reader.left_out == 4  # of the latest pass
    reader = PairReader([file(BLIMP)], "two-prefix")
    prefixes = {"prefix_good": "Only Suzanne has", "prefix_bad": "Even Suzanne has"}
    assert [*reader] == [Pair("ever", "ever", number="2", **prefixes)]
    assert len([*PairReader([file(BLIMP)])]) == 3


def test_own_pairs_after_prefixes(file):
    one = [Pair("cat", "dog", number="1", prefix_good="the", prefix_bad="the")]
    assert [*PairReader([file('{"prefix": "the", "word_good": "cat", "word_bad": "dog"}')], "one-prefix")] == one
    assert [*PairReader([file("the\tcat\tdog\n")], "one-prefix")] == one
    two = [Pair("cat", "cat", number="2", prefix_good="the", prefix_bad="")]
    assert [*PairReader([file("prefix_good\tprefix_bad\tword\nthe\t\tcat\n")], "two-prefix")] == two
    assert [*PairReader([file('\ufeff{"prefix_good": "a", "prefix_bad": "b", "word": "c"}\r\n')], "two-prefix")] == [
        Pair("c", "c", number="1", prefix_good="a", prefix_bad="b")
    ]


@pytest.mark.parametrize(
    ("content", "method", "message"),
    [
        ("a\tb\n", "one-prefix", "pairs:1: 2 columns, but three are expected: prefix, tab, good word, tab, bad word"),
        ("a\n", "two-prefix", "pairs:1: 1 columns, but three are expected: good prefix, tab, bad prefix, tab, word"),
        (JSON, "one-prefix", 'pairs:1: no "prefix" with a string, which the method one-prefix needs'),
        (BLIMP.replace("word_good", "word"), "one-prefix", 'pairs:1: no "word_good" with a string'),
        ("a\tb\t\n", "one-prefix", "pairs:1: the word_bad is empty"),
        ('{"prefix_good": "a", "prefix_bad": "b", "word": ""}', "two-prefix", "pairs:1: the word is empty"),
        ('{"prefix_good": "a", "prefix_bad": "b\\nc", "word": "a"}', "two-prefix", "pairs:1: a line end inside a line"),
    ],
)
def test_faults_of_pairs_after_prefixes(file, content, method, message):
    with pytest.raises(TextError) as refused:
        list(PairReader([file(content)], method))
    assert message in str(refused.value)


def test_words_after_prefixes_have_the_scores_of_the_scorer(by_history):
    (one,) = score_pairs(by_history, [("the cat", "sat", "dog")], "one-prefix")
    after = [by_history.score(word, prefix="the cat", eos=False) for word in ("sat", "dog")]
    assert [one.good, one.bad] == pytest.approx(after, abs=1e-6)
    assert one.difference == pytest.approx(after[0] - after[1], abs=1e-6)
    assert one.texts == ("the cat sat", "the cat dog")
    (two,) = score_pairs(by_history, [("the cat", "the bird", "sat sat")], "two-prefix")
    after = [by_history.score("sat sat", prefix=prefix, eos=False) for prefix in ("the cat", "the bird")]
    assert ([two.good, two.bad], two.oovs) == (pytest.approx(after, abs=1e-6), 0)
    (ended,) = score_pairs(by_history, [("the cat", "sat", "dog")], "one-prefix", eos=True)
    assert ended.good == pytest.approx(by_history.score("sat", prefix="the cat"), abs=1e-6)
    (glued,) = score_pairs(by_history, [("the ca", "t", "ts")], "one-prefix", separator="")
    assert glued.good == pytest.approx(by_history.score("cat", prefix="the", eos=False), abs=1e-6)
    (open_,) = score_pairs(by_history, [("the cat", "sat")], eos=False)
    assert open_.good == pytest.approx(by_history.score("the cat", eos=False), abs=1e-6)


def test_words_after_prefixes_by_hand(by_id):
    found = pairs(by_id, [("the", "cat", "sat"), ("the", "bird", "fish")], method="one-prefix")
    assert [score.good for score in found.scores] == pytest.approx([math.log(4 / 21), math.log(6 / 21)], abs=1e-6)
    assert [score.result for score in found.scores] == ["right", "tie"]


def test_two_prefixes_with_the_same_tokens_are_a_tie(by_history, monkeypatch):
    monkeypatch.setattr("keraslm.rescoring.prefixes._TOKENS", 1)  # a tree per text
    (score,) = score_pairs(by_history, [("a bird", "a fish", "sat")], "two-prefix")
    assert (score.difference, score.result) == (0.0, "tie")
    (score,) = score_pairs(by_history, [("a bird", "the bird", "sat")], "two-prefix")
    assert score.result != "tie"


def test_wrong_arguments(by_id):
    for method, names in METHODS.items():
        with pytest.raises(UsageError, match=rf"`sentences\[0\]` is .*{len(names)} strings are expected: {names[0]}"):
            pairs(by_id, [("the",)], method=method)
    with pytest.raises(TextError, match=r"sentences\[0\]: the word_good is empty"):
        pairs(by_id, [("the", "", "cat")], method="one-prefix")
    with pytest.raises(UsageError, match="`method` is 'prefix', but must be one of sentence, one-prefix, two-prefix"):
        pairs(by_id, [], method="prefix")
