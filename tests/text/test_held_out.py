"""The share of a text that is held out for validation: which units, and nothing lost."""

import gzip
import io
import sys
from fractions import Fraction
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm.config import DataConfig
from keraslm.errors import TextError
from keraslm.text import files
from keraslm.text.corpus import open_text, open_texts
from keraslm.text.encoding import Encoder
from keraslm.text.files import TextFiles
from keraslm.text.held_out import held_out
from keraslm.text.pieces import PIECE
from tests.reference.epochs import held_units, split_lines

shares = st.integers(1, 999).map(lambda number: f"{number / 1000}")
LINES = [f"line {number} é" if number % 7 else "" for number in range(100)]


def written(path, lines, end="\n", last="\n"):
    path.write_bytes((end.join(lines) + (last if lines else "")).encode())
    return str(path)


def parts_of(**fields):
    """The lines of both parts, as lines and as blocks."""
    found = []
    for text in open_texts(DataConfig(**fields)):
        blocks = "".join(block.decoded(text.errors)[0] for block in text.blocks())
        assert blocks.split("\n")[:-1] == list(text)
        found.append(list(text))
    return tuple(found)


@given(share=shares, count=st.integers(0, 300))
def test_the_number_of_units_is_within_one_of_the_share(share, count):
    held = [number for number, flag in enumerate(islice(held_out(float(share)), count)) if flag]
    assert held == held_units(count, share)
    assert abs(len(held) - count * Fraction(share)) < 1


def test_the_choice_is_the_same_on_every_machine():
    """Runs that exist are evaluated on these lines."""
    assert [number for number, held in enumerate(islice(held_out(0.05), 120)) if held] == [0, 33, 46, 63, 94, 103]
    assert [number for number, held in enumerate(islice(held_out(0.75), 12)) if held] == [0, 2, 3, 5, 6, 7, 9, 10, 11]
    assert not any(islice(held_out(1e-9), 1000))


texts = st.lists(st.sampled_from(["", "", " ", "a", "b c", "é\u2028", "x\x0cy", "<eos>"]), min_size=1, max_size=60)


@pytest.mark.parametrize("context", ["sentence", "paragraph", "document"])
@pytest.mark.parametrize("tokenizer", ["word", "char"])
@given(lines=texts, share=shares, block=st.sampled_from([1, 7, 1 << 20]), end=st.sampled_from(["\n", "\r\n"]))
def test_each_line_is_in_one_part_and_the_order_is_kept(tmp_path_factory, context, tokenizer, lines, share, block, end):
    path = written(tmp_path_factory.mktemp("text") / "a.txt", lines, end, end)
    train, valid = split_lines(lines, share, context, tokenizer == "word")
    fields = {"train": path, "valid_share": float(share), "context": context, "tokenizer": tokenizer}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "BLOCK", block)
        if train and valid:
            assert parts_of(**fields) == (train, valid)
            return
        with pytest.raises(TextError, match=rf"no {'validation' if train else 'training'} text is left"):
            parts_of(**fields)


def test_a_long_line_stays_in_one_part(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BLOCK", 4096)
    lines = [f"{number}" + " long" * (number % 5 * PIECE // 7) for number in range(40)]
    path = written(tmp_path / "a.txt", lines, last="")
    expected = split_lines(lines, "0.25", "sentence")
    assert max(map(len, expected[1])) > 2 * PIECE
    assert parts_of(train=path, valid_share=0.25, context="sentence") == expected


def test_files_are_held_out_if_there_are_enough(tmp_path):
    for number in range(12):
        written(tmp_path / f"{number:02}.txt", [f"{number} {line}" for line in range(number + 1)])
    held = held_units(12, "0.25")
    assert len(held) == 3
    fields = {"train": str(tmp_path), "valid_share": 0.25}
    train, valid = open_texts(DataConfig(**fields))
    assert {line.split()[0] for line in valid} == set(map(str, held))
    assert {line.split()[0] for line in train} == set(map(str, range(12))) - set(map(str, held))
    names = ", ".join(f"{number:02}.txt" for number in held)
    assert valid.notes == [f"held out: {names} (3 of 12 files)"]
    assert train.notes[0].startswith(f"{tmp_path} is a folder; its 12 files are read")
    # A twentieth of 12 files is less than one: the last of 78 lines.
    train, valid = parts_of(**fields | {"valid_share": 0.05})
    assert len(train) == 74 and valid == [f"11 {line}" for line in range(8, 12)]


@pytest.mark.parametrize("context", ["sentence", "paragraph", "document"])
def test_encodings_and_compression_change_nothing(tmp_path, context):
    path = written(tmp_path / "a.txt", LINES)
    expected = parts_of(train=path, valid_share=0.1, context=context)
    assert expected == split_lines(LINES, "0.1", context)
    data = "".join(f"{line}\r\n" for line in LINES)
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + data.encode()))
    (tmp_path / "c").write_bytes(data.encode("latin-1"))
    for name, encoding in (("b.gz", "utf-8"), ("c", "latin-1")):
        fields = {"train": str(tmp_path / name), "valid_share": 0.1, "context": context}
        assert parts_of(**fields, encoding=encoding) == expected


def test_an_invalid_byte_is_reported_with_its_line_in_the_file(tmp_path):
    lines = [f"line {number}".encode() for number in range(100)]
    for bad in (33, 34):  # one is held out
        (tmp_path / "a.txt").write_bytes(b"\n".join([*lines[:bad], b"b\xe9d", *lines[bad + 1 :]]))
        fields = {"train": str(tmp_path / "a.txt"), "valid_share": 0.05, "context": "sentence"}
        for text in open_texts(DataConfig(**fields)):
            with pytest.raises(TextError, match=rf"a\.txt:{bad + 1}:2: byte 0xe9 is not valid UTF-8"):
                list(text)
        train, valid = open_texts(DataConfig(**fields, errors="replace"))
        assert ("b\ufffdd" in list(train)) == (bad == 34) != ("b\ufffdd" in list(valid))
        tokenizer = Encoder().tokenizer(train, DataConfig(errors="replace"))
        assert [Encoder().encode(text, tokenizer).replaced for text in (train, valid)] == [bad == 34, bad == 33]


def test_the_tokenizer_sees_the_training_part_only(tmp_path):
    path = written(tmp_path / "a.txt", [f"w{number}" for number in range(100)])
    config = DataConfig(train=path, valid_share=0.1, context="sentence")
    train, valid = open_texts(config)
    tokenizer = Encoder().tokenizer(train, config)
    assert tokenizer.vocab_size == 90 + 2
    encoded = Encoder().encode(valid, tokenizer)
    assert (encoded.counts.lines, encoded.counts.oovs, encoded.name) == (10, 10, f"the held-out lines of {path}")


def test_the_cache_keeps_each_part_apart(tmp_path):
    path = written(tmp_path / "a.txt", LINES)
    large, small = Encoder(tmp_path / "cache", large=0, workers=0), Encoder(tmp_path / "none")
    configs = [
        DataConfig(train=path, context="sentence"),
        DataConfig(train=path, context="sentence", valid_share=0.1),
        DataConfig(train=path, context="sentence", valid_share=0.2),
        DataConfig(train=path, context="paragraph", valid_share=0.1),
        DataConfig(train=path, context="document", valid_share=0.1),
    ]
    for _ in range(2):  # the second time from the cache
        for config in configs:
            train, valid = open_texts(config)
            tokenizer = large.tokenizer(train, config)
            assert tokenizer.to_json() == small.tokenizer(train, config).to_json()
            for text in filter(None, (train, valid)):
                found, expected = large.encode(text, tokenizer), small.encode(text, tokenizer)
                np.testing.assert_array_equal(found.ids, expected.ids)
                assert found.counts == expected.counts and len(found.ids)
    assert len(list((tmp_path / "cache" / "ids").iterdir())) == 9
    assert len(list((tmp_path / "cache" / "tokenizers").iterdir())) == 5


def test_standard_input_is_split(tmp_path, monkeypatch):
    data = "".join(f"{line}\n" for line in LINES).encode()
    stdin = SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(data)), isatty=lambda: False)
    monkeypatch.setattr(sys, "stdin", stdin)
    config = DataConfig(train="-", valid_share=0.1, context="paragraph")
    encoder = Encoder(tmp_path / "cache")
    train, valid = open_texts(config)
    tokenizer = encoder.tokenizer(train, config)
    path = written(tmp_path / "a.txt", LINES)
    for text, lines in zip((train, valid), split_lines(LINES, "0.1", "paragraph"), strict=True):
        expected = np.concatenate(tokenizer.encode_lines(lines))
        np.testing.assert_array_equal(encoder.encode(text, tokenizer).ids, expected)
    assert list(open_text(DataConfig(train=path, valid_share=0.1, context="paragraph"), "valid")) == list(valid)


def test_too_few_units_are_refused(tmp_path):
    path = written(tmp_path / "a.txt", ["one", "two"])
    for context, hint in (("sentence", "few lines"), ("paragraph", "few paragraphs. A paragraph ends with a blank")):
        train, valid = open_texts(DataConfig(train=path, valid_share=0.001, context=context))
        assert list(train) == ["one", "two"]
        with pytest.raises(TextError, match=rf"a\.txt: with `valid_share=0.001` no validation text is left.*{hint}"):
            list(valid)


def test_a_folder_with_a_validation_text_is_refused(tmp_path):
    written(tmp_path / "my.train.txt", LINES)
    fields = {"data": str(tmp_path), "valid_share": 0.1, "context": "sentence"}
    assert parts_of(**fields) == split_lines(LINES, "0.1", "sentence")
    written(tmp_path / "my.valid.txt", LINES)
    for call in (open_texts, lambda config: open_text(config, "valid")):
        with pytest.raises(TextError, match=r"the folder holds a validation text, my\.valid\.txt, and `valid_share`"):
            call(DataConfig(**fields))


def test_a_folder_of_splits_as_training_text_is_noted(tmp_path):
    written(tmp_path / "train.txt", LINES)
    assert not any("validation" in note for note in open_texts(DataConfig(train=str(tmp_path)))[0].notes)
    written(tmp_path / "dev.txt", LINES)
    train, _ = open_texts(DataConfig(train=str(tmp_path)))
    assert isinstance(train, TextFiles) and len(train.files) == 2
    assert train.notes[1].startswith(f"{tmp_path} seems to hold a validation text too, which is trained on; `data`")
