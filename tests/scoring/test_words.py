"""Scores of words made of tokens, for tokenizers that write white space and for those that do not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm import load
from keraslm.config import DataConfig
from keraslm.scoring.words import boundary, word_scores
from keraslm.text.pieces import split_words
from keraslm.text.vocabulary import train_tokenizer
from tests.support import fake_model

TEXT = ["the cat sat on the mat", "the cats sat, on  the mat!", "a cat that sat", "that mat"] * 5
KINDS = {
    "word": DataConfig(),
    "punctuation": DataConfig(split_punctuation=True),
    "char": DataConfig(tokenizer="char"),
    "byte": DataConfig(tokenizer="byte"),
    "bpe": DataConfig(tokenizer="bpe", vocab_size=270),
    "unigram": DataConfig(tokenizer="unigram", vocab_size=40),
}
lines = st.lists(
    st.sampled_from(["the", "cat", "cats", "mat!", "zebra", "日本", "sat,", "\t", "  ", "a", ""]), max_size=8
).map(" ".join)


@pytest.fixture(scope="module", params=sorted(KINDS))
def model(request, tmp_path_factory):
    """A scorer over a table of random distributions, and the table, for each kind of tokenizer."""
    tokenizer = train_tokenizer(TEXT, KINDS[request.param])
    size = tokenizer.vocab_size
    table = np.log(np.random.default_rng(3).dirichlet(np.ones(size), size))
    info = fake_model.info_of(tokenizer)
    path = fake_model.write(tmp_path_factory.mktemp(request.param) / "model.onnx", table, info)
    return request.param, load(path), table


def distributions(scorer, table, ids):
    """Probabilities that each token was drawn from, float64 `(tokens, V)`."""
    inputs = np.array([scorer.tokenizer.eos_id, *ids[:-1]])
    return np.exp(table[np.cumsum(inputs + 1) % len(table)])


def pieces_of(line, tokenizer):
    """The tokens of each word; those of white space before a word belong to it."""
    ids = tokenizer.encode_lines([line])[0]
    spans = tokenizer.offsets(line)
    visible = [bool(line[b:e].strip(" \t")) for b, e in spans[:-1]]
    words, current = [], []
    for k, (b, e) in enumerate(spans[:-1]):
        follows = b > 0 and line[b - 1] in " \t" and not (k and spans[k - 1][0] == b)  # not within a character
        starts_new = visible[k] and any(visible[i] for i in current) and (line[b:e][0] in " \t" or follows)
        fresh_space = not visible[k] and any(visible[i] for i in current)
        if starts_new or fresh_space:
            words.append(current)
            current = []
        current.append(k)
    if current and any(visible[i] for i in current):
        words.append(current)
        current = []
    return [*words, [*current, len(ids) - 1]], ids


@given(line=lines)
def test_word_scores_are_the_sums_of_their_tokens(model, line):
    _, scorer, table = model
    (scored,) = scorer.score_lines([line])
    found = word_scores(scored, scorer.tokenizer)
    assert [word.word for word in found] == [*split_words(line), "<eos>"]
    assert [line[word.begin : word.end] for word in found[:-1]] == split_words(line)
    groups, ids = pieces_of(line, scorer.tokenizer)
    own = np.log(distributions(scorer, table, ids)[np.arange(len(ids)), ids])
    np.testing.assert_allclose([word.logprob for word in found], [own[group].sum() for group in groups], atol=1e-4)
    assert [word.oov for word in found] == [
        bool(np.isin(ids[group], scorer.session.info.unk_id).any()) for group in groups
    ]
    assert math.fsum(word.logprob for word in found) == pytest.approx(scored.logprob)


@given(line=lines)
def test_the_correction_moves_the_cost_of_a_boundary_to_the_previous_word(model, line):
    _, scorer, table = model
    mask = boundary(scorer.tokenizer)
    if mask is None:
        assert model[0] in ("word", "punctuation")
        return
    (plain,) = scorer.score_lines([line])
    (scored,) = scorer.score_lines([line], boundary=mask)
    raw, found = word_scores(plain, scorer.tokenizer), word_scores(scored, scorer.tokenizer)
    groups, ids = pieces_of(line, scorer.tokenizer)
    rows = distributions(scorer, table, ids)
    over = np.log(rows[:, mask].sum(1))  # the previous word ends here
    begins = np.log(rows[:, ~mask].sum(1) + rows[:, scorer.tokenizer.eos_id])
    spaced = scorer.tokenizer.space_marks[ids[0]]
    before = [over[group[0]] if place or spaced else begins[0] for place, group in enumerate(groups)]
    after = [*(over[group[0]] for group in groups[1:]), 0.0]
    expected = [word.logprob + a - b for word, a, b in zip(raw, after, before, strict=True)]
    np.testing.assert_allclose([word.logprob for word in found], expected, atol=1e-4)
    assert [word.word for word in found] == [word.word for word in raw]


def test_corrected_probabilities_of_the_next_word_add_up_to_one(tmp_path):
    """Characters a, b and blank: the words of one and two letters after "a", and longer ones as one."""
    tokenizer = train_tokenizer(["ab ba a b"], DataConfig(tokenizer="char"))
    size = tokenizer.vocab_size
    table = np.log(np.tile(np.random.default_rng(5).dirichlet(np.ones(size)), (size, 1)))
    info = fake_model.info_of(tokenizer)
    scorer = load(fake_model.write(tmp_path / "model.onnx", table, info))
    p = {name: math.exp(table[0, tokenizer.encode_lines([name])[0][0]]) for name in ("a", "b", " ")}
    eos, unk = math.exp(table[0, tokenizer.eos_id]), math.exp(table[0, tokenizer.unk_id])
    over = p[" "] + eos
    mask = boundary(tokenizer)
    (scored,) = scorer.score_lines(["a ab"], boundary=mask)
    _, word, end = word_scores(scored, tokenizer)
    assert math.exp(word.logprob) == pytest.approx(p[" "] * p["a"] * p["b"] * over / over, rel=1e-5)
    assert math.exp(end.logprob) == pytest.approx(eos / over, rel=1e-5)
    # A next word is a blank and letters (a, b, unknown) up to the next boundary, or there is none: eos.
    letters = p["a"] + p["b"] + unk
    total = eos / over + (p[" "] / over) * sum(letters**n * over for n in range(200))
    assert total == pytest.approx(1.0)


def test_a_blank_line_has_only_its_end(model):
    (scored,) = model[1].score_lines([""])
    (word,) = word_scores(scored, model[1].tokenizer)
    assert (word.word, word.begin, word.end, word.tokens) == ("<eos>", 0, 0, (0, 1))
    assert word.logprob == scored.logprob


def test_which_tokens_begin_with_white_space():
    marked = {}
    for kind, config in KINDS.items():
        tokenizer = train_tokenizer(TEXT, config)
        marks = tokenizer.space_marks
        marked[kind] = None if marks is None else {tokenizer.tokens([i])[0] for i in np.flatnonzero(marks)}
    assert marked["word"] is None and marked["punctuation"] is None
    assert marked["char"] == {" "}
    assert {"Ġ", "Ċ"} & marked["byte"] == {"Ġ"}
    assert "Ġthe" in marked["bpe"] and "the" not in marked["bpe"]
    assert marked["unigram"] and all(name.startswith("▁") for name in marked["unigram"])
