import gzip
import subprocess
from collections import Counter
from pydoc_data.topics import topics

import pytest

from keraslm.config import DataConfig
from keraslm.errors import TextError
from keraslm.text.corpus import EmbeddedText, find_splits, open_texts
from keraslm.text.files import TextFile

ODD = "a\u2028b\x0cc\x0bd\x85e\x00f\u2029g\x1ch and more\nsecond\n\n\nfifth\n"


@pytest.fixture
def text(tmp_path):
    """Write bytes to a file and return its `TextFile`."""

    def write(data, errors="strict"):
        path = tmp_path / "text.txt"
        path.write_bytes(data)
        return TextFile(path, errors)

    return write


# Lines


def test_lines_end_at_line_feed_only_as_wc_counts(text):
    file = text(ODD.replace(" and", "\rand").encode())
    assert list(file) == ODD.split("\n")[:-1]
    wc = subprocess.run(["wc", "-l", file.path], capture_output=True, text=True, check=True)
    assert len(list(file)) == int(wc.stdout.split()[0]) == 5


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (
            gzip.compress(b"\xef\xbb\xbfone\r\n", mtime=0) + gzip.compress(b"two\n\nfour", mtime=0),
            ["one", "two", "", "four"],
        ),
        (b"a\r\r\nb\rc\r\n\rd\n", ["a ", "b c", " d"]),  # a carriage return that ends no line is a blank
        (b"a\rb c\r\rd\r", ["a", "b c", "", "d"]),  # without line feeds it ends a line
        (b"\xef\xbb\xbfa\rb", ["a", "b"]),
        (b"a\r", ["a"]),
        ("a\n\ufeffb\n".encode(), ["a", "\ufeffb"]),  # a byte order mark elsewhere is a character
        (b"", []),
        (b"\n", [""]),
        (b"\n\n", ["", ""]),
        (b"\xef\xbb\xbf", []),
    ],
)
def test_lines_of_a_text(text, data, lines):
    assert list(text(data)) == lines


# Faults


@pytest.mark.parametrize(
    ("data", "place", "byte"),
    [
        (b"\xffabc\n", "1:1", 0),
        (b"abc\xff\n", "1:4", 3),
        (b"abc\n\nde\x80f\n", "3:3", 7),
        (b"abc\r\nd\xe9f\r\n", "2:2", 6),
        ("äö\nü".encode() + b"\xfe", "2:3", 7),
        (b"abc\nde\xe2\x82", "2:3", 6),
        (b"\xef\xbb\xbfab\xff\n", "1:3", 5),
        (b"\xef\xbb\xbfab\nc\xff\n", "2:2", 7),
        (b"a\xed\xa0\x80\n", "1:2", 1),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_invalid_utf8_is_reported_with_file_line_and_byte(text, data, place, byte, pack):
    file = text(pack(data))
    with pytest.raises(TextError) as caught:
        list(file)
    assert str(caught.value).startswith(
        f"{file.path}:{place}: byte 0x{data[byte]:02x} is not valid UTF-8 (byte {byte} of the text). "
    )
    assert '`errors="replace"`' in str(caught.value)


def test_replacing_keeps_one_row_per_line_and_counts_lines(text):
    file = text(b"\xff\xff\ngood\nb\xe4d\n", errors="replace")
    for _ in range(2):
        assert list(file) == ["\ufffd\ufffd", "good", "b\ufffdd"]
        assert file.replaced == 2


PACKED = gzip.compress(b"".join(b"%d lines of text\n" % (n * n) for n in range(500)))
MIDDLE = len(PACKED) // 2
FLIPPED = PACKED[:MIDDLE] + bytes([PACKED[MIDDLE] ^ 0xFF]) + PACKED[MIDDLE + 1 :]


@pytest.mark.parametrize("data", [*(PACKED[:keep] for keep in (2, 5, 12, -9, -1)), FLIPPED], ids=len)
def test_truncated_or_damaged_gzip_is_a_text_error(text, data):
    with pytest.raises(TextError, match=r"text\.txt: the gzip data are damaged or cut short"):
        list(text(data))


# Folders


def fill(folder, *names):
    for name in names:
        (folder / name).write_text("a line\n")


@pytest.mark.parametrize(
    ("train", "valid", "test"),
    [
        ("train.txt", "valid.txt", "test.txt"),
        ("ptb.train.txt.gz", "ptb.valid.txt.gz", "ptb.test.txt.gz"),
        ("wiki.train.tokens", "wiki.validation.tokens", "wiki.test.tokens"),
        ("corpus-train", "corpus-dev", "corpus-test"),
        ("en_TRAIN.txt", "en_Val.txt", "en_test.txt"),
    ],
)
def test_splits_are_found_by_their_names(tmp_path, train, valid, test):
    fill(tmp_path, train, valid, test, "README.md", "training-notes.txt", "vocab.txt")
    (tmp_path / "train").mkdir(exist_ok=True)
    names = {"train": train, "valid": valid, "test": test}
    assert find_splits(tmp_path) == {split: str(tmp_path / name) for split, name in names.items()}


def test_valid_and_test_are_optional_but_two_files_for_one_split_are_refused(tmp_path):
    fill(tmp_path, "train.txt")
    assert find_splits(tmp_path) == {"train": str(tmp_path / "train.txt")}
    fill(tmp_path, "a.valid.txt", "b.dev.txt")
    with pytest.raises(TextError, match=r"both a\.valid\.txt and b\.dev\.txt look like the valid text"):
        find_splits(tmp_path)


def test_a_folder_without_training_text_is_listed(tmp_path):
    with pytest.raises(TextError, match=r"no training text .* The folder holds: nothing\."):
        find_splits(tmp_path)
    fill(tmp_path, "valid.txt", "b.md")
    with pytest.raises(TextError, match=r"The folder holds: b\.md, valid\.txt\."):
        find_splits(tmp_path)


@pytest.mark.parametrize("name", ["absent", "file.txt"])
def test_a_missing_folder_is_refused(tmp_path, name):
    fill(tmp_path, "file.txt")
    with pytest.raises(TextError, match=rf"{name}: no such folder\. `data` expects a folder"):
        find_splits(tmp_path / name)


def test_the_data_folder_of_ptb_is_found(data_folder):
    splits = find_splits(data_folder / "ptb")
    assert splits["train"].endswith("ptb.train.txt.gz") and splits["valid"].endswith("ptb.valid.txt.gz")
    assert sum(1 for _ in TextFile(splits["valid"])) == 3370


# Texts of a configuration


def test_files_of_a_configuration_are_opened(tmp_path):
    fill(tmp_path, "train.txt", "valid.txt")
    by_folder = open_texts(DataConfig(data=str(tmp_path), errors="replace"))
    by_name = open_texts(DataConfig(train=f"{tmp_path}/train.txt", valid=f"{tmp_path}/valid.txt", errors="replace"))
    for texts in (by_folder, by_name):
        assert [t.name for t in texts] == [str(tmp_path / "train.txt"), str(tmp_path / "valid.txt")]
        assert [t.errors for t in texts] == ["replace", "replace"]
    assert open_texts(DataConfig(train=f"{tmp_path}/train.txt"))[1] is None
    with pytest.raises(TextError, match=r"Standard input \(-\) can be read only once"):
        open_texts(DataConfig(train=("-",), valid=("-",)))


def test_embedded_splits_are_disjoint_and_complete():
    train, valid = (list(text) for text in open_texts(DataConfig()))
    every = Counter(line.strip() for topic in topics.values() for line in topic.split("\n") if line.strip())
    assert Counter(train) + Counter(valid) == every
    assert len(train) > 5 * len(valid) > 1000
    assert train == list(EmbeddedText("train")) and valid == list(EmbeddedText("valid"))
    assert all(line and line == line.strip() and "\n" not in line for line in train + valid)
