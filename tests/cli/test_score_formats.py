"""`keraslm score`: levels, columns, formats, bases and output files through the command line."""

from __future__ import annotations

import gzip
import json
import re

import pytest

from tests.support.program import assert_refused

TEXT = "the cat\n\nbird sat\n"


def test_rows_of_words(program, fake, text):
    out = program("score", fake, text(TEXT), "--level", "word").out.splitlines()
    assert out[0] == "sentence_id\tword_id\tword\tlogprob\tsurprisal\toov"
    assert [row.split("\t")[:3] for row in out[1:]] == [
        ["1", "1", "the"],
        ["1", "2", "cat"],
        ["1", "3", "<eos>"],
        ["2", "1", "<eos>"],
        ["3", "1", "bird"],
        ["3", "2", "sat"],
        ["3", "3", "<eos>"],
    ]
    assert [row.split("\t")[5] for row in out[1:]] == ["0", "0", "0", "0", "1", "0", "0"]


@pytest.mark.parametrize("columns", ["token,rank", " token , rank "])
def test_columns_are_selected_by_name(program, fake, text, columns):
    outcome = program("score", fake, text("the cat\n"), "--columns", columns)
    assert outcome.out == "token\trank\nthe\t4\ncat\t3\n<eos>\t6\n"
    rows = program("score", fake, text("the\n"), "--base", "10", "--columns", "logprob,surprisal").out
    assert rows.splitlines()[1] == "-0.845098\t0.845098"


def test_an_unknown_column_is_answered_with_the_known_ones(program, fake):
    assert_refused(program("score", fake, "--columns", "suprisal"), "Unknown column 'suprisal'", "surprisal, rank")


def test_json_lines(program, fake, text):
    out = program("score", fake, text(TEXT), "--format", "jsonl", "--level", "sentence").out
    assert [json.loads(row)["sentence_id"] for row in out.splitlines()] == [1, 2, 3]


def test_kenlm_and_srilm(program, fake, text):
    path = text(TEXT)
    kenlm = program("score", fake, path, "--format", "kenlm").out.splitlines()
    assert kenlm[1] == "</s>=1 2 -1.3222194\tTotal: -1.3222194 OOV: 0" and kenlm[-1] == "Tokens:\t7"
    srilm = program("score", fake, path, "--format", "srilm", "--level", "summary").out.splitlines()
    assert srilm[0] == f"file {path}: 3 sentences, 4 words, 0 OOVs"


def test_unknown_words_can_be_excluded(program, fake, text):
    out = program("score", fake, text(TEXT), "--unk", "exclude", "--level", "sentence").out.splitlines()
    assert out[3].split("\t")[:3] == ["3", "2", "1"]


@pytest.mark.parametrize("name", ["scores.tsv", "scores.tsv.gz"])
def test_an_output_file_has_the_content_of_standard_output(program, fake, text, tmp_path, name):
    path = text(TEXT)
    printed = program("score", fake, path).out
    outcome = program("score", fake, path, "--output", tmp_path / name)
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    data = (tmp_path / name).read_bytes()
    assert (gzip.decompress(data) if name.endswith(".gz") else data).decode() == printed


def test_a_faulty_text_leaves_no_output_file(program, fake, text, tmp_path):
    outcome = program("score", fake, text(b"the\n\xff\n"), "--output", tmp_path / "scores.tsv")
    assert_refused(outcome, "byte 0xff is not valid UTF-8")
    assert not (tmp_path / "scores.tsv").exists()


def test_the_signature_goes_to_standard_error(program, fake, text):
    outcome = program("score", fake, text(TEXT), "--signature")
    assert outcome.err.startswith("keraslm: signature model:") and "|context:sentence|" in outcome.err
    assert outcome.out == program("score", fake, text(TEXT)).out


def test_lines_ahead_do_not_change_the_rows(program, fake, text):
    path = text(TEXT * 50)
    expected = program("score", fake, path).out
    for lines in (1, 7, 100):
        assert program("score", fake, path, "--lines-ahead", lines).out == expected


@pytest.mark.parametrize("format", ["tsv", "jsonl", "kenlm", "srilm"])
def test_an_empty_text_in_every_format(program, fake, text, format):
    for level in ("token", "word", "sentence", "summary"):
        outcome = program("score", fake, text(""), "--format", format, "--level", level)
        assert (outcome.code, outcome.err) == (0, "")


@pytest.mark.parametrize("more", [[], ["--gzip"], ["--format", "kenlm", "--level", "sentence"]])
def test_texts_are_scored_into_a_folder(program, fake, text, tmp_path, more):
    paths = [text(TEXT * 3, "a.txt"), text("dog\n", "b.txt")]
    line = ["score", fake, *paths, "--workers", 2, "--output", tmp_path / "out", *more]
    outcome = program(*line)
    assert outcome.code == 0 and outcome.out == "" and "2 shards; " in outcome.err
    for path in paths:
        expected = program("score", fake, path, *[flag for flag in more if flag != "--gzip"]).out
        (found,) = (tmp_path / "out").glob(f"{path.name}.*")
        data = found.read_bytes()
        assert (gzip.decompress(data) if more == ["--gzip"] else data).decode() == expected
    assert_refused(program(*line), "exists. Pass --resume")
    assert "0 shards, 2 finished before" in program(*line, "--resume").err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workers", "2"], "add --output FOLDER"),
        (["--scheduler", "tcp://h:1"], "add --output FOLDER"),
        (["--workers", "0", "--output", "out"], "--workers is 0, but must be at least 1"),
        (["--workers", "2", "--output", "out", "--html", "r.html"], "--html and --plot show one text"),
        (["--lines-ahead", "0"], "is 0, but must be at least 1"),
        (["--resume"], "--resume, --overwrite and --gzip need --workers or --scheduler"),
        (["--html", "gone/r.html"], "gone/r.html: give the name of a file in a folder that exists"),
    ],
)
def test_contradictory_flags_are_refused(program, fake, text, monkeypatch, tmp_path, flags, message):
    monkeypatch.chdir(tmp_path)
    assert_refused(program("score", fake, text("the\n"), *flags), message)


def test_pictures_are_written_beside_the_rows(program, fake, text, tmp_path):
    path = text(TEXT)
    rows = program("score", fake, path).out
    outcome = program("score", fake, path, "--html", tmp_path / "r.html", "--plot", tmp_path / "r.png")
    assert (outcome.code, outcome.out) == (0, rows)
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "bird" in page and "Content-Security-Policy" in page
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


def test_totals_of_several_texts_name_them(program, fake, text, tmp_path):
    paths = [text(TEXT, f"{name}.txt") for name in "abc"]
    line = ["score", fake, *paths, "--format", "srilm", "--level", "summary", "--html", tmp_path / "r.html"]
    assert program(*line).out.startswith(f"file {paths[0]} and 2 more: 9 sentences, 12 words")
    assert f"<title>{paths[0]} and 2 more</title>" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_a_page_has_the_numbers_of_the_rows(program, fake, text, tmp_path):
    flags = ["--level", "word", "--unk", "exclude", "--base", "10"]
    outcome = program("score", fake, text(TEXT), *flags, "--columns", "surprisal", "--html", tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    surprisals = [cell.replace("nan", "null") for cell in outcome.out.splitlines()[1:]]
    assert re.findall(r" data-s=(\S+?)[ >]", page) == surprisals and "null" in surprisals
    assert "surprisal in hartleys" in page and "1, left out" in page
