"""Scores added to tables, beside scores of the same texts one by one."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm.errors import TextError, UsageError
from keraslm.report.options import ScoreOptions
from keraslm.report.table_input import TableInput, input_format
from keraslm.report.writer import write_records
from keraslm.scoring.words import word_scores
from keraslm.text.files import TextFile

ROWS = [
    {"item": "1", "text": "the cat", "note": 'with "quotes", and\na line end'},
    {"item": "2", "text": "", "note": ""},
    {"item": "3", "text": "the dog\nsat", "note": "two lines"},
]
CSV = 'item,text,note\n1,the cat,"with ""quotes"", and\na line end"\n2,,\n3,"the dog\nsat",two lines\n'


@pytest.fixture
def table(tmp_path):
    def write(text, name="t.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def scored(scorer, path, table_input, **options):
    options = {"level": "sentence", "format": table_input.format, "context": "document"} | options
    out = io.StringIO()
    write_records(scorer, [TextFile(path)], ScoreOptions(**options, table=table_input), out)
    return out.getvalue()


def rows_of(text, delimiter=","):
    return [*csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)]


def test_every_row_is_carried_through(by_history, table):
    found = rows_of(scored(by_history, table(CSV), TableInput("csv", "text")))
    assert [{name: row[name] for name in ROWS[0]} for row in found] == ROWS
    assert float(found[0]["logprob"]) == pytest.approx(by_history.score("the cat"), abs=1e-6)
    whole = sum(part.sum() for part in by_history.logprobs(["the dog", "sat"], "document"))
    assert float(found[2]["logprob"]) == pytest.approx(whole, abs=1e-6)
    assert float(found[2]["perplexity"]) == pytest.approx(math.exp(-whole / 5), abs=1e-4)
    assert [found[1][name] for name in ("tokens", "oovs", "logprob", "surprisal", "perplexity")] == [""] * 5
    sentences = rows_of(scored(by_history, table(CSV), TableInput("csv", "text"), context="sentence"))
    apart = sum(map(by_history.score, ["the dog", "sat"]))
    assert float(sentences[2]["logprob"]) == pytest.approx(apart, abs=1e-6)


def test_words_of_all_lines_of_a_text(by_history, table):
    columns = ("word_id", "word", "start", "end", "logprob")
    found = rows_of(scored(by_history, table(CSV), TableInput("csv", "text"), level="word", columns=columns))
    assert [row["item"] for row in found] == ["1"] * 3 + ["2"] + ["3"] * 5
    last = found[4:]
    assert [row["word"] for row in last] == ["the", "dog", "<eos>", "sat", "<eos>"]
    assert [row["word_id"] for row in last] == ["1", "2", "3", "4", "5"]
    assert ["the dog\nsat"[int(row["start"]) : int(row["end"])] for row in last] == ["the", "dog", "", "sat", ""]
    expected = [p for part in by_history.logprobs(["the dog", "sat"], "document") for p in part]
    assert [float(row["logprob"]) for row in last] == pytest.approx(expected, abs=1e-6)
    tokens = rows_of(
        scored(by_history, table(CSV), TableInput("csv", "text"), level="token", columns=("token_id", "start", "end"))
    )
    assert [(row["token_id"], row["start"], row["end"]) for row in tokens[4:]] == [
        *(("1", "0", "3"), ("2", "4", "7"), ("3", "7", "7"), ("4", "8", "11"), ("5", "11", "11"))
    ]


def test_json_objects_keep_their_bytes(by_history, table):
    lines = ['{"id": 1.10, "t": "the cat", "big": 1e400}', '{"t": null, "deep": {"a": [1]}}', '{"t":"sat"  }  ']
    found = scored(by_history, table("\n".join(lines), "t.jsonl"), TableInput("jsonl", "t")).splitlines()
    for line, row in zip(lines, found, strict=True):
        assert row.startswith(line.rstrip()[:-1].rstrip() + ', "tokens": ')
    values = [json.loads(row.replace("1e400", "1")) for row in found]
    assert values[0]["logprob"] == pytest.approx(by_history.score("the cat"), abs=1e-6)
    assert values[1]["logprob"] is None and values[1]["tokens"] is None
    assert values[2]["logprob"] == pytest.approx(by_history.score("sat"), abs=1e-6)


def test_a_table_can_be_written_in_a_different_form(by_history, table):
    objects = [
        json.loads(row)
        for row in scored(by_history, table(CSV), TableInput("csv", "text"), format="jsonl").splitlines()
    ]
    assert [{name: found[name] for name in ROWS[0]} for found in objects] == ROWS
    text = '{"n": 3, "t": "the"}\n{"t": "cat", "n": null}\n'
    found = rows_of(scored(by_history, table(text, "t.jsonl"), TableInput("jsonl", "t"), format="tsv"), "\t")
    assert [(row["n"], row["t"]) for row in found] == [("3", "the"), ("", "cat")]
    with pytest.raises(TextError, match=r"t.jsonl:2: the fields are t, but the first object has n, t."):
        scored(
            by_history, table('{"n": 3, "t": "the"}\n{"t": "cat"}\n', "t.jsonl"), TableInput("jsonl", "t"), format="csv"
        )
    with pytest.raises(TextError, match="two columns have one name"):
        scored(by_history, table("a,a,text\n1,2,the\n"), TableInput("csv", "text"), format="jsonl")
    semicolons = scored(by_history, table("a;text\n1,5;the\n"), TableInput("csv", "text"))
    assert semicolons.splitlines()[0] == "a;text;tokens;oovs;logprob;surprisal;perplexity"
    assert semicolons.splitlines()[1].startswith("1,5;the;2;0;")


def test_prefixes(by_history, table):
    path = table("p,t\nthe cat,sat\n,sat\nthe,dog\n")
    for eos in (True, False):
        found = rows_of(scored(by_history, path, TableInput("csv", "t", "p"), eos=eos))
        expected = [
            *(by_history.score("sat", prefix="the cat", eos=eos), by_history.score("sat", eos=eos)),
            by_history.score("dog", prefix="the", eos=eos),
        ]
        assert [float(row["logprob"]) for row in found] == pytest.approx(expected, abs=1e-6)
    words = rows_of(scored(by_history, path, TableInput("csv", "t", "p"), level="word", eos=False))
    assert [(row["word_id"], row["word"]) for row in words] == [("1", "sat"), ("1", "sat"), ("1", "dog")]


words = st.lists(st.sampled_from(["the", "cat", "dog", "sat", "bird"]), min_size=1, max_size=3)


@given(st.lists(words, min_size=1, max_size=4), st.booleans())
def test_regions_are_sums_of_their_words(by_history, tmp_path_factory, parts, by_column):
    folder = tmp_path_factory.mktemp("regions")
    text, numbers, count = " ".join(" ".join(part) for part in parts), [], 1
    for part in parts:
        numbers.append(str(count))
        count += len(part)
    rows = {True: ("text,regions", f"{text},{' '.join(numbers)}"), False: ("text", " | ".join(map(" ".join, parts)))}
    (folder / "t.csv").write_text("\n".join(rows[by_column]) + "\n")
    table_input = TableInput(
        "csv", "text", regions="regions" if by_column else None, region_separator=None if by_column else "|"
    )
    columns = ("region", "logprob", "entropy", "entropy_reduction", "surprisal_lag1", "length")
    found = rows_of(scored(by_history, folder / "t.csv", table_input, level="region", columns=columns))
    (line,) = by_history.score_lines([text], "document", distributions=True)
    own, place = word_scores(line, by_history.tokenizer), 0
    for row, part in zip(found, [*parts, ["<eos>"]], strict=True):
        ws = own[place : place + len(part)]
        assert float(row["logprob"]) == pytest.approx(sum(w.logprob for w in ws), abs=1e-5)
        tokens = slice(ws[0].tokens[0], ws[-1].tokens[1])
        bits = line.entropies[tokens].sum() / math.log(2)
        assert float(row["entropy"]) == pytest.approx(bits, abs=1e-5)
        assert float(row["entropy_reduction"]) == pytest.approx(
            line.entropy_reductions[tokens].sum() / math.log(2), abs=1e-5
        )
        assert int(row["length"]) == (0 if part == ["<eos>"] else len(" ".join(part)))
        place += len(part)
    surprisals = [-float(row["logprob"]) / math.log(2) for row in found]
    assert found[0]["surprisal_lag1"] == ""
    assert [float(row["surprisal_lag1"]) for row in found[1:]] == pytest.approx(surprisals[:-1], abs=1e-4)
    by_word = rows_of(scored(by_history, folder / "t.csv", table_input, level="word", columns=("word", "region")))
    names = [str(number) for number, part in enumerate(parts, 1) for _ in part]
    assert [row["region"] for row in by_word][:-1] == names


def test_a_word_nan_is_a_word_and_no_missing_number(by_id, table):
    columns = ("word", "surprisal", "surprisal_lag1")
    options = {"level": "word", "columns": columns, "unk": "exclude", "eos": False}
    rows = rows_of(scored(by_id, table("text\nnan the\n"), TableInput("csv", "text"), **options))
    bits = f"{-math.log2(3 / 21):.6f}"
    assert [tuple(row[name] for name in columns) for row in rows] == [("nan", "", ""), ("the", bits, "")]


def test_a_summary_adds_up_all_texts(by_history, table):
    found = scored(by_history, table(CSV), TableInput("csv", "text"), level="summary", format="jsonl")
    lines = [*by_history.score_lines(["the cat", None, "the dog", "sat"], "document")]
    assert json.loads(found)["nats"] == pytest.approx(-sum(line.logprob for line in lines))
    assert json.loads(found)["words"] == 5


def test_unknown_words_can_be_left_out(by_id, table):
    path = table("text\nthe zebra\n")
    (row,) = rows_of(scored(by_id, path, TableInput("csv", "text"), unk="exclude"))
    assert float(row["logprob"]) == pytest.approx(math.log(3 / 21) + math.log(1 / 21), abs=1e-6)


def test_a_table_without_rows_is_its_header(by_id, table):
    assert scored(by_id, table("a,text\n"), TableInput("csv", "text")).strip() == (
        "a,text,tokens,oovs,logprob,surprisal,perplexity"
    )


def test_names_that_are_taken(by_id, table):
    path = table("logprob,text\n1,the\n")
    with pytest.raises(TextError, match=r"t.csv: the input has 'logprob' already. Choose `label`"):
        scored(by_id, path, TableInput("csv", "text"))
    header = scored(by_id, path, TableInput("csv", "text", label="lm")).splitlines()[0]
    assert header == "logprob,text,lm_tokens,lm_oovs,lm_logprob,lm_surprisal,lm_perplexity"
    with pytest.raises(TextError, match=r"t.jsonl:1: the input has 'tokens' already."):
        scored(by_id, table('{"text": "the", "tokens": 3}', "t.jsonl"), TableInput("jsonl", "text"))


@pytest.mark.parametrize(
    ("names", "given_format", "column", "message"),
    [
        (["a.csv"], "auto", None, "a.csv is a table: name the column with the text with `text_column`"),
        (["a.txt"], "auto", "text", "`text_column` needs a table"),
        (["a.csv", "b.txt"], "auto", "text", "Files of different formats: a.csv (csv), b.txt (text)."),
        (["-"], "jsonl", None, "The input is a table"),
        (["a.csv"], "xml", "text", "`input_format` is 'xml'"),
    ],
)
def test_the_form_of_the_input(names, given_format, column, message):
    with pytest.raises(UsageError) as caught:
        input_format(names, given_format, column)
    assert message in str(caught.value)


def test_the_form_follows_the_names():
    assert input_format(["a.csv", "b.csv.gz"], "auto", "text") == "csv"
    assert input_format(["a.csv"], "text", None) is None
    assert input_format([], "auto", None) is None
    assert input_format([], "jsonl", "text") == "jsonl"


def test_a_text_without_regions_is_named(by_id, table):
    lines = '{"text": "the cat", "regions": "1 2"}\n{"text": "the cat", "regions": null}\n'
    path = table(lines, "t.jsonl")
    with pytest.raises(TextError, match=r"t.jsonl:2: no regions. A region is the number of its first word"):
        scored(by_id, path, TableInput("jsonl", "text", regions="regions"), level="region", columns=("region",))
