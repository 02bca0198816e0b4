"""Filtered words, compared with an enumeration of every sequence of tokens, and with a list that is filtered later."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keraslm
from keraslm.config import DataConfig
from keraslm.errors import ArgumentTypeError, UsageError
from keraslm.scoring import word_filter
from keraslm.scoring.predict import next_tokens, predict, predict_from
from keraslm.text.vocabulary import train_tokenizer
from tests.support import fake_model
from tests.support.enumerated import KINDS, Known

pytestmark = pytest.mark.usefixtures("short_words")
ALL = 20_000  # more words and beams than there can be


def as_pairs(words) -> list[tuple[str, float]]:
    return [(item.word, item.probability) for item in words]


def expected(known: Known, text: str, begun: str) -> dict[str, float]:
    line = text.removesuffix(begun).rstrip()
    always_blank = "▁" in "".join(known.tokenizer.tokens(range(known.size)))
    before = known.tokenizer.encode_prompt(line).tolist()
    return known.words(before, " " if line or always_blank else "", begun)


CASES = [("", ""), ("cat ", ""), ("cat c", "c"), ("a cat at", "at")]


@pytest.mark.parametrize(("text", "begun"), CASES)
def test_filtered_words_are_those_of_every_sequence_of_tokens(known, text, begun):
    every = expected(known, text, begun)
    ranked = sorted(every, key=lambda word: -every[word])
    half = set(ranked[::2])
    for options, kept in (
        ({"exclude": half}, set(ranked) - half),
        ({"allowed": half}, half),
        ({"allowed": half, "exclude": ranked[:6]}, half - set(ranked[:6])),
        ({"allowed": [*half, "dog", "two words", " ", ""]}, half),
        ({"exclude": ranked}, set()),
        ({"allowed": []}, set()),
    ):
        found = dict(as_pairs(predict(known.scorer, text, ALL, ALL, **options).words))
        assert found == pytest.approx({word: every[word] for word in kept}, rel=1e-4)


@pytest.mark.parametrize(("text", "begun"), CASES)
@pytest.mark.parametrize("count", [1, 3, 10])
def test_a_short_list_has_the_best_words_that_are_left(known, text, begun, count):
    every = expected(known, text, begun)
    ranked = sorted(every, key=lambda word: -every[word])
    excluded, left = ranked[:15], ranked[15:]
    later = [item for item in predict(known.scorer, text, 15 + count, beams=200).words if item.word not in excluded]
    for options in ({"exclude": excluded}, {"allowed": left}):
        some = predict(known.scorer, text, count, beams=200, **options).words
        assert len(some) == min(count, len(left)) and {item.word for item in some} <= {*left}
        for item in some:
            assert 0.8 * every[item.word] <= item.probability <= every[item.word] * (1 + 1e-5)
        for own, other in zip(some, later, strict=False):
            assert own.probability >= 0.8 * other.probability


def test_a_few_improbable_words_of_a_list_are_found(known):
    every = expected(known, "cat ", "")
    for word in sorted(every, key=lambda word: every[word])[:20]:
        (found,) = predict(known.scorer, "cat ", allowed=[word]).words
        assert found.word == word and found.probability == pytest.approx(every[word], rel=1e-4)


def test_many_excluded_words_leave_room_for_the_others(tmp_path):
    """80 words are one token each; the 60 most probable ones are excluded, with fewer beams than that."""
    words = ["".join(letters) for letters in product("bdfk", "aeiou", "mnst")]
    tokenizer = train_tokenizer([" ".join(["x", *words])] * 9, DataConfig(tokenizer="bpe", vocab_size=500))
    names = tokenizer.tokens(range(tokenizer.vocab_size))
    row = np.full(len(names), 1e-6)
    row[tokenizer.eos_id] = 0.5
    for rank, word in enumerate(words):
        row[names.index(f"Ġ{word}")] = 0.9**rank
    table = np.log(np.tile(row / row.sum(), (len(names), 1)))
    scorer = keraslm.load(fake_model.write(tmp_path / "m.onnx", table, fake_model.info_of(tokenizer)))
    assert [item.word for item in predict(scorer, "x ", 3, beams=3).words] == words[:3]
    for options in ({"exclude": words[:60]}, {"allowed": words[60:]}):
        assert [item.word for item in predict(scorer, "x ", 3, beams=3, **options).words] == words[60:63]


def test_longer_words_follow_an_excluded_one(known):
    longer = {word for word in expected(known, "cat c", "c") if word.startswith("cat") and word != "cat"}
    found = {item.word for item in predict(known.scorer, "cat c", ALL, exclude=["cat"]).words}
    assert "cat" not in found and longer and longer <= found


def test_a_position_gives_the_same_words(known):
    scorer = known.scorer
    _, context = scorer.advance_all(scorer.begin(), known.tokenizer.encode_prompt("a cat"))
    options = {"exclude": frozenset(["cat", "at"]), "allowed": frozenset(["cat", "at", "a", "cata", "t"])}
    for begun in ("", "c"):
        words = predict(scorer, f"a cat {begun}", 3, **options).words
        assert predict_from(scorer.session, context, begun, count=3, **options) == words
        assert scorer.predict(context, 3, begun=begun, **options) == words
        assert scorer.predict(f"a cat {begun}", k=3, **options) == words


def test_a_lowercase_model_reads_the_lists_in_lower_case(tmp_path):
    make, possible = KINDS["lowercase"]
    scorer = Known(tmp_path, make(), possible).scorer
    words = [item.word for item in predict(scorer, "cat ", 5).words]
    assert [item.word for item in predict(scorer, "cat ", 4, exclude=[words[0].upper()]).words] == words[1:]
    assert {item.word for item in predict(scorer, "cat ", 5, allowed=map(str.upper, words)).words} == {*words}


# Vocabularies of words

WORDS = [f"w{number:03}" for number in range(400)]


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    tokenizer = train_tokenizer([" ".join(WORDS), "b2 é"], DataConfig())
    size = tokenizer.vocab_size
    table = np.log(np.random.default_rng(3).dirichlet(np.full(size, 0.3), size))
    path = tmp_path_factory.mktemp("large") / "m.onnx"
    return keraslm.load(fake_model.write(path, table, fake_model.info_of(tokenizer)))


LISTS = st.lists(st.sampled_from([*WORDS, "b2", "é", "<unk>", "<eos>", "gone", "w1 w2", ""]), max_size=300)


@given(LISTS, st.none() | LISTS, st.integers(1, 30), st.sampled_from(["", "w000 w", "w001 w2", "w003 b", "x"]))
def test_a_list_is_the_beginning_of_all_words_that_are_left(large, exclude, allowed, count, text):
    every = as_pairs(predict(large, text, 10_000).words)
    kept = [(w, p) for w, p in every if w not in exclude and (allowed is None or w in allowed)]
    assert as_pairs(predict(large, text, count, exclude=exclude, allowed=allowed).words) == kept[:count]


def test_lists_as_frozensets_are_prepared_once(large, monkeypatch):
    made, make = [], word_filter.WordFilter
    monkeypatch.setattr(word_filter, "WordFilter", lambda *values: made.append(values) or make(*values))
    exclude = frozenset(WORDS[:50])
    for begun in ("", "w", "w1"):
        predict_from(large.session, large.begin(), begun, exclude=exclude)
        predict_from(large.session, large.begin(), begun, exclude=frozenset(WORDS[:50]))
    assert len(made) == 1


def test_wrong_lists_are_named(by_id):
    for call in (predict, lambda scorer, _, **lists: scorer.predict(scorer.begin(), **lists)):
        with pytest.raises(ArgumentTypeError, match="`exclude` is 'cat', but an iterable of strings"):
            call(by_id, "the ", exclude="cat")
        with pytest.raises(ArgumentTypeError, match=r"`allowed\[1\]` is None, but a string"):
            call(by_id, "the ", allowed=["cat", None])
        with pytest.raises(ArgumentTypeError, match=r"`exclude\[0\]` is 3, but a string"):
            call(by_id, "the ", exclude=frozenset([3]))
        with pytest.raises(ArgumentTypeError, match="`exclude` is None, but an iterable"):
            call(by_id, "the ", exclude=None)
    with pytest.raises(UsageError, match="`begun` continues a position: add it to the text"):
        by_id.predict("the ", begun="c")
    with pytest.raises(ArgumentTypeError, match="`context` is 3, but a position"):
        by_id.predict(3)


# Tokens


def test_next_tokens_are_the_largest_of_the_distribution(by_id, by_history):
    assert as_pairs(next_tokens(by_id, "the", 3)) == [
        ("<unk>", pytest.approx(6 / 21)),
        ("dog", pytest.approx(5 / 21)),
        ("cat", pytest.approx(4 / 21)),
    ]
    assert [item.word for item in next_tokens(by_id, "the ", 99)] == ["<unk>", "dog", "cat", "the", "sat", "<eos>"]
    for text, ids in (("the cat", [2, 3]), ("dog\n\nthe zebra", [4, 0, 0, 2, 5]), ("", [])):
        row = np.exp(fake_model.BY_HISTORY[sum(i + 1 for i in [0, *ids]) % fake_model.V])
        found = next_tokens(by_history, text)
        assert [item.probability for item in found] == pytest.approx(sorted(row, reverse=True))


def test_impossible_tokens_are_not_listed(known):
    found = next_tokens(known.scorer, "cat", ALL)
    row = known.after(known.tokenizer.encode_prompt("cat").tolist())
    names = known.tokenizer.tokens(range(known.size))
    assert dict(as_pairs(found)) == pytest.approx({names[i]: row[i] for i in known.possible if row[i] > 0})
