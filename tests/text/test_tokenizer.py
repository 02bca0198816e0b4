import gzip
import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keraslm.config import DataConfig
from keraslm.errors import TokenizerError
from keraslm.text.files import TextFile
from keraslm.text.tokenizer import Tokenizer
from keraslm.text.vocabulary import train_tokenizer
from tests.support.words import encode_text, train_words

LINES = ["the cat sat on the mat", "", "the dog <unk> on a N mat", "the end"]


def tutorial_ids(text):
    """The reader of the PTB tutorial: the vocabulary, and the ids of a text."""
    words = text.replace("\n", " <eos> ").split()
    pairs = sorted(Counter(words).items(), key=lambda pair: (-pair[1], pair[0]))
    ids = {word: number for number, (word, _) in enumerate(pairs)}
    return ids, [ids[word] for word in words]


def words_of(tokenizer):
    return tokenizer.tokens(range(tokenizer.vocab_size))


# The vocabulary


def test_ptb_has_the_ids_of_the_tutorial(data_folder):
    path = data_folder / "ptb" / "ptb.train.txt.gz"
    ids, stream = tutorial_ids(gzip.decompress(path.read_bytes()).decode())
    tokenizer = train_words(TextFile(path))
    assert tokenizer.vocab_size == 10_000 and words_of(tokenizer) == list(ids)
    np.testing.assert_array_equal(encode_text(tokenizer, TextFile(path)), stream)


@given(st.lists(st.text(alphabet="ab \t<>eosunk", max_size=30), max_size=8))
@example(LINES)
@example([])
def test_any_text_has_the_ids_of_the_tutorial(lines):
    ids, stream = tutorial_ids("".join(line + "\n" for line in lines))
    tokenizer = train_words(lines)
    unseen = [word for word in ("<eos>", "<unk>") if word not in ids]
    assert words_of(tokenizer) == [*ids, *unseen]
    assert encode_text(tokenizer, lines).tolist() == stream


def test_rare_words_become_unk_and_are_counted_as_such():
    tokenizer = train_words(["a a a a b b c d e", "a b"], min_count=2)
    assert words_of(tokenizer) == ["a", "<unk>", "b", "<eos>"]  # counts 5, 3, 3, 2; <unk> sorts before b
    assert tokenizer.tokens(encode_text(tokenizer, ["b c z a"])) == ["b", "<unk>", "<unk>", "a", "<eos>"]


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


# Encoding


def test_each_line_ends_with_eos_and_a_prompt_does_not():
    tokenizer = train_words(LINES)
    assert [len(ids) for ids in tokenizer.encode_lines(LINES)] == [7, 1, 8, 3]
    assert all(ids[-1] == tokenizer.eos_id and ids.dtype == np.int32 for ids in tokenizer.encode_lines(LINES))
    assert tokenizer.eos_id not in tokenizer.encode_prompt("the cat")
    assert len(tokenizer.encode_prompt("")) == 0


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


def test_a_malformed_tokenizer_json_names_the_file():
    """tests/cli/test_run_faults.py tries many others."""
    with pytest.raises(TokenizerError, match=r"^run/tokenizer\.json: .*not a tokenizer\.json"):
        Tokenizer.from_json("[1, 2]", "run/tokenizer.json")
