"""Totals, best hypotheses and word errors: the example of docs/how-to/rescoring.md, and jiwer's counts by hand."""

from __future__ import annotations

import importlib.util
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm.errors import TextError, UsageError
from keraslm.perplexity import BASES
from keraslm.rescoring.formats.kaldi import read_keyed
from keraslm.rescoring.hypothesis import Hypothesis
from keraslm.rescoring.nbest import best_row, read_nbest
from keraslm.rescoring.rescore import Rescored, Weighting, rescore
from keraslm.rescoring.word_errors import ListErrors, best_point, count_errors, error_rows, utterance_rows
from keraslm.text.files import TextFile

with_jiwer = pytest.mark.skipif(importlib.util.find_spec("jiwer") is None, reason="jiwer is not installed")

EXAMPLE = (
    "utterance\tacoustic\tngram\ttext\n"
    "u1\t-10.0\t-4.0\tthe cat sad\nu1\t-10.5\t-4.0\tthe cat sat\nu1\t-9.0\t-6.0\tthe cats\n"
    "u2\t-7.0\t-3.0\tdogs ran\nu2\t-7.5\t-2.0\tdog ran\nu2\t-7.0\t-4.0\tdogs ran in\n"
)
LM = [[-9.0, -6.0, -5.5], [-5.0, -6.5, -6.0]]
REFERENCES = {"u1": "the cat sat", "u2": "dogs ran"}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "lists.tsv"
    path.write_text(EXAMPLE)
    return TextFile(path, name="lists.tsv")


@pytest.fixture
def lists(file):
    return list(read_nbest(file))


def totals(lists, *weights, **fields):
    weighting = Weighting(*weights, **fields)
    return [Rescored(*each, weighting).totals.tolist() for each in zip(lists, LM, strict=True)]


@pytest.fixture
def errors(lists):
    found = ListErrors(REFERENCES)
    for utterance, scores in zip(lists, LM, strict=True):
        found.add(Rescored(utterance, scores))
    return found


def test_totals_of_the_worked_example(lists):
    assert totals(lists, 0.5, 0) == [[-18.5, -17.5, -17.75], [-12.5, -12.75, -14.0]]
    assert totals(lists, 1, 0) == [[-23.0, -20.5, -20.5], [-15.0, -16.0, -17.0]]
    assert totals(lists, 1, -1) == [[-26.0, -23.5, -22.5], [-17.0, -18.0, -20.0]]
    assert totals(lists, 1, 0, scales=(1, 2)) == [[-27.0, -24.5, -26.5], [-18.0, -18.0, -21.0]]
    assert Rescored(lists[0], LM[0]).best.text == "the cat sat"  # the first of equal totals


@pytest.mark.parametrize("column", ["ngram", "2"])
def test_interpolation_takes_the_old_score_out(lists, column):
    found = totals(lists, 1, 0, interpolate=column, mix=0.5)
    assert found == [[-16.5, -15.5, -14.75], [-11.0, -11.75, -12.0]]
    assert totals(lists, 2, 0, interpolate=column, mix=0.0) == [[-18.0, -18.5, -21.0], [-13.0, -11.5, -15.0]]


def test_first_pass_totals_keep_the_interpolated_score(lists):
    found = Rescored(lists[0], LM[0], Weighting(interpolate="1")).parts
    assert found.first_pass.tolist() == [-14.0, -14.5, -15.0]
    assert found.rest.tolist() == [-4.0, -4.0, -6.0]


def test_faults_of_weights(lists):
    with pytest.raises(TextError, match=r"lists.tsv:2: 2 scores, but `scales` has 1; one per score is needed"):
        totals(lists, scales=(1,))
    for column in ("lm", "0", "3", ""):
        with pytest.raises(TextError, match=f"no score '{column}' to interpolate with. A hypothesis has 2 .* ngram"):
            totals(lists, interpolate=column)
    with pytest.raises(UsageError, match=r"`mix` is 1\.5, but must be between 0 and 1"):
        Weighting(mix=1.5)
    with pytest.raises(UsageError, match="must be finite numbers"):
        Weighting(weight=float("nan"))


def test_a_factor_of_zero_leaves_out_an_impossible_text(lists):
    impossible = [-np.inf, -1.0, -np.inf]
    assert Rescored(lists[0], impossible, Weighting(0.0)).totals.tolist() == [-14.0, -14.5, -15.0]
    old_alone = Weighting(interpolate="2", mix=0.0)
    assert Rescored(lists[0], impossible, old_alone).totals.tolist() == [-14.0, -14.5, -15.0]
    assert Rescored(lists[0], impossible).best.text == "the cat sat"


def test_a_total_that_json_cannot_represent_is_refused(tmp_path):
    path = tmp_path / "lists.jsonl"
    path.write_text('{"utterance": "u1", "text": "the cat"}\n')
    (hypothesis,) = next(read_nbest(TextFile(path), "jsonl"))
    assert best_row(hypothesis, -2.5, "jsonl") == '{"utterance": "u1", "text": "the cat", "total": -2.5}'
    with pytest.raises(TextError, match=r"lists\.jsonl:1: the row has a value that JSON cannot represent"):
        best_row(hypothesis, -np.inf, "jsonl")


def test_arguments_of_a_file_are_refused_for_texts(by_id):
    for wrong in ({"format": "csv"}, {"score_columns": 1}, {"scores": ["costs.txt"]}):
        with pytest.raises(UsageError, match=r"are those of a file, but `lists` are texts\."):
            rescore(by_id, [["the cat"]], **wrong)


def test_hypotheses_with_different_numbers_of_scores_are_refused(by_id):
    lists = [["the"], [Hypothesis("u", "cat", (-1.0,)), Hypothesis("u", "dog")]]
    with pytest.raises(UsageError, match=r"^`lists\[1\]` has hypotheses with 0 and with 1 scores\.$"):
        list(rescore(by_id, lists))


@pytest.mark.parametrize("base", BASES)
def test_lists_are_scored_in_the_requested_base(by_id, file, lists, base):
    found = list(rescore(by_id, file, base=base))
    assert [each.hypotheses for each in found] == lists
    for each in found:
        alone = [by_id.score(hypothesis.text) / BASES[base] for hypothesis in each.hypotheses]
        assert each.logprobs == pytest.approx(alone, abs=1e-5)
    with pytest.raises(UsageError, match="`base` is '3', but must be one of 2, e, 10"):
        rescore(by_id, file, base="3")


def test_lists_can_be_python_data_and_the_model_a_path(fake):
    texts = [["the cat sat", "cat"], ["dog"], [Hypothesis("u3", "the", (-1.0,)), Hypothesis("u3", "cat", (-9.0,))]]
    found = list(rescore([fake, fake], texts, weight=2.0))
    assert [each.best.text for each in found] == ["cat", "dog", "the"]
    assert found[0].totals == pytest.approx([2 * np.log(4 * 3 * 2 / 21**4), 2 * np.log(4 / 21**2)], rel=1e-6)
    assert [each.best.utterance for each in found] == ["1", "2", "u3"]


@with_jiwer
@pytest.mark.parametrize(
    ("reference", "text", "counts"),
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
def test_word_errors_by_hand(reference, text, counts):
    assert count_errors(reference, [text, "x", text])[[0, 2]].tolist() == [counts, counts]


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
@pytest.mark.parametrize(
    ("reference", "text", "counts"),
    [
        ("the cat", "thecat", [0, 0, 0]),  # blanks do not count
        ("the cat", "the\u3000bat ", [1, 0, 0]),
        ("日本語です", "日本 で", [0, 2, 0]),
        ("caf\u00e9", "cafe\u0301", [1, 0, 1]),  # not normalised
        ("", "a b", [0, 0, 2]),
        ("\x1c", "", [0, 1, 0]),  # no white space in Unicode
    ],
)
def test_character_errors_by_hand(reference, text, counts):
    assert count_errors(reference, [text], "char").tolist() == [counts]


@with_jiwer
@given(*[st.text("ab日é \u3000", max_size=8)] * 2)
def test_character_errors_are_those_of_jiwer_without_blanks(said, text):
    import jiwer

    said, text = ("".join(each.split()) for each in (said, text))
    if said:
        assert count_errors(said, [text], "char").sum() == pytest.approx(jiwer.cer(said, text) * len(said))


@with_jiwer
def test_the_unit_of_the_penalty_and_of_the_table(lists):
    found = [Rescored(*each, Weighting(unit="char")) for each in zip(lists, LM, strict=True)]
    assert found[0].parts.words.tolist() == [9.0, 9.0, 7.0]
    errors = ListErrors({"u1": "the cat sat", "u2": "dogsran"}, "char")
    rows = [*utterance_rows(found, errors)]
    assert ["\t".join(row) for row in rows] == [
        "utterance\tcharacters\tfirst_pass_errors\toracle_errors\trescored_errors\treference\tfirst_pass\toracle\trescored",
        "u1\t9\t1\t0\t0\tthe cat sat\tthe cat sad\tthe cat sat\tthe cat sat",
        "u2\t7\t1\t0\t0\tdogsran\tdog ran\tdogs ran\tdogs ran",
    ]
    table = [" ".join(row) for row in error_rows(errors, [(1.0, 0.0)], False, 100)]
    columns = "setting weight word_penalty cer errors substitutions deletions insertions characters"
    assert table == [
        f"{columns} cer_low cer_high improvement",
        "first-pass - - 12.50 2 1 1 0 16 11.11 14.29 -",  # 1 of 9 or 1 of 7, if an utterance is drawn twice
        "oracle - - 0.00 0 0 0 0 16 0.00 0.00 1.0000",
        "rescored 1 0 0.00 0 0 0 0 16 0.00 0.00 1.0000",
    ]
    with pytest.raises(UsageError, match="`unit` is 'letter', but must be one of word, char"):
        Weighting(unit="letter")


@with_jiwer
def test_word_errors_of_the_worked_example(errors):
    first, oracle = errors.total(errors.first_pass()), errors.total(errors.oracle())
    assert (first.errors, first.substitutions, first.words, first.rate) == (2, 2, 5, 0.4)
    assert oracle.errors == errors.total(errors.at(0.5, 0)).errors == 0
    assert errors.total(errors.at(1, 0)).errors == 0  # a tie: the first hypothesis
    worse = errors.total(errors.at(1, -1))
    assert (worse.substitutions, worse.deletions, worse.insertions) == (1, 1, 0)


@with_jiwer
def test_the_best_point_has_the_fewest_errors_and_is_nearest_to_zero(errors):
    points = itertools.product([2.0, 1.0, 0.5, 0.0], [-1.0, 0.0])
    assert best_point({point: errors.total(errors.at(*point)) for point in points}) == (0.5, 0.0)


@with_jiwer
def test_an_utterance_without_a_reference_is_refused(lists):
    errors = ListErrors({"u2": "a"})
    with pytest.raises(TextError, match=r"lists.tsv:2: utterance 'u1' has no reference"):
        errors.add(Rescored(lists[0], LM[0]))
    assert errors.missing == 1


@with_jiwer
@given(st.lists(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=5), max_size=5))
def test_the_first_of_equal_totals_is_chosen(utterances):
    errors, wanted = ListErrors({"u": ""}), 0
    for each in utterances:
        # The number of errors of a hypothesis is its place.
        hypotheses = [Hypothesis("u", " ".join("x" * place), (float(a),)) for place, (a, _) in enumerate(each)]
        errors.add(Rescored(hypotheses, [float(b) for _, b in each]))
        values = [a + 2 * b for a, b in each]
        wanted += values.index(max(values))
    assert errors.total(errors.at(2, 0)).insertions == wanted


def test_references(tmp_path):
    path = tmp_path / "said"
    path.write_text("u1\tthe cat sat\nu2 dogs  ran\nu3\n")
    assert read_keyed(TextFile(path)) == {"u1": "the cat sat", "u2": "dogs  ran", "u3": ""}
    for content, message in (("u1 a\n\n", "said:2: a blank line"), ("u1 a\nu1 b\n", "said:2: utterance 'u1' comes")):
        path.write_text(content)
        with pytest.raises(TextError, match=message):
            read_keyed(TextFile(path, name="said"))
