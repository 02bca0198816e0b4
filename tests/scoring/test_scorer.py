"""Scores of text, compared with models whose answers are formulas."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm.config import CONTEXTS
from keraslm.errors import TextError, UsageError
from keraslm.scoring import rows as engine
from tests.support.fake_model import BY_HISTORY, TOKENIZER, V, expected, ids_of
from tests.support.limits import small_limits

# Known and unknown words, blank lines, and lines that are longer than the small limits below.
lines_of_words = st.lists(
    st.lists(st.sampled_from(["the", "cat", "dog", "sat", "bird", "<unk>", "<eos>"]), max_size=12).map(" ".join),
    min_size=1,
    max_size=12,
)
limits = st.fixed_dictionaries(
    {"MAX_LOGITS": st.integers(1, 200), "MAX_STEPS": st.integers(1, 6), "MAX_ROWS": st.integers(1, 4)}
)
ahead = st.integers(1, 8)
contexts = st.sampled_from(CONTEXTS)
lines_of_files = st.lists(lines_of_words.map(lambda lines: [*lines, None]), max_size=3).map(
    lambda files: [*itertools.chain.from_iterable(files)]
)


@pytest.fixture(params=CONTEXTS)
def context(request):
    return request.param


def ids_of_text(lines):
    return [i for line in lines for i in ids_of(line)]


def texts_of(lines, context):
    """The ids of each text that lines make; an end symbol may be written in a line, and None ends a file."""
    texts, text, before = [], [], 0
    for token in [token for line in [*lines, None] for token in ([None] if line is None else ids_of(line))]:
        text += [] if token is None else [token]
        ends = token == 0 and (context == "sentence" or (context == "paragraph" and before == 0))
        if text and (token is None or ends):
            texts.append(text)
            text = []
        before = token or 0
    return texts


def test_a_written_end_symbol_ends_a_sentence(by_history):
    both, parts = by_history.logprobs(["the <eos> cat sat"])[0], by_history.logprobs(["the", "cat sat"])
    np.testing.assert_array_equal(both, np.concatenate(parts))
    whole = by_history.logprobs(["the <eos> cat sat"], "document")[0]
    np.testing.assert_allclose(whole, expected(BY_HISTORY, [ids_of("the <eos> cat sat")])[0], rtol=1e-5)
    lines = ["the <eos>", "cat", "sat <eos> <eos> dog"]  # two paragraphs end, as after blank lines
    found = np.concatenate(by_history.logprobs(lines, "paragraph"))
    np.testing.assert_allclose(
        found, np.concatenate(by_history.logprobs(["the", "", "cat", "sat", "", "dog"], "paragraph"))
    )


def test_logprobs_are_those_of_the_table(by_id):
    (found,) = by_id.logprobs(["the bird sat"])
    np.testing.assert_allclose(found, np.log(np.array([3, 6, 2, 1]) / 21), rtol=1e-6)
    assert found.dtype == np.float64
    (line,) = by_id.score_lines(["the bird sat"])
    assert (line.ids.tolist(), line.oov.tolist()) == ([2, 5, 1, 0], [False, True, False, False])
    assert line.logprob == by_id.score("the bird sat") == math.fsum(found)
    assert line.ranks is line.entropies is line.entropy_reductions is line.boundaries is None


@pytest.mark.parametrize("blank", ["", " ", "\t  \u2003"])
def test_a_blank_line_is_the_end_symbol_alone(by_history, context, blank):
    (line,) = by_history.score_lines([blank], context)
    assert line.ids.tolist() == [0]
    assert line.logprob == pytest.approx(BY_HISTORY[1, 0], rel=1e-5)


@given(lines=lines_of_files, context=contexts, values=limits, lines_ahead=ahead, distributions=st.booleans())
def test_scores_do_not_depend_on_neighbours_blocks_or_limits(
    by_history, context, lines, values, lines_ahead, distributions
):
    with small_limits(engine, values):
        found = list(by_history.score_lines(lines, context, distributions, lines_ahead))
    assert [line.text for line in found] == [line for line in lines if line is not None]
    assert [len(line.logprobs) for line in found] == [len(ids_of(line)) for line in lines if line is not None]
    wanted = expected(BY_HISTORY, texts_of(lines, context))
    np.testing.assert_allclose([p for line in found for p in line.logprobs], np.concatenate(wanted or [[]]), atol=1e-5)


@given(lines=lines_of_files, context=contexts, values=limits, lines_ahead=ahead)
def test_ranks_and_entropies_are_those_of_the_table(by_history, context, lines, values, lines_ahead):
    with small_limits(engine, values):
        found = list(by_history.score_lines(lines, context, True, lines_ahead))
    ranks, entropies, reductions = [], [], []
    for ids in texts_of(lines, context):
        states = np.cumsum(np.array([TOKENIZER.eos_id, *ids[:-1]]) + 1) % V
        rows = BY_HISTORY[states]  # [tokens, V]
        ranks += [int((row > row[token]).sum()) + 1 for row, token in zip(rows, ids, strict=True)]
        own = [-float((np.exp(row) * row).sum()) for row in rows]
        entropies += own
        reductions += [0.0, *(max(0.0, before - after) for before, after in itertools.pairwise(own))]
    np.testing.assert_array_equal([x for line in found for x in line.ranks], ranks)
    np.testing.assert_allclose([x for line in found for x in line.entropies], entropies, atol=1e-5)
    np.testing.assert_allclose([x for line in found for x in line.entropy_reductions], reductions, atol=1e-5)


def test_paragraphs_and_files_are_scored_side_by_side(by_history, monkeypatch):
    shapes = []
    watch(by_history.session, monkeypatch, shapes)
    lines = ["the cat", "sat", "", "dog sat the", "", "the", ""]
    list(by_history.score_lines(["warm up", None, "the", "two", None, *lines], "paragraph"))
    shapes.clear()
    blocks = [*itertools.chain.from_iterable(["the cat sat", "dog", None] for _ in range(60))]
    list(by_history.score_lines(blocks, "document"))
    assert max(rows for rows, _ in shapes) > 10


def test_rows_that_have_ended_are_not_computed(by_history, monkeypatch):
    shapes = []
    watch(by_history.session, monkeypatch, shapes)
    monkeypatch.setattr(engine, "MAX_STEPS", 4)
    found = by_history.score_lines(["the"] * 15 + ["the cat sat dog " * 5], lines_ahead=16)
    assert len(list(found)) == 16
    assert [rows for rows, _ in shapes][-5:] == [1] * 5  # 21 tokens, four at a time, after the short ones have ended


def test_with_one_line_ahead_each_is_answered_before_the_next_is_read(by_history, context):
    read = []

    def lines():
        for number in range(20):
            read.append(number)
            yield "the cat"

    for number, _ in enumerate(by_history.score_lines(lines(), context, lines_ahead=1)):
        assert read[-1] == number


def test_no_lines_ahead_are_refused(by_id):
    with pytest.raises(UsageError, match=r"^`lines_ahead` is 0, but must be at least 1\.$"):
        by_id.score_lines([], lines_ahead=0)


def test_the_state_is_a_value(by_history):
    begin = by_history.begin()
    ids, context, found = ids_of("the cat sat"), begin, []
    for token in ids:
        logprob, context = by_history.advance(context, token)
        found.append(logprob)
    np.testing.assert_allclose(found, expected(BY_HISTORY, [ids])[0], rtol=1e-5)
    again, _ = by_history.advance(begin, ids[0])
    assert again == found[0] and begin == by_history.begin() and begin != context
    assert len({begin, by_history.begin(), copy.deepcopy(begin), context}) == 2
    np.testing.assert_allclose(by_history.next_logprobs(begin), BY_HISTORY[1], rtol=1e-6)


@given(st.lists(st.integers(0, V - 1), max_size=9), st.integers(0, 9), limits)
def test_several_tokens_have_the_scores_of_single_ones(by_history, tokens, cut, values):
    single, context = [], by_history.begin()
    for token in tokens:
        logprob, context = by_history.advance(context, token)
        single.append(logprob)
    with small_limits(engine, values):
        first, between = by_history.advance_all(by_history.begin(), tokens[:cut])
        second, end = by_history.advance_all(between, tokens[cut:])
    assert [*first, *second] == single
    assert end == context


def watch(session, monkeypatch, shapes):
    """Record the shape of every call."""
    call = session.target_logprobs
    monkeypatch.setattr(session, "target_logprobs", lambda ids, *rest: shapes.append(ids.shape) or call(ids, *rest))


def test_a_line_of_thousands_of_words_is_scored_in_chunks(by_history, context, monkeypatch):
    longest = []
    watch(by_history.session, monkeypatch, longest)
    line = "the cat sat dog " * 700
    (found,) = by_history.logprobs([line], context)
    np.testing.assert_allclose(found, expected(BY_HISTORY, [ids_of(line)])[0], rtol=1e-5)
    assert max(steps for _, steps in longest) <= engine.MAX_STEPS < len(found)


def test_a_call_never_holds_more_logits_than_allowed(by_history, monkeypatch):
    shapes = []
    watch(by_history.session, monkeypatch, shapes)
    monkeypatch.setattr(engine, "MAX_LOGITS", 300)
    by_history.logprobs(["the cat sat"] * 100 + ["the " * 200])
    assert max(rows * steps * 6 for rows, steps in shapes) <= 300
    assert max(rows for rows, _ in shapes) > 1


def test_the_first_sentence_is_scored_before_the_second_is_read(by_history):
    def lines():
        yield "the cat sat"
        pytest.fail("the second line was read")

    assert next(by_history.score_lines(lines())).ids.tolist() == [2, 3, 1, 0]


def test_lines_before_an_error_in_the_text_are_scored(by_history, context):
    texts = ["the cat", "sat", "dog", "the", "cat sat", "the dog"]

    def lines():
        yield from texts
        raise TextError("text:7: the disk is gone")

    found = []
    with pytest.raises(TextError, match="the disk is gone"):
        for line in by_history.score_lines(lines(), context):
            found.append(line.ids.tolist())  # noqa: PERF401 - extend would lose what was found
    assert found == [ids_of(text) for text in texts]


@pytest.mark.parametrize(
    ("line", "characters", "size"),
    [("", 1, 1), ("the", 4, 4), ("naïve", 6, 7), ("日本 cat", 7, 11), ("🎈", 2, 5), ("a\u2028b", 4, 6)],
)
def test_characters_and_bytes_count_the_line_end_as_one(by_id, context, line, characters, size):
    (score,) = by_id.score_lines([line], context)
    assert (score.characters, score.bytes) == (characters, size)


def test_an_empty_text_has_no_scores(by_id, context):
    assert list(by_id.score_lines([], context)) == []
    assert math.isnan(by_id.perplexity([], context))


def test_perplexity_counts_every_token_and_each_line_end(by_id):
    # cat <eos>, <eos>: probabilities 4/21, 1/21, 1/21.
    assert by_id.perplexity(["cat", ""]) == pytest.approx((21**3 / 4) ** (1 / 3), rel=1e-6)


def test_perplexity_of_a_document_carries_the_state(by_history):
    lines = ["the cat", "dog", "sat"]
    whole = expected(BY_HISTORY, [ids_of_text(lines)])[0]
    assert by_history.perplexity(lines, "document") == pytest.approx(math.exp(-whole.mean()), rel=1e-5)
    assert by_history.perplexity(lines, "document") != pytest.approx(by_history.perplexity(lines), rel=1e-3)


def test_an_unknown_context_is_refused_before_the_text_is_read(by_id):
    with pytest.raises(UsageError, match=r"^`context` is 'page', but must be one of sentence, paragraph, document\.$"):
        by_id.score_lines(iter([]), "page")
