"""The names, folders and encodings of texts on the command line, for every command that reads them."""

import json
import re

import pytest

from tests.support.program import assert_refused

LINES = ["the cat sat", "", "naïve fish", "the dog saw the bird"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working and the home folder: texts in two files, and one in UTF-16 with CR at the ends of its lines."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.txt").write_text("".join(f"{line}\n" for line in LINES[:2]), encoding="utf-8")
    (tmp_path / "d" / "b.txt").write_text("".join(f"{line}\r\n" for line in LINES[2:]), encoding="utf-8")
    (tmp_path / "d" / "b.txt~").write_text("an old copy\n")
    (tmp_path / "wide.txt").write_bytes("\r".join(LINES).encode("utf-16"))
    return tmp_path


COMMANDS = {
    "score": ["score", "MODEL", "--level", "sentence"],
    "evaluate": ["evaluate", "RUN", "--json"],
    "tokenize": ["tokenize", "--with", "RUN"],
    "train": ["tokenize", "--tokenizer", "char", "--output", "t.json", "--train"],
}
TEXTS = {
    "pattern": ["d/*.txt"],
    "folder": ["d"],
    "home": ["~/d/*.txt"],
    "encoding": ["wide.txt", "--encoding", "utf-16"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("text", TEXTS)
def test_every_command_reads_the_same_text_under_any_name(program, folder, tiny_model, tiny_run, command, text):
    line = [{"MODEL": tiny_model, "RUN": tiny_run.path}.get(part, part) for part in COMMANDS[command]]

    def result(*names):
        outcome = program(*line, *names)
        assert outcome.code == 0, outcome
        out = (folder / "t.json").read_text() if command == "train" else outcome.out
        return re.sub('"text": ".*?"', "", out), outcome.err

    expected, _ = result("d/a.txt", "d/b.txt")
    out, err = result(*TEXTS[text])
    assert out == expected
    said = "keraslm: d is a folder; its 2 files are read: a.txt, b.txt\n"
    assert err == (said if text == "folder" and command in ("score", "tokenize") else "")


@pytest.mark.parametrize("name", ["gone.txt", "d/*.gz", "empty"])
@pytest.mark.parametrize(
    "line",
    [
        ["score", "MODEL", "d/a.txt"],
        ["evaluate", "RUN", "d/a.txt"],
        ["tokenize", "--with", "RUN", "--output", "t.json", "d/a.txt"],
        ["pairs", "MODEL", "d/a.txt"],
        ["rescore", "MODEL"],
        ["rescore", "MODEL", "d/a.txt", "--references"],
        ["rescore", "MODEL", "d/a.txt", "--format", "kaldi", "--scores"],
        ["score", "MODEL", "--workers", "1", "--output", "out", "d/a.txt"],
    ],
    ids=" ".join,
)
def test_missing_texts_are_told_before_anything_is_printed_or_written(
    program, folder, tiny_model, tiny_run, line, name
):
    (folder / "empty").mkdir()
    line = [{"MODEL": tiny_model, "RUN": tiny_run.path}.get(part, part) for part in line]
    outcome = program(*line, name)
    assert_refused(outcome, name, "pattern" if "*" in name else "without texts" if name == "empty" else "No such file")
    assert outcome.out == ""
    assert sorted(path.name for path in folder.iterdir()) == ["d", "empty", "wide.txt"]


def test_lists_references_and_pairs_are_read_in_their_encoding(program, folder, fake):
    rows = {"lists.tsv": "ü\t-1\tthe cat\nü\t-2\tsat\n", "pairs.tsv": "the cat\tsat é\n"}
    for name, content in rows.items():
        (folder / name).write_text(content, encoding="utf-8")
        (folder / f"{name}.latin").write_bytes(content.encode("latin-1"))
    for line in (["rescore", fake, "lists.tsv"], ["pairs", fake, "--rows", "pairs.tsv"]):
        wanted = program(*line)
        assert wanted.code == 0
        assert program(*line[:-1], f"{line[-1]}.latin", "--encoding", "latin-1") == wanted
        assert_refused(program(*line[:-1], f"{line[-1]}.latin"), "is not valid UTF-8", "--encoding cp1252")


def test_paths_with_a_tilde_are_in_the_home_folder(program, folder, tiny_model):
    assert program("score", tiny_model, "d/a.txt", "--output=~/rows.tsv", "--html", "~/page.html").code == 0
    assert (folder / "rows.tsv").is_file() and (folder / "page.html").is_file() and not (folder / "~").exists()
    (folder / "model.onnx").write_bytes(tiny_model.read_bytes())
    assert program("show", "~/model.onnx").code == 0


def test_a_run_that_has_moved_from_its_texts_says_where_to_write_their_new_place(program, folder, run_copy):
    header = json.loads((run_copy / "config.json").read_text())
    moved = {name: header["data"][name] for name in ("train", "valid")}
    header["data"] |= {"train": ["gone/train.txt"], "valid": ["gone/valid.txt"]}
    (run_copy / "config.json").write_text(json.dumps(header))
    place = f'write its new place into {run_copy}/config.json, at "data", '
    assert_refused(program("evaluate", run_copy, "d", "--temperature", "tune"), "gone/valid.txt", f'{place}"valid"')
    fixed = ["--dynamic", "--dynamic-lr", "0.1", "--dynamic-decay", "0"]
    assert_refused(program("evaluate", run_copy, "d", *fixed), "gone/train.txt", f'{place}"train"')
    header["data"]["valid"] = moved["valid"]
    (run_copy / "config.json").write_text(json.dumps(header))
    assert program("evaluate", run_copy, "d", "--temperature", "tune").code == 0


@pytest.mark.parametrize("command", ["score", "pairs", "tokenize"])
def test_a_file_that_is_no_text_is_refused_before_anything_is_printed(program, fake, folder, command):
    (folder / "b.pdf").write_bytes(b"%PDF-1.7\n1 0 obj\n")
    start = [command, "--with", fake] if command == "tokenize" else [command, fake]
    outcome = program(*start, "d/a.txt", "b.pdf")
    assert_refused(outcome, "b.pdf: looks like a PDF, not a text")
    assert outcome.out == ""
