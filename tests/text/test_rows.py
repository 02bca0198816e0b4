"""Tables that the default readers of `csv` and pandas read without losing a row."""

import csv
import io
import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keraslm.text.rows import cells_of, row_writer
from tests.support import fake_model
from tests.support.words import train_words

cell = st.text(st.sampled_from("ab\"'\t\r\n,; \\\x0b\x1c\x85\u2028\u00e9"), min_size=1, max_size=6)
SEPARATORS = {"tsv": "\t", "csv": ","}
QUOTES = ['"', '""', '"a', 'b"', 'a "b" c', "'", ",", "NA", "null", "nan", "#", " x", "\\t"]


def default_rows(text, format):
    """The rows by the default reader of `csv`, and by that of pandas if it is installed."""
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=SEPARATORS[format]))
    try:
        import pandas
    except ImportError:
        return rows
    frame = pandas.read_csv(io.StringIO(text, newline=""), sep=SEPARATORS[format], keep_default_na=False, dtype=str)
    assert [frame.columns.tolist(), *frame.to_numpy().tolist()] == rows
    return rows


@pytest.mark.parametrize("format", SEPARATORS)
@given(table=st.lists(st.tuples(cell, cell), max_size=4))
@example(table=[('"', "a"), ("b", '"')])
def test_default_readers_return_every_cell(format, table):
    rows = [["number", "one", "two"], *([str(n), *cells] for n, cells in enumerate(table, 1))]
    assert default_rows("".join(f"{row_writer(format)(row)}\n" for row in rows), format) == rows


@given(st.lists(st.text(st.sampled_from("ab\"' ,"), max_size=5), min_size=2, max_size=4))
def test_a_row_is_read_again(cells):
    for format in ("tsv", "csv", "raw"):
        assert cells_of(row_writer(format)(cells), format) == cells


def test_only_cells_that_need_quotes_have_them():
    assert row_writer("tsv")(["a b", "it's", 'a "b"', "c,d"]) == 'a b\tit\'s\t"a ""b"""\tc,d'
    assert row_writer("csv")(["a b", "c,d"]) == 'a b,"c,d"'
    assert row_writer("raw")(["a", '"', 1]) == 'a\t"\t1'
    assert cells_of('" the "\t"\t""\t"a', "tsv") == ['" the "', '"', '""', '"a']


def table(program, format, *arguments):
    outcome = program(*arguments, "--format", format)
    assert (outcome.code, outcome.err) == (0, "")
    header, *rows = default_rows(outcome.out, format)
    assert {len(row) for row in rows} == {len(header)}
    return [dict(zip(header, row, strict=True)) for row in rows]


@pytest.mark.parametrize("format", SEPARATORS)
def test_every_row_of_every_table_is_read_with_its_text(program, tmp_path, text, format):
    tokenizer = train_words(["the cat", *QUOTES])
    model = fake_model.write(
        tmp_path / "model.onnx", np.zeros((tokenizer.vocab_size,) * 2), fake_model.info_of(tokenizer)
    )
    lines = [f"the {quote} cat {quote}" for quote in QUOTES]
    path, words = text("".join(f"{line}\n" for line in lines)), [word for line in lines for word in line.split()]
    for level, column in (("token", "token"), ("word", "word")):
        found = [row[column] for row in table(program, format, "score", model, path, "--level", level)]
        assert [name for name in found if name != "<eos>"] == words
    assert len(table(program, format, "score", model, path, "--level", "sentence")) == len(lines)
    found = [row["token"] for row in table(program, format, "tokenize", "--with", model, path, "--level", "token")]
    assert [name for name in found if name != "<eos>"] == words
    found = [row["text"] for row in table(program, format, "tokenize", "--with", model, path)]
    assert found == [" ".join([*line.split(), "<eos>"]) for line in lines]
    odd = text('"x" "y\n"x"\n', "odd.txt")
    found = table(program, format, "tokenize", "--with", model, odd, "--level", "oovs")
    assert found == [{"count": "2", "oov": '"x"'}, {"count": "1", "oov": '"y'}]


@pytest.mark.parametrize("format", SEPARATORS)
def test_rows_of_pairs_and_lists_are_read_with_their_texts(program, fake, text, format):
    pairs = [("the cat", '"'), ('"the" cat', 'the "cat"'), ("a,b", '"a')]
    records = [{"sentence_good": good, "sentence_bad": bad, "UID": bad} for good, bad in pairs]
    path = text("".join(f"{json.dumps(record)}\n" for record in records), "pairs.jsonl")
    found = table(program, format, "pairs", fake, path, "--rows")
    assert [(row["good"], row["bad"]) for row in found] == pairs
    assert [row["uid"] for row in table(program, format, "pairs", fake, path, "--by", "uid")][:-1] == [
        bad for _, bad in pairs
    ]
    rows = [("utterance", "am", "text"), *(("u1", "1", good) for good, _ in pairs), ("u2", "1", '"')]
    lists = text("".join(f"{row_writer(format)(row)}\n" for row in rows), "lists")
    found = table(program, format, "rescore", fake, lists)
    assert [(row["utterance"], row["text"]) for row in found] == [(row[0], row[2]) for row in rows[1:]]
    best = program("rescore", fake, lists, "--best", "--format", format).out
    assert default_rows(best, format)[1] == ["u2", '"']


def test_the_raw_form_has_a_cell_per_tab(program, fake, text):
    path = text('the "\n')
    rows = program("tokenize", "--with", fake, path, "--level", "oovs", "--format", "raw").out
    assert rows == 'count\toov\n1\t"\n'
    rows = program("score", fake, path, "--level", "word", "--columns", "word", "--format", "raw").out
    assert rows == 'word\nthe\n"\n<eos>\n'
    assert program("rescore", fake, text('u1\t"a\n'), "--format", "raw", "--best").out == 'u1\t"a\n'
