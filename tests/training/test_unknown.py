"""Texts that a vocabulary does not fit: said, and refused if nearly everything is unknown."""

from __future__ import annotations

from pathlib import Path

import pytest

from keraslm.config import Config, DataConfig
from keraslm.errors import ConfigError, TextError
from keraslm.text.corpus import open_texts
from keraslm.text.encoding import Encoder
from keraslm.training.corpus import read_corpus
from keraslm.training.unknown import check_known

CHINESE = ["我们今天去北京看长城今天天气很好大家都很高兴", "他说这本书很有意思但是我还没有看完所以不知道"]
ENGLISH = ["the cat sat on the mat", "a dog ran to the red bird", "some fish ate all of it and left"]
OTHER = 'represented with `tokenizer="char"` or `tokenizer="bpe"`'


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def checked(lines, valid=None, **fields):
    """What is said about a training text, or about a validation text; a TextError passes."""
    for name, own in (("train.txt", lines), ("valid.txt", valid or lines)):
        Path(name).write_text("".join(f"{line}\n" for line in own), encoding="utf-8")
    config, said, encoder = DataConfig(train="train.txt", valid="valid.txt", **fields), [], Encoder()
    train, held_out = open_texts(config)
    assert held_out is not None
    tokenizer = encoder.tokenizer(train, config)
    text = encoder.encode(held_out if valid else train, tokenizer)
    check_known(text, tokenizer.vocab_size, config, said.append)
    return " ".join(said)


def numbered(lines, count):
    """Lines that each occur once."""
    return [f"{line}{number}" for number in range(count) for line in lines]


def test_a_text_without_blanks_is_refused_with_tokenizers_that_fit():
    with pytest.raises(
        TextError, match=r"train\.txt: 100 % of the tokens in its lines are <unk>\. Every text"
    ) as error:
        checked(numbered(CHINESE, 9), min_count=2)
    assert OTHER in str(error.value) and "use `max_unknown=1`" in str(error.value)
    assert "100 %" in checked(numbered(CHINESE, 9), min_count=2, max_unknown=1)
    assert "24 characters per word; is it written without blanks" in checked(numbered(CHINESE, 9))
    for tokenizer in ("char", "byte", "bpe"):
        assert checked(numbered(CHINESE, 9), tokenizer=tokenizer) == ""


@pytest.mark.parametrize(("unknown", "said"), [(2, ""), (5, "11 % of the tokens"), (180, "81 % of the tokens")])
def test_a_large_share_of_unknown_words_is_said(unknown, said):
    lines = ENGLISH * 2 + [f"{number}" for number in range(unknown)]
    found = checked(lines, min_count=2)
    assert said in found and bool(said) == bool(found)
    if said:
        assert OTHER in found and "A larger `vocab_size` or a lower `min_count`" in found


def test_nine_tenths_are_too_many_in_either_text():
    assert "90 %" in checked(ENGLISH, ["the", *"rstuvwxyz"])
    with pytest.raises(TextError, match=r"valid\.txt: 91 % of the tokens"):
        checked(ENGLISH, ["the", *"qrstuvwxyz"])
    assert "91 %" in checked(ENGLISH, ["the", *"qrstuvwxyz"], max_unknown=0.95)
    with pytest.raises(ConfigError, match=r"`max_unknown` is 90\.0, but must be a share from 0 to 1"):
        DataConfig(max_unknown=90)


def test_subwords_used_as_words_are_told_from_a_small_vocabulary():
    table = ["<eos>", "<unk>", "▁the", "▁cat", "s", "at", "mat", "the"]
    Path("tokens.txt").write_text("".join(f"{symbol} {number}\n" for number, symbol in enumerate(table)))
    found = checked(ENGLISH, tokenizer="tokens.txt")
    assert "of the tokens in its lines are <unk>" in found
    assert "tokens.txt does not fit this text. If its tokens are subwords, use the tokenizer.json" in found
    assert "Use a larger `vocab_size`" in checked([*ENGLISH, *"0123456789"], tokenizer="char", min_count=2)


def test_a_vocabulary_that_is_nearly_empty_is_said():
    assert "a vocabulary of 2 words predicts little" in checked(["yes no"] * 9)
    assert checked(["ACGT", "GATTACA"] * 9, tokenizer="char") == ""
    with pytest.raises(TextError, match=r"train\.txt: 9 lines without a word"):
        checked(["", " "] + [""] * 7)


def test_the_training_says_it_below_the_size_of_the_text():
    Path("train.txt").write_text("".join(f"{line}\n" for line in ENGLISH * 9 + list("0123456789" * 3)))
    said: list[str] = []
    config = Config().replace(train="train.txt", min_count=4, batch_size=2, num_steps=5)
    read_corpus(config, open_texts(config.data), said.append, False)
    (place,) = (number for number, line in enumerate(said) if "% of the tokens" in line)
    assert said[place - 1].startswith("train ") and "14 % of the tokens in its lines" in said[place]
