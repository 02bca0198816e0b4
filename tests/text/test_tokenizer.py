import gzip
import hashlib
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm.config import DataConfig
from keraslm.errors import TokenizerError
from keraslm.text.files import TextFile
from keraslm.text.tokenizer import Tokenizer
from keraslm.text.vocabulary import train_tokenizer
from tests.support.words import train_words

LINES = ["the cat sat on the mat", "", "the dog <unk> on a N mat", "the end"]


def tutorial_ids(text):
    """The reader of the PTB tutorial, rule for rule: words to ids, and the text as ids."""
    words = text.replace("\n", " <eos> ").split()
    pairs = sorted(Counter(words).items(), key=lambda pair: (-pair[1], pair[0]))
    ids = {word: number for number, (word, _) in enumerate(pairs)}
    return ids, [ids[word] for word in words]


def words_of(tokenizer):
    return tokenizer.tokens(range(tokenizer.vocab_size))


# The vocabulary


def test_ids_are_those_of_the_tutorials_reader():
    ids, stream = tutorial_ids("".join(line + "\n" for line in LINES))
    tokenizer = train_words(LINES)
    assert words_of(tokenizer) == list(ids)
    assert tokenizer.encode_text(LINES).tolist() == stream


def test_ptb_has_the_ids_of_the_tutorial(data_folder):
    path = data_folder / "ptb" / "ptb.train.txt.gz"
    ids, stream = tutorial_ids(gzip.decompress(path.read_bytes()).decode())
    tokenizer = train_words(TextFile(path))
    assert tokenizer.vocab_size == 10_000 and words_of(tokenizer) == list(ids)
    np.testing.assert_array_equal(tokenizer.encode_text(TextFile(path)), stream)


@given(st.lists(st.text(alphabet="ab \t<>eosunk", max_size=30), max_size=8))
def test_any_text_has_the_ids_of_the_tutorial(lines):
    ids, stream = tutorial_ids("".join(line + "\n" for line in lines))
    tokenizer = train_words(lines)
    unseen = [word for word in ("<eos>", "<unk>") if word not in ids]
    assert words_of(tokenizer) == [*ids, *unseen]
    assert tokenizer.encode_text(lines).tolist() == stream


def test_rare_words_become_unk_and_are_counted_as_such():
    tokenizer = train_words(["a a a a b b c d e", "a b"], min_count=2)
    assert words_of(tokenizer) == ["a", "<unk>", "b", "<eos>"]  # counts 5, 3, 3, 2; <unk> stands before b
    assert tokenizer.tokens(tokenizer.encode_text(["b c a"])) == ["b", "<unk>", "a", "<eos>"]


def test_the_vocabulary_keeps_the_most_frequent_words_up_to_its_size():
    lines = ["a a a b b c c d"]
    assert set(words_of(train_words(lines, vocab_size=4))) == {"a", "b", "<eos>", "<unk>"}
    assert [train_words(lines, vocab_size=size).vocab_size for size in (3, 5, 6, 100)] == [3, 5, 6, 6]


def test_lowercase_is_applied_in_training_and_in_encoding():
    tokenizer = train_words(["The cat", "THE ÄRA"], lowercase=True)
    assert set(words_of(tokenizer)) == {"the", "cat", "ära", "<eos>", "<unk>"}
    assert tokenizer.tokens(tokenizer.encode_prompt("tHe Ära")) == ["the", "ära"]
    assert "The" in words_of(train_words(["The cat"]))


def test_punctuation_can_be_split_off():
    tokenizer = train_words(["wait, what?!"], split_punctuation=True)
    assert tokenizer.tokens(tokenizer.encode_prompt("what, wait!")) == ["what", ",", "wait", "!"]
    assert "wait," in words_of(train_words(["wait, what?!"]))


@pytest.mark.parametrize("split_punctuation", [False, True])
def test_literal_unk_and_eos_are_the_special_words(split_punctuation):
    tokenizer = train_words(["a <unk> <eos> b"], split_punctuation=split_punctuation)
    a, b = (tokenizer.encode_prompt(word)[0] for word in "ab")
    found = tokenizer.encode_lines(["a <unk> <eos> b"])[0].tolist()
    assert found == [a, tokenizer.unk_id, tokenizer.eos_id, b, tokenizer.eos_id]


def test_words_are_cut_at_unicode_white_space_only():
    tokenizer = train_words(["a\u2028b\u00a0c\td\x0ce f\u200bg h\x00i"])
    assert set(words_of(tokenizer)) == {"a", "b", "c", "d", "e", "f\u200bg", "h\x00i", "<eos>", "<unk>"}


def test_a_text_without_words_has_the_special_tokens():
    assert words_of(train_words([""])) == ["<eos>", "<unk>"]
    assert words_of(train_words([])) == ["<eos>", "<unk>"]


# Encoding


def test_each_line_ends_with_eos_and_a_prompt_does_not():
    tokenizer = train_words(LINES)
    assert [len(ids) for ids in tokenizer.encode_lines(LINES)] == [7, 1, 8, 3]
    assert all(ids[-1] == tokenizer.eos_id and ids.dtype == np.int32 for ids in tokenizer.encode_lines(LINES))
    assert tokenizer.eos_id not in tokenizer.encode_prompt("the cat")
    assert len(tokenizer.encode_prompt("")) == 0


def test_unknown_words_become_unk():
    tokenizer = train_words(LINES)
    assert tokenizer.tokens(tokenizer.encode_prompt("the bird sat")) == ["the", "<unk>", "sat"]


def test_an_empty_text_is_an_empty_stream():
    ids = train_words(LINES).encode_text([])
    assert ids.shape == (0,) and ids.dtype == np.int32


# JSON


def test_the_digest_identifies_the_vocabulary():
    one, other = train_words(LINES), train_words(LINES[:1])
    assert one.digest == hashlib.sha256(one.to_json().encode()).hexdigest() != other.digest


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("word", "Tokenizer(word, 11 tokens, eos='<eos>', unk='<unk>')"),
        ("byte", "Tokenizer(byte, 256 tokens, eos='<eos>')"),
        ("bpe", "Tokenizer(bpe, 258 tokens, eos='<eos>')"),
    ],
)
def test_the_repr_shows_kind_size_and_special_tokens(kind, shown):
    assert repr(train_tokenizer(LINES, DataConfig(tokenizer=kind, vocab_size=258))) == shown


def damaged(change):
    """The JSON of a tokenizer after a change to its parsed values."""
    values = json.loads(train_words(LINES).to_json())
    change(values)
    return json.dumps(values)


def without(word):
    def change(values):
        del values["model"]["vocab"][word]

    return change


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a tokenizer.json"),
        ("{", "not a tokenizer.json"),
        ("[1, 2]", "not a tokenizer.json"),
        ('{"model": 3}', "not a tokenizer.json"),
        (damaged(without("<eos>")), "post-processor does not end each line"),
        (damaged(without("<unk>")), "<unk>"),
        (damaged(without("the")), "without gaps"),
        (damaged(lambda values: values["model"]["vocab"].update(the=99)), "without gaps"),
    ],
)
def test_malformed_json_names_the_file_and_the_fault(text, message):
    with pytest.raises(TokenizerError, match=rf"^run/tokenizer\.json: .*{message}"):
        Tokenizer.from_json(text, "run/tokenizer.json")
