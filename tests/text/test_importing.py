import json

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from keraslm.config import DataConfig
from keraslm.errors import TokenizerError
from keraslm.text.importing import import_tokenizer
from keraslm.text.tokenizer import Tokenizer
from keraslm.text.vocabulary import train_tokenizer
from tests.support.tiny import text_lines
from tests.support.words import encode_text


def imported(path, **fields):
    return import_tokenizer(DataConfig(tokenizer=str(path), **fields))


@pytest.fixture
def file(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


# tokens.txt


def test_a_table_of_words_keeps_its_ids(file):
    tokenizer = imported(file("tokens.txt", "<blk> 0\n<sos/eos> 1\n<unk> 2\nthe 3\ncat 4\n#0 5\n"))
    assert tokenizer.encode_lines(["the cat", "dog"])[0].tolist() == [3, 4, 1]
    assert tokenizer.encode_lines(["dog  the"])[0].tolist() == [2, 3, 1]
    assert (tokenizer.eos_id, tokenizer.unk_id, tokenizer.vocab_size) == (1, 2, 6)
    assert tokenizer.decode([3, 4]) == "the cat"


def test_a_table_may_have_tabs_crlf_and_different_special_names(file):
    path = file("words.txt", "<eps>\t0\r\n!SIL\t1\r\nEND\t2\r\nno\t3\r\n")
    tokenizer = imported(path, eos_token="END", unk_token="!SIL")
    assert tokenizer.encode_lines(["no yes"])[0].tolist() == [3, 1, 2]


def test_a_table_of_characters_splits_text_into_characters(file):
    tokenizer = imported(file("tokens.txt", "<blank> 0\n<unk> 1\n你 2\n好 3\n</s> 4\n"))
    assert tokenizer.encode_lines(["你好 吗"])[0].tolist() == [2, 3, 1, 4]
    assert tokenizer.decode([2, 3]) == "你好"


@pytest.mark.parametrize("blank", ["▁", "|"])
def test_a_table_of_characters_may_have_a_blank(file, blank):
    tokenizer = imported(file("tokens.txt", f"<unk> 0\n{blank} 1\na 2\nb 3\n</s> 4\n"))
    assert tokenizer.encode_lines(["ab a"])[0].tolist() == [2, 3, 1, 2, 4]
    assert tokenizer.decode([2, 3, 1, 2]) == "ab a"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("the 0\ncat\n", r"tokens\.txt:2: 'cat' is not 'symbol id'"),
        ("the 0\ncat x\n", r"tokens\.txt:2: 'cat x' is not 'symbol id'"),
        ("the 0\nthe 1\n", r"tokens\.txt:2: the symbol 'the' occurs twice"),
        ("the 0\ncat 2\n", "2 ids are not 0 to 1, each once"),
        ("", "is not 'symbol id'"),
        ("the 0\n</s> 1\n", "no unknown symbol among <unk>.*`unk_token`"),
        ("the 0\n<unk> 1\n", "no end symbol among <eos>.*`eos_token`"),
        (b"\xff\xfe\x00", "byte 0 is not UTF-8\\. A tokenizer is a tokenizer.json"),
        ("{", "not a tokenizer.json of the tokenizers library"),
        ("{}", "not a tokenizer.json of the tokenizers library"),
    ],
)
def test_a_damaged_file_is_refused_with_the_place(file, content, message):
    with pytest.raises(TokenizerError, match=message):
        imported(file("tokens.txt", content))


def test_a_misspelt_kind_is_refused_with_the_known_kinds(tmp_path):
    with pytest.raises(TokenizerError, match=r"wrod: no such tokenizer\. `tokenizer` expects word, char, byte, bpe"):
        imported("wrod")
    with pytest.raises(TokenizerError, match="cannot be read"):
        imported(tmp_path)


# tokenizer.json


def foreign(**added):
    backend = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0, "[SEP]": 1, "the": 2, "cat": 3}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.enable_truncation(2)
    backend.enable_padding(length=9)
    backend.add_special_tokens(["[SEP]", *added.get("special", [])])
    return backend.to_str()


def test_a_tokenizer_json_keeps_its_ids_without_padding_and_truncation(file):
    tokenizer = imported(file("tokenizer.json", foreign()))
    assert tokenizer.encode_lines(["the cat the cat dog"])[0].tolist() == [2, 3, 2, 3, 0, 1]
    again = Tokenizer.from_json(tokenizer.to_json())
    assert (again.eos_id, again.unk_id) == (1, 0)
    assert encode_text(again, ["the cat", "cat"]).tolist() == [2, 3, 1, 3, 1]


def test_the_end_symbol_can_be_chosen(file):
    tokenizer = imported(file("tokenizer.json", foreign(special=["<end>"])), eos_token="<end>")
    assert tokenizer.eos_id == 4
    with pytest.raises(TokenizerError, match="no end symbol among nothing"):
        imported(file("tokenizer.json", foreign()), eos_token="nothing")


# sentencepiece


LINES = [*text_lines(300, seed=4), "Ünï 日本語 a-b, c. ", "x  y", " z", "ﬁ"]


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byte_fallback": True, "vocab_size": 400},
        {"normalization_rule_name": "identity", "remove_extra_whitespaces": False},
        {"add_dummy_prefix": False},
    ],
    ids=["plain", "bytes", "identity", "no prefix"],
)
def test_a_sentencepiece_model_has_the_ids_of_sentencepiece(tmp_path, kind, options):
    library = pytest.importorskip("sentencepiece", reason="the extra sentencepiece is not installed")
    prefix = str(tmp_path / "sp")
    library.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES),
        model_prefix=prefix,
        model_type=kind,
        hard_vocab_limit=False,
        minloglevel=2,
        **{"vocab_size": 120, **options},
    )
    reference = library.SentencePieceProcessor(model_file=f"{prefix}.model")
    tokenizer = imported(f"{prefix}.model")
    assert tokenizer.vocab_size == reference.vocab_size()
    assert (tokenizer.eos_id, tokenizer.unk_id) == (reference.eos_id(), reference.unk_id())
    for line in [*LINES[-60:], "unheard ключ", "", "  two  blanks "]:
        assert tokenizer.encode_prompt(line).tolist() == reference.encode(line), line
    assert tokenizer.decode(reference.encode("the cat sat")) == "the cat sat"


def test_a_damaged_sentencepiece_model_is_refused(file):
    pytest.importorskip("sentencepiece", reason="the extra sentencepiece is not installed")
    with pytest.raises(TokenizerError, match=r"not a sentencepiece model|a sentencepiece model of type"):
        imported(file("sp.model", b"\x0a\xff\xff\xff\xff no model"))
    with pytest.raises(TokenizerError, match="sentencepiece model of type"):
        imported(file("sp.model", b""))


# Tokenizers of keraslm


@pytest.mark.parametrize("kind", ["word", "char", "byte", "bpe", "unigram"])
def test_a_tokenizer_of_keraslm_is_imported_unchanged(file, kind):
    trained = train_tokenizer(LINES, DataConfig(tokenizer=kind, vocab_size=300))
    tokenizer = imported(file("own.json", trained.to_json()))
    assert tokenizer.to_json() == trained.to_json() and tokenizer.eos_id == trained.eos_id


def test_scores_that_the_library_changes_when_reading_are_made_stable(file):
    """Of scores with 17 digits, one in eight is read back as its neighbour, which would change a run's digest."""
    score = -15.275492379532281
    whole = json.loads(train_tokenizer(LINES, DataConfig(tokenizer="unigram", vocab_size=60)).to_json())
    whole["model"]["vocab"][5][1] = score
    assert json.loads(tokenizers.Tokenizer.from_str(json.dumps(whole)).to_str())["model"]["vocab"][5][1] != score
    tokenizer = imported(file("scores.json", json.dumps(whole)))
    assert Tokenizer.from_json(tokenizer.to_json()).digest == tokenizer.digest
