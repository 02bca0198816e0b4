"""Text of tokens as they arrive, and of single tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm.config import Config
from keraslm.text.decoding import Detokenizer, TokenTexts
from keraslm.text.tokenizer import Tokenizer
from keraslm.text.vocabulary import train_tokenizer

LINES = ["the cat sat 🙂 η οδός", "the dog ran, naïve", "日本 the cat"] * 3
TOKENIZERS = {
    kind: train_tokenizer(LINES, Config().replace(tokenizer=kind, vocab_size=size).data)
    for kind, size in (("word", 300), ("char", 300), ("byte", 300), ("bpe", 290))
}
TEXTS = st.lists(st.sampled_from([*LINES, "the οδός🙂", "", "x"]), min_size=1, max_size=3)


def ids_of(kind: str, lines: list[str]) -> list[int]:
    return [*map(int, np.concatenate(TOKENIZERS[kind].encode_lines(lines)))]


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(TEXTS)
def test_the_pieces_make_the_text(kind, lines):
    tokenizer, detokenizer = TOKENIZERS[kind], Detokenizer(TOKENIZERS[kind])
    wanted = "".join(tokenizer.decode(ids[:-1]) + "\n" for ids in tokenizer.encode_lines(lines))
    assert "".join(map(detokenizer.add, ids_of(kind, lines))) + detokenizer.rest() == wanted


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(TEXTS, st.integers(0, 30))
def test_a_line_is_continued(kind, lines, place):
    tokenizer = TOKENIZERS[kind]
    ids = ids_of(kind, lines[:1])[:-1]
    before, after = ids[:place], ids[place:]
    detokenizer = Detokenizer(tokenizer, before)
    whole, start = tokenizer.decode(ids), tokenizer.decode(before)
    found = "".join(map(detokenizer.add, after)) + detokenizer.rest()
    if not start.endswith("\ufffd"):  # the line begins with complete characters
        assert start + found == whole


def test_bytes_are_shown_when_their_character_is_complete():
    detokenizer = Detokenizer(TOKENIZERS["byte"])
    assert [detokenizer.add(i) for i in ids_of("byte", ["a🙂"])] == ["a", "", "", "", "🙂", "\n"]
    half = ids_of("byte", ["🙂"])[:2]
    assert (
        [detokenizer.add(i) for i in half] == ["", ""] and detokenizer.rest() == "\ufffd" and detokenizer.rest() == ""
    )


class Counted(Tokenizer):
    """Remembers how many tokens each call decodes."""

    def decode(self, ids):
        self.counts = [*getattr(self, "counts", []), len(ids)]
        return super().decode(ids)


def test_a_long_line_costs_no_more_per_token():
    tokenizer = Counted.from_json(TOKENIZERS["word"].to_json())
    detokenizer = Detokenizer(tokenizer)
    for token in ids_of("word", ["the cat"])[:-1] * 500:
        detokenizer.add(token)
    assert len(tokenizer.counts) == 2000 and max(tokenizer.counts) <= 3


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_texts_of_tokens_make_the_line(kind):
    tokenizer, texts = TOKENIZERS[kind], TokenTexts(TOKENIZERS[kind])
    ids = ids_of(kind, ["the cat sat", "the dog"])
    assert "".join(texts.texts(ids, tokenizer.eos_id)) == "the cat sat\nthe dog\n"
    assert texts.texts([], tokenizer.eos_id) == []


def test_a_part_of_a_character_is_named_by_its_bytes():
    texts = TokenTexts(TOKENIZERS["byte"])
    found = texts.texts(ids_of("byte", ["é"]), TOKENIZERS["byte"].eos_id)
    assert found == ["bytes:\\xc3", "bytes:\\xa9", "\n"]
    assert TokenTexts(TOKENIZERS["word"]).text(TOKENIZERS["word"].unk_id) == " <unk>"
