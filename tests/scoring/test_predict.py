"""Predicted words, compared with an enumeration of every sequence of tokens up to a few tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers

import keraslm
from keraslm.config import DataConfig
from keraslm.errors import ArgumentTypeError, InputError, InputTypeError, TokenizerError, UsageError
from keraslm.scoring.ensemble import Ensemble
from keraslm.scoring.predict import Begun, Prediction, begun_word, predict, predict_from
from keraslm.text.tokenizer import Tokenizer, end_lines_with
from keraslm.text.vocabulary import train_tokenizer
from tests.support import fake_model
from tests.support.enumerated import KINDS, TEXT, Known
from tests.support.made_run import make_run

pytestmark = pytest.mark.usefixtures("short_words")
ALL = 20_000  # more words and beams than there can be


def as_dictionary(words: list[Prediction]) -> dict[str, float]:
    assert len({item.word for item in words}) == len(words)
    return {item.word: item.probability for item in words}


def check_order(words: list[Prediction]) -> None:
    assert all(0.0 < item.probability <= 1.0 for item in words)
    assert math.fsum(item.probability for item in words) <= 1.0 + 1e-5
    assert words == sorted(words, key=lambda item: (-item.probability, item.word))


# The text, the part of it that is complete, and the begun word as the tokenizer reads it.
CASES = [("", "", ""), ("cat", "", "cat"), ("cat ", "cat", ""), ("cat c", "cat", "c"), ("a cat ca", "a cat", "ca")]
CASES += [("cat zz", "cat", "zz"), ("cat xc", "cat", "xc"), ("a cat\na\r\nat t", "at", "t"), ("a\n", "", "")]


@pytest.mark.parametrize(("text", "line", "begun"), CASES)
def test_words_are_those_of_every_sequence_of_tokens(known, text, line, begun):
    found = predict(known.scorer, text, ALL)
    *earlier, _ = text.replace("\r\n", "\n").split("\n")
    before = [i for each in earlier for i in known.tokenizer.encode_lines([each])[0].tolist()]
    before += known.tokenizer.encode_prompt(line).tolist()
    always_blank = "▁" in "".join(known.tokenizer.tokens(range(known.size)))
    expected = known.words(before, " " if line or always_blank else "", begun)
    assert (found.begun, found.start) == (begun, len(text) - len(begun))
    assert as_dictionary(found.words) == pytest.approx(expected, rel=1e-4)
    assert bool(expected) is (begun not in ("zz", "xc"))
    check_order(found.words)


@pytest.mark.parametrize("begun", ["η", "🙂", "🙂c", "cη"])
def test_words_of_multi_byte_characters(known, begun):
    text = f"cat {begun}"
    found = predict(known.scorer, text, ALL)
    expected = known.words(known.tokenizer.encode_prompt("cat").tolist(), " ", begun)
    assert (found.begun, found.start) == (begun, 4)
    assert as_dictionary(found.words) == pytest.approx(expected, rel=1e-4)


def test_incomplete_characters_are_no_words(known):
    characters = {character for item in predict(known.scorer, "cat ", ALL).words for character in item.word}
    assert characters and "\ufffd" not in characters
    assert ("🙂" in characters) is bool({*"🙂ðŁĻĤ"} & {*known.tokenizer.tokens(known.possible)})


@pytest.mark.parametrize("text", ["cat  c", "cat   ", " c", "  "])
def test_several_blanks_are_read_as_the_tokenizer_reads_them(known, text):
    line, begun = "cat" if "cat" in text else "", "c" if text.endswith("c") else ""
    blanks = text.removeprefix(line).removesuffix(begun)
    if known.tokenizer._backend.decoder is not None and "Strip" in str(known.tokenizer._backend.normalizer):
        blanks = " "  # several blanks are one
    elif isinstance(known.tokenizer._backend.normalizer, normalizers.Sequence) and not line:
        blanks += " "  # one is put before a line that starts with blanks
    expected = known.words(known.tokenizer.encode_prompt(line).tolist(), blanks, begun)
    assert as_dictionary(predict(known.scorer, text, ALL).words) == pytest.approx(expected, rel=1e-4)


def test_a_short_list_has_the_words_of_a_long_one(known):
    for text in ("cat ", "cat c", ""):
        every = as_dictionary(predict(known.scorer, text, ALL).words)
        for count in (1, 3, 10):
            some = predict(known.scorer, text, count, beams=200).words
            assert len(some) == min(count, len(every))
            for item in some:  # a lower bound, from which little is missing
                assert 0.8 * every[item.word] <= item.probability <= every[item.word] * (1 + 1e-5)
            others = [p for word, p in every.items() if word not in as_dictionary(some)]
            assert not others or 0.8 * max(others) <= some[-1].probability


def test_few_beams_give_lower_bounds(known):
    every = as_dictionary(predict(known.scorer, "cat ", ALL).words)
    for item in predict(known.scorer, "cat ", 1, beams=1).words:
        assert item.probability <= every[item.word] * (1 + 1e-5)


def test_a_position_that_the_caller_keeps_gives_the_same_words(known):
    scorer = known.scorer
    context = scorer.advance_all(scorer.begin(), known.tokenizer.encode_prompt("a cat"))[1]
    for begun in ("", "c", "ca"):
        assert predict_from(scorer.session, context, begun) == predict(scorer, f"a cat {begun}").words
        assert predict_from(scorer.session, scorer.begin(), begun) == predict(scorer, begun).words


def test_a_lowercase_model_reads_a_begun_word_in_lower_case(tmp_path):
    make, possible = KINDS["lowercase"]
    scorer = Known(tmp_path, make(), possible).scorer
    upper, lower = predict(scorer, "CAT C"), predict(scorer, "cat c")
    assert (upper.begun, upper.start) == ("C", 4)
    assert upper.words == lower.words and lower.words


def test_an_ensemble_predicts_with_mean_probabilities(tmp_path):
    make, possible = KINDS["bpe"]
    both = Known(tmp_path, make(), possible, seeds=(3, 4))
    assert isinstance(both.scorer.session, Ensemble)
    expected = both.words(both.tokenizer.encode_prompt("cat").tolist(), " ", "c")
    assert as_dictionary(predict(both.scorer.session, "cat c", ALL).words) == pytest.approx(expected, rel=1e-4)


# Vocabularies of words


def test_a_word_of_a_vocabulary_is_one_token(by_id):
    """Token i has probability (i + 1) / 21: <eos> 0, sat 1, the 2, cat 3, dog 4, <unk> 5."""
    for text in ("", "the ", "the cat\n", "zebra  "):
        found = predict(by_id, text)
        assert (found.begun, found.start) == ("", len(text))
        assert as_dictionary(found.words) == pytest.approx({"dog": 5 / 21, "cat": 4 / 21, "the": 3 / 21, "sat": 2 / 21})
        check_order(found.words)


@pytest.mark.parametrize(
    ("text", "begun", "words"),
    [
        ("the c", "c", ["cat"]),
        ("t", "t", ["the"]),
        ("the cat", "cat", ["cat"]),
        ("the\ncat\r\n sa", "sa", ["sat"]),
        ("the zebra", "zebra", []),
        ("the cats", "cats", []),
        ("<un", "<un", []),
        ("the <eos>", "<eos>", []),
        ("the <", "<", []),
        ("the C", "C", []),
    ],
)
def test_completions_start_with_what_was_typed(by_id, text, begun, words):
    found = predict(by_id, text)
    assert (found.begun, found.start) == (begun, len(text) - len(begun))
    assert [item.word for item in found.words] == words


def test_the_words_before_are_the_context(by_history):
    for text, ids in (("the cat ", [2, 3]), ("dog\n\nthe zebra s", [4, 0, 0, 2, 5]), ("the sat", [2])):
        row = np.exp(fake_model.BY_HISTORY[sum(i + 1 for i in [0, *ids]) % fake_model.V])
        found = predict(by_history, text)
        expected = {word: row[i] for i, word in enumerate(["", "sat", "the", "cat", "dog"]) if i}
        expected = {word: p for word, p in expected.items() if word.startswith(found.begun)}
        assert as_dictionary(found.words) == pytest.approx(expected)


def test_equal_words_are_in_alphabetical_order(tmp_path):
    tokenizer = train_tokenizer(["b ζ a é c"], DataConfig())
    table = np.full((tokenizer.vocab_size,) * 2, -math.log(tokenizer.vocab_size))
    scorer = keraslm.load(fake_model.write(tmp_path / "m.onnx", table, fake_model.info_of(tokenizer)))
    assert [item.word for item in predict(scorer, "", 3).words] == ["a", "b", "c"]
    assert [item.word for item in predict(scorer, "", 9).words] == ["a", "b", "c", "é", "ζ"]


def test_a_punctuation_mark_is_a_word_of_its_own(tmp_path):
    tokenizer = train_tokenizer(["the cat, (the cat), a cat"], DataConfig(split_punctuation=True, lowercase=True))
    table = np.log(np.random.default_rng(1).dirichlet(np.ones(tokenizer.vocab_size), tokenizer.vocab_size))
    scorer = keraslm.load(fake_model.write(tmp_path / "m.onnx", table, fake_model.info_of(tokenizer)))
    assert begun_word(tokenizer, "the (ca") == Begun(5, 5)
    found = predict(scorer, "The (CA")
    assert (found.begun, found.start, [item.word for item in found.words]) == ("CA", 5, ["cat"])
    _, context = scorer.advance_all(scorer.begin(), tokenizer.encode_prompt("the ("))
    assert predict_from(scorer.session, context, "ca") == found.words
    assert [item.word for item in predict(scorer, "the cat,").words] == [","]


def test_one_call_of_the_network_predicts_words(by_history, monkeypatch):
    _, context = by_history.advance_all(by_history.begin(), [2, 3])
    shapes, run = [], by_history.session.run
    monkeypatch.setattr(by_history.session, "run", lambda ids, state: shapes.append(np.shape(ids)) or run(ids, state))
    predict_from(by_history.session, context)
    predict_from(by_history.session, context, "c")
    assert shapes == [(1, 1), (1, 1)]


# Models of runs


@pytest.fixture(scope="module", params=["word", "char", "byte", "bpe"])
def exported(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    run = make_run(folder, TEXT, tokenizer=request.param, vocab_size=300, layer_units=(12, 9), embedding_dim=8)
    keraslm.export(run, folder / "model.onnx")
    return keraslm.load(folder / "model.onnx", provider="cpu")


def spellings(text: str, names: dict[str, int]) -> Iterator[list[int]]:
    """Every way to cut a text into names of the vocabulary."""
    if not text:
        yield []
    for end in range(1, len(text) + 1):
        if text[:end] in names:
            yield from ([names[text[:end]], *rest] for rest in spellings(text[end:], names))


@pytest.mark.parametrize("text", ["", "the ", "the cat sat t", "η ο", "zebra 🙂 c"])
def test_probabilities_are_those_of_the_scorer(exported, text):
    tokenizer = exported.tokenizer
    found = predict(exported, text, 5, beams=300)
    place = begun_word(tokenizer, text)
    _, context = exported.advance_all(exported.begin(), tokenizer.encode_prompt(text[: place.before]))
    names = {name: i for i, name in enumerate(tokenizer.tokens(range(tokenizer.vocab_size)))}
    assert found.words and all(item.word.startswith(found.begun) for item in found.words)
    check_order(found.words)
    for item in found.words:
        if tokenizer.space_marks is None:
            assert item.probability == pytest.approx(np.exp(exported.next_logprobs(context)[names[item.word]]))
            continue
        written = text[place.before : place.start] + item.word
        if "char" not in repr(tokenizer):
            bytelevel = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            written = bytelevel.pre_tokenize_str(written)[0][0]
        total = 0.0
        for ids in spellings(written, names):
            logprobs, after = exported.advance_all(context, ids)
            ends = tokenizer.space_marks.copy()
            ends[tokenizer.eos_id] = True
            total += math.exp(logprobs.sum()) * np.exp(exported.next_logprobs(after)[ends]).sum()
        assert item.probability == pytest.approx(total, rel=0.02) and item.probability <= total * (1 + 1e-4)


@given(text=st.text(st.sampled_from("the catsηΟ🙂, \t\n\u00a0\ud800"), max_size=12), count=st.integers(1, 8))
def test_any_text_has_predictions_in_order(exported, text, count):
    found = predict(exported, text, count, beams=8)
    assert text[found.start :] == found.begun and not any(character.isspace() for character in found.begun)
    assert len(found.words) <= count
    check_order(found.words)
    assert not {"<unk>", "<eos>", ""} & {item.word for item in found.words}
    assert not any(character.isspace() for item in found.words for character in item.word)


def test_an_unsupported_tokenizer_is_refused():
    backend = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0, "</s>": 1, "a": 2, "##b": 3}, unk_token="[UNK]"))
    backend.decoder = decoders.WordPiece()
    end_lines_with(backend, "</s>")
    with pytest.raises(TokenizerError, match="joins tokens with a decoder WordPiece"):
        Tokenizer(backend).surfaces  # noqa: B018


def test_wrong_arguments_are_named(by_id):
    session, here = by_id.session, by_id.begin()
    wrong: list[tuple[type[Exception], str, Callable[[], Any]]] = [
        (ArgumentTypeError, "`scorer` is 'model.onnx', but an open model", lambda: predict("model.onnx", "the")),
        (ArgumentTypeError, "`text` is None, but a string", lambda: predict(by_id, None)),
        (UsageError, "`count` is 0, but must be at least 1", lambda: predict(by_id, "the", 0)),
        (ArgumentTypeError, "`count` is 1.5, but an integer", lambda: predict(by_id, "the", 1.5)),
        (UsageError, "`beams` is 0, but must be at least 1", lambda: predict(by_id, "the", beams=0)),
        (ArgumentTypeError, "`context` is 3, but a position from", lambda: predict_from(session, 3)),
        (ArgumentTypeError, "`begun` is None, but a string", lambda: predict_from(session, here, None)),
        (UsageError, "`begun` is 'a b', but must be a part of one word", lambda: predict_from(session, here, "a b")),
        (UsageError, "`lead` is 'x', but must be white space", lambda: predict_from(session, here, "a", "x")),
        (ArgumentTypeError, "`lead` is 3, but a string", lambda: predict_from(session, here, "a", 3)),
    ]
    for kind, message, call in wrong:
        with pytest.raises(kind, match=message):
            call()


def test_a_context_of_a_different_model_is_refused(by_id, exported):
    with pytest.raises((InputError, InputTypeError)):
        predict_from(exported.session, by_id.begin())
