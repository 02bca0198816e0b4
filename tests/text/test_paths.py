"""Names, patterns and folders of texts, before anything is read."""

import errno
import os

import pytest

from keraslm.config import DataConfig
from keraslm.errors import TextError
from keraslm.text.corpus import find_splits, open_text, open_texts
from keraslm.text.files import TextFiles
from keraslm.text.paths import find_file, find_files

CLUTTER = ["._a.txt", "a.txt~", ".#a.txt", "#a.txt#", ".DS_Store", ".a.txt.swp", "a.bak", "Thumbs.db"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working and the home folder, with two texts and what editors and systems leave beside them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("d/b.txt", "d/a.txt", "d/inner/c.txt", *(f"d/{name}" for name in CLUTTER), "old [1]/x.txt", "1/x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a line\n")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("-", ["-"]),
        ("d/a.txt", ["d/a.txt"]),
        ("d", ["d/a.txt", "d/b.txt"]),
        ("d/*", ["d/a.txt", "d/b.txt"]),
        ("d/**/*.txt", ["d/a.txt", "d/b.txt", "d/inner/c.txt"]),
        ("d/a.txt~", ["d/a.txt~"]),  # named, so wanted
        ("d/*.bak", ["d/a.bak"]),
        ("old [1]/x.txt", ["old [1]/x.txt"]),  # a file that exists is no pattern
        ("old [1]/*.txt", ["old [1]/x.txt"]),
        ("old [1]", ["old [1]/x.txt"]),
    ],
)
def test_a_name_stands_for_files_in_order(name, found):
    assert find_files([name])[0] == found


def test_a_leading_tilde_is_the_home_folder(folder):
    assert find_files(["~/d/a.txt", "~/d/*.txt"])[0] == [str(folder / f"d/{n}.txt") for n in "aab"]
    (folder / "~").mkdir()
    (folder / "train.txt").write_text("a line\n")
    assert find_splits("~") == {"train": str(folder / "train.txt")}


def test_the_files_of_a_folder_are_said():
    assert TextFiles(["d", "1/x.txt"]).notes == ["d is a folder; its 2 files are read: a.txt, b.txt"]
    assert TextFiles(["d/a.txt"]).notes == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.txt", r"gone\.txt: cannot be read \(No such file"),
        ("d/a.txt/b", r"cannot be read \(Not a directory\)"),
        ("d/*.gz", r"d/\*\.gz: no file matches this pattern"),
        ("empty", r"empty: a folder without texts\. Name files, or a pattern such as 'empty/\*\*/\*\.txt'"),
        ("twice", r"twice: a\.txt and a\.txt\.gz look like one text"),
        ("", "The name of a text is empty"),
        ("a\0b", "cannot be read"),
        ("secret.txt", r"secret\.txt: cannot be read \(Permission denied\)"),
    ],
)
def test_names_without_readable_files_are_refused(folder, monkeypatch, name, message):
    (folder / "empty" / "inner").mkdir(parents=True)
    (folder / "twice").mkdir()
    for file in ("twice/a.txt", "twice/a.txt.gz", "secret.txt"):
        (folder / file).write_text("a line\n")
    if name == "secret.txt":  # the superuser may read everything
        monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(TextError, match=message):
        find_files([name])


def refuse(path, mode):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_one_file_is_expected_where_a_pattern_makes_no_text():
    assert find_file("d/a*.txt") == "d/a.txt"
    with pytest.raises(TextError, match=r"d/\*\.txt: stands for 2 files \(a\.txt, b\.txt\), but one is expected"):
        find_file("d/*.txt")


def test_a_data_folder_has_one_set_of_texts(folder):
    for name in ("ptb.train.txt", "ptb.valid.txt", "._ptb.train.txt", "ptb.train.txt~", "#ptb.valid.txt#"):
        (folder / "d" / name).write_text("a line\n")
    assert find_splits("d") == {"train": "d/ptb.train.txt", "valid": "d/ptb.valid.txt"}
    for second in ("ptb.train.txt.gz", "wiki.train.txt"):
        (folder / "d" / second).write_text("a line\n")
        with pytest.raises(TextError, match=r"both .*train.* look like the train text\. .* instead of `data`"):
            find_splits("d")
        (folder / "d" / second).unlink()


def test_one_text_is_opened_without_the_other():
    config = DataConfig(train="gone.txt", valid="d/a.txt")
    text = open_text(config, "valid")
    assert text is not None and text.name == "d/a.txt"
    with pytest.raises(TextError, match=r"gone\.txt: cannot be read"):
        open_texts(config)
