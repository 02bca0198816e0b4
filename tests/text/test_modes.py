"""Properties of every kind of tokenizer: lines and blocks have the same ids, and JSON changes nothing."""

import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keraslm.config import DataConfig
from keraslm.errors import TokenizerError
from keraslm.text import encoders, pieces
from keraslm.text.pieces import cut, split_words
from keraslm.text.tokenizer import Tokenizer
from keraslm.text.vocabulary import train_tokenizer
from tests.support.words import encode_text

TEXT = ["the cat sat on the mat", "", "The Dog: naïve 日本\tran <unk> <eos> ", "a\u2028b\x1cc\x00d  e"] * 3
KINDS = {
    "word": {},
    "word-lowercase": {"tokenizer": "word", "lowercase": True},
    "word-marks": {"tokenizer": "word", "split_punctuation": True, "lowercase": True},
    "char": {"tokenizer": "char"},
    "char-lowercase": {"tokenizer": "char", "lowercase": True},
    "byte": {"tokenizer": "byte"},
    "byte-lowercase": {"tokenizer": "byte", "lowercase": True},
    "bpe": {"tokenizer": "bpe", "vocab_size": 300},
    "bpe-lowercase": {"tokenizer": "bpe", "vocab_size": 300, "lowercase": True},
    "unigram": {"tokenizer": "unigram", "vocab_size": 60},
    "unigram-lowercase": {"tokenizer": "unigram", "vocab_size": 60, "lowercase": True},
}
TOKENIZERS = {name: train_tokenizer(TEXT, DataConfig(**fields)) for name, fields in KINDS.items()}
# All of Unicode except surrogates, which no UTF-8 text contains; often characters of the vocabulary.
characters = st.characters(exclude_categories=["Cs"]) | st.sampled_from(sorted(set("".join(TEXT)) | set("\r\n\x85ΣŞ")))
any_text = st.text(characters, max_size=40)
any_line = any_text.map(lambda text: text.replace("\n", " ").replace("\r", "\t"))
kinds = pytest.mark.parametrize("kind", KINDS)


def backend_ids(tokenizer, text):
    """The stream of a text by the library itself, line by line."""
    lines = text.removesuffix("\n").split("\n") if text else []
    ids = [np.array(tokenizer._backend.encode(line).ids, np.int32) for line in lines]
    return np.concatenate(ids) if ids else np.zeros(0, np.int32)


@kinds
@given(text=any_text)
@example(text="ΑΣ ΑΣ\n\nthe Σ.")
@example(text="\x1c\x1dthe\x1f cat\n")
@example(text="<eos> <unk>\n \n")
def test_blocks_have_the_ids_of_the_library(kind, text):
    tokenizer, block = TOKENIZERS[kind], text if text.endswith("\n") or not text else text + "\n"
    np.testing.assert_array_equal(tokenizer.encode_block(block), backend_ids(tokenizer, block))


@kinds
@given(text=any_text)
def test_lines_and_their_stream_are_the_same(kind, text):
    tokenizer, lines = TOKENIZERS[kind], text.replace("\r", " ").split("\n")
    by_lines = np.concatenate(tokenizer.encode_lines(lines))
    np.testing.assert_array_equal(encode_text(tokenizer, lines), by_lines)
    assert (by_lines[-1] == tokenizer.eos_id) and len(by_lines) >= len(lines)


CASES = {  # docs/reference/onnx-file.md
    "ΟΔΟΣ ΣΑΣ. Σ": "οδοσ σασ. σ",
    "οδος": "οδος",
    "Σ\u0301 É E\u0301": "σ\u0301 é e\u0301",
    "İIı": "i\u0307iı",
    "STRAẞE Straße": "straße straße",
    "ﬁ Ǆǅǆ": "ﬁ ǆǆǆ",
    "The CAT": "the cat",
}


@pytest.mark.parametrize("fields", [kind for kind in KINDS.values() if "lowercase" in kind], ids=str)
def test_each_character_is_lowercased_on_its_own(fields):
    """In the vocabulary, by lines and by blocks."""
    text = "".join(f"{line}\n" for line in CASES) * 20
    tokenizer = train_tokenizer([text], DataConfig(**fields | {"vocab_size": 300}))
    for line, result in CASES.items():
        ids = tokenizer.encode_lines([result])[0].tolist()
        assert tokenizer.decode(ids[:-1]).replace(" ", "") == result.replace(" ", "")
        assert tokenizer.encode_lines([line])[0].tolist() == encode_text(tokenizer, [line]).tolist() == ids


@pytest.mark.parametrize("kind", ["byte", "bpe"])
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=60))
@example(text="".join(map(chr, [0, 9, 11, 12, 0x85, 0xA0, 0xAD, 0x2028, 0xFEFF, 0xFFFD, 0xFFFF, 0x10FFFF])))
@example(text="<eos>Ċ<unk> \x0b  ")
def test_every_line_is_encoded_and_decoded_without_loss(kind, text):
    tokenizer = TOKENIZERS[kind]
    ids = tokenizer.encode_prompt(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.unk_id == -1 and (ids >= 0).all() and (ids < tokenizer.vocab_size).all()


@pytest.mark.parametrize("kind", ["byte", "bpe"])
def test_every_unicode_character_is_encoded_and_decoded_without_loss(kind):
    tokenizer = TOKENIZERS[kind]
    for plane in range(0, 0x110000, 0x4000):
        text = "".join(
            chr(c) for c in range(plane, plane + 0x4000) if not 0xD800 <= c < 0xE000 and chr(c) not in "\r\n"
        )
        assert tokenizer.decode(tokenizer.encode_prompt(text)) == text
    known = TOKENIZERS["char"]
    assert [known.decode(known.encode_prompt(line)) for line in TEXT] == TEXT


@kinds
def test_a_tokenizer_survives_json(kind):
    tokenizer = TOKENIZERS[kind]
    again = Tokenizer.from_json(tokenizer.to_json())
    assert (again.eos_id, again.unk_id, again.vocab_size) == (tokenizer.eos_id, tokenizer.unk_id, tokenizer.vocab_size)
    np.testing.assert_array_equal(encode_text(again, TEXT), encode_text(tokenizer, TEXT))
    assert again.digest == tokenizer.digest


@pytest.mark.parametrize("kind", ["char", "byte", "bpe", "unigram"])
def test_special_names_in_a_text_are_ordinary_characters(kind):
    tokenizer = TOKENIZERS[kind]
    ids = tokenizer.encode_prompt("<eos> <unk>")
    assert tokenizer.eos_id not in ids
    assert kind == "unigram" or tokenizer.unk_id not in ids  # it drops rare characters


def test_characters_are_numbered_by_count():
    tokenizer = train_tokenizer(["aab", "ab"], DataConfig(tokenizer="char"))
    assert tokenizer.tokens(range(4)) == ["a", "<eos>", "b", "<unk>"]
    rare = train_tokenizer(["aab", "ac"], DataConfig(tokenizer="char", min_count=2))
    assert rare.tokens(rare.encode_prompt("abc")) == ["a", "<unk>", "<unk>"]


def test_bytes_are_their_own_ids_and_bpe_merges_frequent_pairs():
    assert len(TOKENIZERS["bpe"].encode_prompt("the cat")) < 6
    tokenizer = TOKENIZERS["byte"]
    assert tokenizer.vocab_size == 256 and tokenizer.eos_id == 10
    assert tokenizer.encode_prompt("aé").tolist() == list("aé".encode())


def test_token_names_contain_no_tab_or_line_end():
    for tokenizer in TOKENIZERS.values():
        assert not set("".join(tokenizer.tokens(range(tokenizer.vocab_size)))) & set("\t\n\r")
    assert TOKENIZERS["char"].tokens(TOKENIZERS["char"].encode_prompt("\t")) == ["\\t"]


def test_a_single_surrogate_is_read_as_a_replacement_character():
    tokenizer = TOKENIZERS["byte"]
    assert tokenizer.decode(tokenizer.encode_prompt("a\ud800b")) == "a\ufffdb"
    assert len(tokenizer.encode_lines(["a\ud800"])[0]) == 5


# Offsets


def check_offsets(tokenizer, line):
    spans = tokenizer.offsets(line)
    assert spans.dtype == np.int32 and spans.shape == (len(tokenizer.encode_lines([line])[0]), 2)
    assert (np.diff(spans, axis=0) >= 0).all() and (spans[:, 0] <= spans[:, 1]).all()
    assert spans[0, 0] >= 0 and spans[-1].tolist() == [len(line)] * 2
    return spans


@kinds
@given(line=any_line)
@example(line="ΑΣ İ ẞ the 日\x00😀")
@example(line="e\u0301\u0323 \u2028")
@example(line="")
def test_offsets_are_in_order_and_within_the_line_one_per_token(kind, line):
    check_offsets(TOKENIZERS[kind], line)


@given(line=any_line)
def test_offsets_of_words_characters_and_bytes_are_those_of_python(line):
    words = [
        list(found.span())
        for found in re.finditer(r"[^\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+", line)
    ]
    end = [[len(line)] * 2]
    assert TOKENIZERS["word"].offsets(line).tolist() == words + end
    characters = [[at, at + 1] for at in range(len(line))]
    assert TOKENIZERS["char"].offsets(line).tolist() == characters + end
    in_bytes = [[at, at + 1] for at, character in enumerate(line) for _ in character.encode()]
    assert TOKENIZERS["byte"].offsets(line).tolist() == in_bytes + end


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@given(line=any_line)
def test_offsets_of_subwords_cover_the_line_and_end_with_their_prefix(kind, line):
    tokenizer = TOKENIZERS[kind]
    spans = check_offsets(tokenizer, line)
    covered = {at for begin, end in spans.tolist() for at in range(begin, end)}
    assert covered == set(range(len(line)))
    if kind == "bpe":  # its tokens are the bytes of the line, in order
        sizes = [len(tokenizer._backend.id_to_token(i)) for i in tokenizer.encode_prompt(line)]
        starts = np.cumsum([0, *(len(character.encode()) for character in line)])
        ends = np.searchsorted(starts, np.cumsum(sizes), side="left")
        assert spans[:-1, 1].tolist() == ends.tolist()


def test_offsets_refer_to_the_line_before_normalisation():
    tokenizer = TOKENIZERS["char-lowercase"]  # to which İ is two characters
    assert tokenizer.offsets("aİb").tolist() == [[0, 1], [1, 2], [1, 2], [2, 3], [3, 3]]


def test_each_half_of_a_surrogate_pair_is_a_character():
    tokenizer = TOKENIZERS["char"]
    assert tokenizer.offsets("a\ud83d\ude00b\ud800😀").tolist() == [[n, n + 1] for n in range(6)] + [[6, 6]]


@kinds
def test_offsets_of_a_long_line_continue_from_piece_to_piece(kind, monkeypatch):
    line = "the cat sat, 日本 on the  mat " * 9 + "x" * 50 + " dog"
    whole = TOKENIZERS[kind].offsets(line)
    monkeypatch.setattr(pieces.pieces, "__defaults__", (64,))
    monkeypatch.setattr("keraslm.text.tokenizer.PIECE", 64)
    spans = check_offsets(TOKENIZERS[kind], line)
    assert spans[-2].tolist() == whole[-2].tolist()
    if kind in ("char", "byte"):
        assert spans.tolist() == whole.tolist()


def test_a_unigram_vocabulary_that_is_too_small_for_the_characters_is_refused():
    with pytest.raises(TokenizerError, match=r"cannot train a unigram tokenizer of 4 tokens .*different `vocab_size`"):
        train_tokenizer(["abc def ghi"] * 5, DataConfig(tokenizer="unigram", vocab_size=4))


# Long lines


def test_a_line_is_cut_before_white_space():
    assert list(pieces.pieces("one two  three", limit=10)) == ["one two", "  three"]
    assert list(pieces.pieces("abcdefghijkl", limit=5)) == ["abcde", "fghij", "kl"]
    assert "".join(pieces.pieces("日本語" * 9, limit=10)) == "日本語" * 9
    assert cut(b"aaaa bbbbbbb", 10) == 10  # the first half is not searched


@kinds
def test_a_long_line_has_the_ids_of_its_pieces(kind, monkeypatch):
    tokenizer = TOKENIZERS[kind]
    line = "the cat sat, on the  mat " * 9 + "x" * 50 + " dog"
    whole = tokenizer._backend.encode(line, add_special_tokens=False).ids
    for module in (pieces, encoders):
        monkeypatch.setattr(module, "PIECE", 64)
    monkeypatch.setattr(pieces.pieces, "__defaults__", (64,))
    monkeypatch.setattr("keraslm.text.tokenizer.PIECE", 64)
    by_line, by_block = tokenizer.encode_lines([line])[0], tokenizer.encode_block(line + "\n")
    np.testing.assert_array_equal(by_line, by_block)
    if kind != "unigram":  # it puts a blank before each piece of a word that is cut
        assert abs(len(by_line) - 1 - len(whole)) <= 4
    assert tokenizer.encode_lines(["the cat"])[0].tolist() == encode_text(tokenizer, ["the cat"]).tolist()


@given(st.text(st.sampled_from("ab \t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\x85\xa0\u2028\u3000\u200b"), max_size=30))
def test_words_are_split_in_the_same_way_as_by_the_library(text):
    from tokenizers import pre_tokenizers

    assert split_words(text) == [word for word, _ in pre_tokenizers.WhitespaceSplit().pre_tokenize_str(text)]
