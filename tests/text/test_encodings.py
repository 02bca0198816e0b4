"""Texts in other encodings than UTF-8, and files that are not text."""

import gzip
import io
import pickle
import sqlite3
import tarfile

import numpy as np
import pytest

from keraslm.config import DataConfig
from keraslm.errors import ConfigError, TextError
from keraslm.text import files, sniff
from keraslm.text.encoding import Encoder
from keraslm.text.files import TextFile, TextFiles
from tests.scoring.test_sniff import other_model, safetensors_bytes, zipped
from tests.support.words import train_words

LINES = ["le café est fermé", "", "  déjà vu\tà l’été", "der Fuß", "naïf"] * 30
CHINESE = ["我们今天去北京看长城。", "", "他说这本书很有意思！ 对 2024"] * 40


@pytest.fixture
def text(tmp_path):
    """Write bytes to a file and return its `TextFile`."""

    def write(data, errors="strict", encoding="utf-8"):
        (tmp_path / "text.txt").write_bytes(data)
        return TextFile(tmp_path / "text.txt", errors, encoding)

    return write


ENCODINGS = [
    *((LINES, name) for name in ("cp1252", "mac-roman", "utf-8", "UTF8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32")),
    *((CHINESE, name) for name in ("gb18030", "gbk", "utf-16", "utf-16-be", "utf-7", "iso2022_jp_2")),
]


@pytest.mark.parametrize(("lines", "name"), ENCODINGS, ids=[name for _, name in ENCODINGS])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"], ids=["LF", "CR LF", "CR"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_text_in_any_encoding_is_the_text_in_utf8(text, lines, name, ending, pack):
    file = text(pack("".join(line + ending for line in lines).encode(name)), encoding=name)
    assert list(file) == lines
    blocks = "".join(block.decoded("strict")[0] for block in file.blocks())
    assert blocks == "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize("large", [0, 1 << 30], ids=["processes", "memory"])
def test_the_tokenizer_and_the_ids_do_not_depend_on_the_encoding(tmp_path, monkeypatch, large):
    monkeypatch.setattr(files, "BLOCK", 512)
    encoder, found = Encoder(tmp_path / "cache", large=large, workers=2), []
    for name in ("utf-8", "cp1252", "utf-16"):
        (tmp_path / name).write_bytes("".join(f"{line}\r\n" for line in LINES).encode(name))
        texts = TextFiles([tmp_path / name], encoding=name)
        tokenizer = encoder.tokenizer(texts, DataConfig(encoding=name))
        found.append((tokenizer.to_json(), encoder.encode(texts, tokenizer)))
    for json, encoded in found:
        assert json == found[0][0] and encoded.counts == found[0][1].counts
        np.testing.assert_array_equal(encoded.ids, found[0][1].ids)
    assert found[0][1].counts.bytes == sum(len(line.encode()) + 1 for line in LINES)


def test_one_file_in_two_encodings_has_two_entries_in_the_cache(tmp_path):
    (tmp_path / "a").write_bytes("déjà vu\n".encode())
    encoder, tokenizer = Encoder(tmp_path / "cache", large=0, workers=0), train_words(LINES)
    oovs = [
        encoder.encode(TextFiles([tmp_path / "a"], encoding=name), tokenizer).counts.oovs
        for name in ("utf-8", "cp1252")
    ]
    assert oovs == [0, 1]


def test_bytes_that_an_encoding_does_not_have_are_reported_or_counted(text):
    data = b"one\ntw\x81o\r\nthree\x81 \x8d\n"
    with pytest.raises(TextError, match=r"text\.txt:2: not valid cp1252\. Name the encoding .*`encoding`"):
        list(text(data, encoding="cp1252"))
    file = text(data, "replace", "cp1252")
    assert list(file) == ["one", "tw\ufffdo", "three\ufffd \ufffd"] and file.replaced == 2
    assert sum(block.decoded("replace")[1] for block in file.blocks()) == 2


@pytest.mark.parametrize("name", ["foo", "", "hex", "rot13", "idna", "undefined", None, "a\0b"])
def test_an_unknown_encoding_is_refused(text, name):
    with pytest.raises(ConfigError, match=r"`encoding` is .*, but must be the name of an encoding that Python knows"):
        text(b"", encoding=name)
    if isinstance(name, str):
        with pytest.raises(ConfigError, match="`encoding`"):
            DataConfig(encoding=name)


# Line ends


def test_a_text_with_line_feeds_keeps_its_lines_whatever_else_it_holds(text):
    data = b"a\rb\n" + b"c\r" * 9 + b"\n"
    assert list(text(data)) == ["a b", " ".join("c" * 9)]
    assert list(text(b"x" * (1 << 17) + b"\r\ny\rz\r\n")) == ["x" * (1 << 17), "y z"]


def test_a_long_text_without_line_feeds_is_read_in_lines(text):
    lines = [f"line {number}" for number in range(200_000)]
    assert list(text("\r".join(lines).encode())) == lines


# Files that are not text


def wide(name):
    return "".join(f"{line}\n" for line in LINES).encode(name)


def packed(mode):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
    return buffer.getvalue()


def database(tmp_path):
    with sqlite3.connect(tmp_path / "db") as connection:
        connection.execute("create table t (a)")
    return (tmp_path / "db").read_bytes()


SAVE, UNPACK, EXTRACT = "Save it as plain text", "Unpack it", "Write its sentences to a text file"
FOREIGN = {
    "docx": (zipped("[Content_Types].xml", "_rels/.rels", "word/document.xml"), r"a Word document \(\.docx\)", SAVE),
    "odt": (zipped("mimetype").replace(b"content", b"vnd.oasis.opendocument.text"), "an OpenDocument file", SAVE),
    "zip": (zipped("a.txt"), "a zip archive", UNPACK),
    "tar": (packed("w"), "a tar archive", UNPACK),
    "tar.gz": (packed("w:gz"), "a tar archive", UNPACK),
    "gzip twice": (gzip.compress(gzip.compress(b"text")), "gzip data", UNPACK),
    "pdf": (b"%PDF-1.7\n1 0 obj\n", "a PDF", SAVE),
    "doc": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "an old Office document", SAVE),
    "rtf": (b"{\\rtf1\\ansi the cat}", "an RTF document", SAVE),
    "parquet": (b"PAR1\x15\x04\x15\x10", "a Parquet file", EXTRACT),
    "sqlite": (database, "a SQLite database", EXTRACT),
    "pickle": (pickle.dumps(["the cat"]), "a pickle", EXTRACT),
    "npy": (b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'}\n", r"a NumPy array \(\.npy\)", EXTRACT),
    "safetensors": (safetensors_bytes(), "a safetensors file", "Give the name of a text"),
    "onnx": (other_model(), "an ONNX model", "Give the name of a text"),
    "png": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "a picture", "Give the name of a text"),
    "jpeg": (b"\xff\xd8\xff\xe0\x00\x10JFIF", "a picture", "Give the name of a text"),
    "program": (b"\x7fELF\x02\x01\x01", "a program", "Give the name of a text"),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "a Git LFS pointer",
        "Fetch the file: git lfs pull",
    ),
}


@pytest.mark.parametrize(("data", "name", "remedy"), FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("errors", ["strict", "replace"])
def test_a_file_that_is_no_text_is_named_with_a_way_out(text, tmp_path, data, name, remedy, errors):
    file = text(data(tmp_path) if callable(data) else data, errors)
    for read in (list, lambda file: list(file.blocks())):
        with pytest.raises(TextError, match=rf"text\.txt: looks like {name}.*, not a text\. {remedy}"):
            read(file)


WIDE = {
    "utf-16": wide("utf-16"),
    "utf-16-le": wide("utf-16-le"),
    "utf-16-be": wide("utf-16-be"),
    "utf-32": wide("utf-32"),
    "utf-32-le": wide("utf-32-le"),
    "utf-32-be": wide("utf-32-be"),
    "utf-16-le ": "".join(f"{line}\n" for line in CHINESE).encode("utf-16-le"),
}


@pytest.mark.parametrize(("name", "data"), WIDE.items(), ids=WIDE)
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_text_in_utf16_or_utf32_names_its_encoding(text, name, data, encoding):
    with pytest.raises(TextError, match=rf"not in {encoding}, but in {name.strip()}\. .*`encoding=\"{name.strip()}\"`"):
        list(text(data, "replace", encoding))


def test_binary_data_are_refused_but_odd_texts_are_read(text):
    with pytest.raises(TextError, match=r"not a text in UTF-8, but binary data, or .*`encoding=\"utf-16\"`"):
        list(text(np.random.default_rng(1).bytes(5000), "replace"))
    for odd in ("PK is Pakistan\n", "BZh\n", "GGUF\n", "PAR1\n", "MZ\n", "ID3 tags\n", "%PDF\n", "\0\0a\0\n", "II*\n"):
        assert list(text(odd.encode())) == [odd[:-1]]
    assert list(text(b"caf\xe9\0\x01\n" * 2, "replace")) == ["caf\ufffd\0\x01"] * 2
    assert list(text(b"\x00" * 4096)) == ["\0" * 4096]


def test_every_format_has_a_pattern_that_no_plain_text_matches():
    letters = bytes(range(32, 127)) * 4
    assert all(sniff.known_format(letters[start:]) is None for start in range(95))
