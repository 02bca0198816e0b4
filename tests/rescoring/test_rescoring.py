"""Totals, the best hypotheses, and word errors: the worked example of docs/rescoring.md, and jiwer's counts by hand."""

from __future__ import annotations

import importlib.util
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm.errors import TextError, UsageError
from keraslm.rescoring.nbest import Hypothesis, read_nbest
from keraslm.rescoring.rescore import Weighting, parts, score_lists
from keraslm.rescoring.word_errors import ListErrors, best_setting, count_errors, grid, read_references
from keraslm.text.files import TextFile

with_jiwer = pytest.mark.skipif(importlib.util.find_spec("jiwer") is None, reason="jiwer is not installed")

EXAMPLE = (
    "utterance\tacoustic\tngram\ttext\n"
    "u1\t-10.0\t-4.0\tthe cat sad\nu1\t-10.5\t-4.0\tthe cat sat\nu1\t-9.0\t-6.0\tthe cats\n"
    "u2\t-7.0\t-3.0\tdogs ran\nu2\t-7.5\t-2.0\tdog ran\nu2\t-7.0\t-4.0\tdogs ran in\n"
)
LM = [[-9.0, -6.0, -5.5], [-5.0, -6.5, -6.0]]
SAID = {"u1": "the cat sat", "u2": "dogs ran"}


@pytest.fixture
def lists(tmp_path):
    path = tmp_path / "lists.tsv"
    path.write_text(EXAMPLE)
    return list(read_nbest(TextFile(path, name="lists.tsv")))


def totals(lists, weight, word_penalty, **fields):
    weighting = Weighting(weight, word_penalty, **fields)
    return [
        parts(utterance, scores, weighting).totals(weight, word_penalty).tolist()
        for utterance, scores in zip(lists, LM, strict=True)
    ]


@pytest.fixture
def errors(lists):
    found = ListErrors()
    for utterance, scores in zip(lists, LM, strict=True):
        found.add(utterance, parts(utterance, scores, Weighting()), SAID)
    return found


def test_totals_of_the_worked_example(lists):
    assert totals(lists, 0.5, 0) == [[-18.5, -17.5, -17.75], [-12.5, -12.75, -14.0]]
    assert totals(lists, 1, 0) == [[-23.0, -20.5, -20.5], [-15.0, -16.0, -17.0]]
    assert totals(lists, 1, -1) == [[-26.0, -23.5, -22.5], [-17.0, -18.0, -20.0]]
    assert totals(lists, 1, 0, scales=(1, 2)) == [[-27.0, -24.5, -26.5], [-18.0, -18.0, -21.0]]


@pytest.mark.parametrize("column", ["ngram", "2"])
def test_interpolation_takes_the_old_score_out(lists, column):
    found = totals(lists, 1, 0, interpolate=column, mix=0.5)
    assert found == [[-16.5, -15.5, -14.75], [-11.0, -11.75, -12.0]]
    assert totals(lists, 2, 0, interpolate=column, mix=0.0) == [[-18.0, -18.5, -21.0], [-13.0, -11.5, -15.0]]


def test_first_pass_totals_keep_the_interpolated_score(lists):
    found = parts(lists[0], LM[0], Weighting(interpolate="1"))
    assert found.first_pass.tolist() == [-14.0, -14.5, -15.0]
    assert found.rest.tolist() == [-4.0, -4.0, -6.0]


def test_faults_of_weights(lists):
    with pytest.raises(TextError, match=r"lists.tsv:2: 2 scores, but 1 scales were given; one each is needed"):
        parts(lists[0], LM[0], Weighting(scales=(1,)))
    for column in ("lm", "0", "3", ""):
        with pytest.raises(TextError, match=f"there is no score '{column}' to interpolate with. There are 2 .* ngram"):
            parts(lists[0], LM[0], Weighting(interpolate=column))
    with pytest.raises(UsageError, match=r"The share of the new score is 1\.5, but must be from 0 to 1"):
        Weighting(mix=1.5)
    with pytest.raises(UsageError, match="must be finite numbers"):
        Weighting(weight=float("nan"))


@pytest.mark.parametrize(("base", "unit"), [("e", 1.0), ("2", np.log(2)), ("10", np.log(10))])
def test_lists_are_scored_in_the_base_asked_for(by_id, lists, base, unit):
    found = list(score_lists(by_id, lists, base))
    assert [utterance for utterance, _ in found] == lists
    alone = [[by_id.score(each.text) / unit for each in utterance] for utterance in lists]
    for (_, scores), wanted in zip(found, alone, strict=True):
        assert scores == pytest.approx(wanted, abs=1e-5)


def test_an_unknown_base_is_refused(by_id, lists):
    with pytest.raises(UsageError, match=r"Unknown base '3'\. Known are: e, 2, 10"):
        next(score_lists(by_id, lists, "3"))


@with_jiwer
@pytest.mark.parametrize(
    ("said", "text", "counts"),
    [
        ("the cat sat", "the cat sat", [0, 0, 0]),
        ("the cat sat", "the bat sat", [1, 0, 0]),
        ("the cat sat", "cat sat down", [0, 1, 1]),
        ("the cat sat", "", [0, 3, 0]),
        ("", "the cat", [0, 0, 2]),
        ("", "", [0, 0, 0]),
        ("the  cat ", " the\u3000cat", [0, 0, 0]),
        ("The cat", "the cat.", [2, 0, 0]),
    ],
)
def test_word_errors_by_hand(said, text, counts):
    assert count_errors(said, [text, "x", text])[[0, 2]].tolist() == [counts, counts]


@with_jiwer
@given(*[st.lists(st.sampled_from("abc"), max_size=6)] * 2)
def test_word_errors_add_up_to_the_edit_distance(said, text):
    rows = np.arange(len(text) + 1)
    for word in said:
        below = [rows[0] + 1]
        for place, other in enumerate(text):
            below.append(min(rows[place] + (word != other), rows[place + 1] + 1, below[-1] + 1))
        rows = np.array(below)
    assert count_errors(" ".join(said), [" ".join(text)]).sum() == rows[-1]


@with_jiwer
def test_word_errors_of_the_worked_example(errors):
    first, oracle = errors.first_pass(), errors.oracle()
    assert (first.errors, first.substitutions, first.words, first.rate) == (2, 2, 5, 0.4)
    assert oracle.errors == 0
    assert errors.at(0.5, 0).errors == 0
    assert errors.at(1, 0).errors == 0  # a tie: the hypothesis that stands first
    worse = errors.at(1, -1)
    assert (worse.substitutions, worse.deletions, worse.insertions) == (1, 1, 0)


@with_jiwer
def test_the_best_setting_has_the_fewest_errors_and_lies_nearest_to_nothing(errors):
    found = grid(errors, itertools.product([2.0, 1.0, 0.5, 0.0], [-1.0, 0.0]))
    assert len(found) == 8
    assert best_setting(found)[:2] == (0.5, 0.0)


@with_jiwer
def test_an_utterance_without_a_reference_is_refused(lists):
    with pytest.raises(TextError, match=r"lists.tsv:2: utterance 'u1' has no reference"):
        ListErrors().add(lists[0], parts(lists[0], LM[0], Weighting()), {"u2": "a"})


@with_jiwer
@given(st.lists(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=5), max_size=5))
def test_the_first_of_equal_totals_is_chosen(utterances):
    found = ListErrors()
    wanted = 0
    for number, each in enumerate(utterances):
        texts = [" ".join("x" * place) for place in range(len(each))]  # as many errors as its place
        list_ = [Hypothesis("u", text, (float(a),), (), [], "") for text, (a, _) in zip(texts, each, strict=True)]
        found.add(list_, parts(list_, [float(b) for _, b in each], Weighting()), {"u": ""})
        values = [a + 2 * b for a, b in each]
        wanted += values.index(max(values))
        assert len(found) == number + 1
    assert found.at(2, 0).insertions == wanted


def test_references(tmp_path):
    path = tmp_path / "said"
    path.write_text("u1\tthe cat sat\nu2 dogs  ran\nu3\n")
    assert read_references(TextFile(path)) == {"u1": "the cat sat", "u2": "dogs  ran", "u3": ""}
    for content, message in (("u1 a\n\n", "said:2: a blank line"), ("u1 a\nu1 b\n", "said:2: utterance 'u1' comes")):
        path.write_text(content)
        with pytest.raises(TextError, match=message):
            read_references(TextFile(path, name="said"))
