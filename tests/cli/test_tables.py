"""`keraslm score` with tables and JSON Lines."""

from __future__ import annotations

import csv
import gzip
import io
import json

import pytest

from tests.support.program import assert_refused

STIMULI = 'item,sentence\n1,the cat sat\n2,\n3,"the ""dog"", sat"\n'
ADDED = ["tokens", "oovs", "logprob", "surprisal", "perplexity"]


@pytest.fixture
def stimuli(tmp_path):
    path = tmp_path / "stimuli.csv.gz"
    path.write_bytes(gzip.compress(STIMULI.encode()))
    return path


def rows_of(text):
    return [*csv.reader(io.StringIO(text))]


def test_a_table_comes_back_with_scores(program, fake, stimuli, tmp_path):
    found = rows_of(program("score", fake, stimuli, "--text-column", "sentence").out)
    assert found[0] == ["item", "sentence", *ADDED]
    assert [row[:2] for row in found[1:]] == rows_of(STIMULI)[1:]
    assert found[2][2:] == [""] * 5
    plain = tmp_path / "plain.txt"
    plain.write_text('the cat sat\nthe "dog", sat\n')
    expected = [
        row.split("\t")[1:] for row in program("score", fake, plain, "--level", "sentence").out.splitlines()[1:]
    ]
    assert [found[1][2:], found[3][2:]] == expected


def test_standard_input_is_json_lines_if_it_says_so(program, fake):
    out = program(
        *("score", fake, "--input-format", "jsonl", "--text-column", "text", "--level", "word", "--no-eos"),
        stdin=b'{"id": 7, "text": "the\\ncat"}\n',
    ).out
    assert [(row["id"], row["word"]) for row in map(json.loads, out.splitlines())] == [
        *((7, "the"), (7, "<eos>"), (7, "cat"))
    ]


def test_many_tables_are_scored_into_a_folder(program, fake, stimuli, tmp_path):
    output = tmp_path / "scores"
    for workers in ("1", "2"):
        program(
            "score", fake, stimuli, "--text-column", "sentence", "--workers", workers, "--output", output, "--overwrite"
        )
        whole = program("score", fake, stimuli, "--text-column", "sentence").out
        assert (output / "stimuli.csv.csv").read_text() == whole


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "stimuli.csv.gz is a table: name the column with the text with --text-column"),
        (("--text-column", "sentense"), "stimuli.csv.gz: no column 'sentense'. The columns are: item, sentence."),
        (("--text-column", "sentence", "--html", "x.html"), "--html and --plot show one text: leave out --text-column"),
        (("--text-column", "sentence", "--level", "region"), "--level region needs a table with --region-column or"),
        (("--text-column", "sentence", "--format", "srilm"), "but --format is srilm."),
        (
            ("--input-format", "text", "--label", "lm"),
            "--label is for tables: name the column with the text with --text",
        ),
        (("--text-column", "sentence", "--columns", "sentence_id"), "leave out column 'sentence_id'"),
        (("--text-column", "sentence", "--region-column", "item", "--level", "region"), "stimuli.csv.gz:4: "),
    ],
)
def test_faults_are_sentences(program, fake, stimuli, arguments, message):
    if "region" in arguments[-1:] and message.endswith(": "):
        stimuli.write_bytes(gzip.compress(b"item,sentence\n1,the cat\n1,the cat\n9,the dog\n"))
    assert_refused(program("score", fake, stimuli, *arguments), message)


def test_scores_do_not_overwrite_frequencies(program, fake, stimuli, tmp_path):
    counts = tmp_path / "counts.tsv"
    counts.write_text("the\t3\n")
    arguments = ("--text-column", "sentence", "--level", "word", "--columns", "word,frequency", "--frequencies", counts)
    assert_refused(program("score", fake, stimuli, *arguments, "--output", counts), "counts.tsv")
    assert counts.read_text() == "the\t3\n"
    assert "the,1000000.000000" in program("score", fake, stimuli, *arguments).out
