"""Scores after a prefix, and without the symbols at the ends, beside sums over a table of distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm import load
from keraslm.errors import ArgumentTypeError, TextError, UsageError
from keraslm.scoring.conditional import Joined
from keraslm.scoring.texts import Ends, score_texts
from keraslm.scoring.words import boundary, word_scores
from keraslm.text.vocabulary import train_tokenizer
from tests.scoring.test_words import KINDS, TEXT, distributions
from tests.support import fake_model
from tests.support.fake_model import BY_HISTORY, TOKENIZER, V, ids_of

words = st.lists(st.sampled_from(["the", "cat", "cats", "mat!", "zebra", "日本", "sat,", "a"]), max_size=5).map(
    " ".join
)
some_words = words.filter(bool)


@pytest.fixture(scope="module", params=sorted(KINDS))
def model(request, tmp_path_factory):
    """A scorer over a table of random distributions, and the table, for each kind of tokenizer."""
    tokenizer = train_tokenizer(TEXT, KINDS[request.param])
    table = np.log(np.random.default_rng(5).dirichlet(np.ones(tokenizer.vocab_size), tokenizer.vocab_size))
    info = fake_model.info_of(tokenizer)
    return load(fake_model.write(tmp_path_factory.mktemp(request.param) / "model.onnx", table, info)), table


def logprobs_of(scorer, table, line):
    """Natural logarithms of the probabilities of the tokens of a line, its end symbol included."""
    ids = scorer.tokenizer.encode_lines([line])[0]
    return np.log(distributions(scorer, table, ids)[np.arange(len(ids)), ids])


@given(some_words, words)
def test_a_score_after_a_prefix_is_the_difference_of_two_scores(model, prefix, text):
    scorer, table = model
    whole = logprobs_of(scorer, table, f"{prefix} {text}" if text else prefix)
    before = logprobs_of(scorer, table, prefix)[:-1]
    for eos in (True, False):
        expected = whole.sum() - before.sum() - (0 if eos else whole[-1])
        assert scorer.score(text, prefix=prefix, eos=eos) == pytest.approx(expected, abs=2e-5)
        joint = scorer.score(f"{prefix} {text}" if text else prefix, eos=eos) - scorer.score(prefix, eos=False)
        assert scorer.score(text, prefix=prefix, eos=eos) == pytest.approx(joint, abs=1e-6)
    for same in (f"{prefix} ", f"{prefix}  "):
        if text and scorer.tokenizer.encode_prompt(f"{prefix}  {text}").tolist() == (
            scorer.tokenizer.encode_prompt(f"{prefix} {text}").tolist()
        ):
            assert scorer.score(text, prefix=same) == pytest.approx(scorer.score(text, prefix=prefix), abs=1e-6)


def test_white_space_before_the_text_belongs_to_the_text(by_history):
    expected = by_history.score("sat", prefix="the cat")
    for prefix, text in (("the cat ", "sat"), ("the cat", " sat"), ("the cat\t", "sat"), ("the cat ", " sat")):
        assert by_history.score(text, prefix=prefix) == expected
    assert by_history.score("sat", prefix="the cat", separator="\t") == expected
    assert by_history.score("t", prefix="the ca", separator="") == by_history.score("cat", prefix="the")
    assert by_history.score("sat", prefix=" ") == by_history.score("sat")


def test_a_score_after_an_empty_prefix_is_the_score(by_history):
    assert by_history.score("the cat", prefix="") == by_history.score("the cat")


def table_logprob(inputs, target):
    """Of a token after inputs, by the formula of the fake model."""
    return float(BY_HISTORY[sum(i + 1 for i in inputs) % V, target])


def test_without_the_start_the_first_token_is_read_and_not_scored(by_history):
    the, cat, sat, end = ids_of("the cat sat")
    expected = [table_logprob([the], cat), table_logprob([the, cat], sat), table_logprob([the, cat, sat], end)]
    assert by_history.score("the cat sat", bos=False) == pytest.approx(math.fsum(expected), rel=1e-5)
    assert by_history.score("the cat sat", bos=False, eos=False) == pytest.approx(math.fsum(expected[:2]), rel=1e-5)
    assert by_history.score("sat", prefix="the cat", bos=False) == pytest.approx(math.fsum(expected[1:]), rel=1e-5)
    (line,) = by_history.score_lines(["the cat sat"], bos=False, distributions=True)
    assert np.isnan(line.logprobs[0]) and line.ranks[0] == 0 and np.isnan(line.entropies[0])
    assert (line.cost.tokens, line.cost.predicted) == (4, 3)
    np.testing.assert_allclose(line.logprobs[1:], expected, rtol=1e-5)


@pytest.mark.parametrize("distributions", [False, True])
def test_without_the_start_nothing_is_scored_if_a_text_begins_with_its_end(by_history, distributions):
    (found,) = by_history.score_texts(["\nthe cat"], bos=False, distributions=distributions)
    empty, line = found.lines
    assert (len(empty.ids), empty.cost.predicted, line.cost.predicted) == (1, 0, 3)
    assert np.isnan(empty.logprobs).all() and np.isfinite(line.logprobs).all()


@given(st.lists(words, min_size=1, max_size=6), st.sampled_from(["sentence", "paragraph", "document"]))
def test_without_the_start_only_the_first_token_of_each_text_is_left_out(by_history, lines, context):
    found = [*by_history.score_lines([*lines, None, "the cat"], context, bos=False)]
    ids = [ids_of(line) for line in lines]
    groups: list[list[int]] = [[]]
    for line in ids:
        for token in line:
            before = groups[-1][-1] if groups[-1] else 0
            groups[-1].append(token)
            if token == 0 and (context == "sentence" or (context == "paragraph" and before == 0)):
                groups.append([])
    expected = [
        [math.nan, *(table_logprob(group[:n], group[n]) for n in range(1, len(group)))] for group in groups if group
    ]
    logprobs = np.concatenate([line.logprobs for line in found[:-1]])
    np.testing.assert_allclose(logprobs, np.concatenate(expected), rtol=1e-5)
    assert np.isnan(found[-1].logprobs[0]) and not np.isnan(found[-1].logprobs[1:]).any()


def test_texts_may_have_several_lines(by_history):
    texts = ["the cat\nsat\n", ("the cat\nthe", "dog\nsat"), ("the\n", "dog"), ("the", "\ndog"), "", "the\r\ncat"]
    found = [*by_history.score_texts(texts)]
    flat = [i for line in ("the cat", "the dog", "sat") for i in ids_of(line)]
    given_tokens = [0, *ids_of("the cat"), *ids_of("the")[:-1]]
    assert [score.text for score in found] == ["the cat\nsat", "dog\nsat", "dog", "\ndog", "", "the\ncat"]
    expected = [table_logprob([0, *flat][:n], ([0, *flat])[n]) for n in range(len(given_tokens), len(flat) + 1)]
    assert found[1].logprob == pytest.approx(math.fsum(expected), rel=1e-5)
    assert [len(line.ids) for line in found[1].lines] == [2, 2]
    the, dog = ids_of("the")[0], ids_of("dog")[0]
    assert found[2].logprob == pytest.approx(
        table_logprob([0, the, 0], dog) + table_logprob([0, the, 0, dog], 0), rel=1e-5
    )
    assert found[3].logprob == pytest.approx(found[2].logprob + table_logprob([0, the], 0), rel=1e-5)
    assert found[4].logprob == pytest.approx(table_logprob([0], 0), rel=1e-5)
    assert found[5].logprob == pytest.approx(sum(p.sum() for p in by_history.logprobs(["the", "cat"], "document")))
    assert found[0].cost == sum((line.cost for line in found[0].lines[1:]), found[0].lines[0].cost)
    whole = [*by_history.score_texts(texts, lines_ahead=1)]
    np.testing.assert_allclose([a.logprob for a in whole], [b.logprob for b in found], rtol=1e-6)


def test_without_the_end_a_text_is_one_symbol_and_one_character_shorter(by_history):
    (score,) = by_history.score_texts(["the cat"], eos=False)
    cost = score.cost
    assert (cost.tokens, cost.lines, cost.words, cost.characters, cost.bytes) == (2, 0, 2, 7, 7)
    assert cost.perplexity_per_word == pytest.approx(math.exp(-score.logprob / 2))
    (empty,) = by_history.score_texts([""], eos=False)
    assert (empty.logprob, empty.cost.tokens) == (0.0, 0) and math.isnan(empty.cost.perplexity)


@given(words, some_words)
def test_words_after_a_prefix_add_up_and_lie_in_the_text(model, prefix, text):
    scorer, _ = model
    for eos in (True, False):
        (score,) = scorer.score_texts([(prefix, text)], eos=eos)
        (line,) = score.lines
        found = word_scores(line, scorer.tokenizer)
        assert [word.word for word in found] == [*text.split(), *(["<eos>"] if eos else [])]
        assert [text[w.begin : w.end] for w in found[: len(text.split())]] == text.split()
        assert math.fsum(word.logprob for word in found) == pytest.approx(score.logprob, abs=1e-9)


@given(some_words, some_words)
def test_corrected_words_after_a_prefix_are_those_of_the_joined_line(model, prefix, text):
    scorer, _ = model
    bounds = boundary(scorer.tokenizer)
    if bounds is None:
        return
    (whole,) = scorer.score_lines([f"{prefix} {text}"], boundary=bounds)
    joined = word_scores(whole, scorer.tokenizer)[len(prefix.split()) :]
    for eos in (True, False):
        (score,) = score_texts(scorer, [(prefix, text)], Ends(eos=eos), boundary=bounds)
        own = word_scores(score.lines[0], scorer.tokenizer)
        expected = [word.logprob for word in joined[: len(own)]]
        np.testing.assert_allclose([word.logprob for word in own], expected, atol=1e-6)


def test_what_cannot_be_joined(by_history):
    with pytest.raises(TextError, match="prefix: a line end inside a line"):
        by_history.score("cat", prefix="the\nold")
    with pytest.raises(UsageError, match="`separator`"):
        by_history.score("cat", prefix="the", separator="\n")
    for wrong in (3, None, ("the",), ("the", 3), b"the"):
        with pytest.raises(ArgumentTypeError, match=r"texts\[0\]"):
            [*by_history.score_texts([wrong])]
    with pytest.raises(ArgumentTypeError, match="`eos`"):
        by_history.score("the", eos=1)
    assert Joined.of("", "x") == Joined(["x"], 0, 0, 0)
    assert TOKENIZER.vocab_size == V
