"""Tables and JSON Lines as records, beside what Python's own writers put into them."""

from __future__ import annotations

import csv
import gzip
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm.errors import TextError
from keraslm.text.files import TextFile
from keraslm.text.records import Records, record_format

cells = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=8)


def read(path, format, *more):
    records = Records([TextFile(path), *map(TextFile, more)], format)
    return records.names, [list(record.values) for record in records]


@given(st.lists(st.lists(cells, min_size=2, max_size=2), max_size=5), st.sampled_from(["csv", "tsv", ";"]))
def test_what_python_writes_is_read(tmp_path_factory, rows, kind):
    path = tmp_path_factory.mktemp("t") / "table"
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter={"csv": ",", "tsv": "\t"}.get(kind, kind), lineterminator="\n")
    writer.writerows([["a", "b"], *rows])
    path.write_bytes(buffer.getvalue().encode())
    assert read(path, "tsv" if kind == "tsv" else "csv") == (["a", "b"], rows)


@pytest.mark.parametrize("data", [b'\xef\xbb\xbfa,b\r\n1,"x\r\ny"\r\n', b'a,b\n1,"x\ny"', b'a,b\n\n1,"x\ny"\n\n'])
def test_byte_order_mark_line_ends_and_blank_lines(tmp_path, data):
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    assert read(path, "csv") == (["a", "b"], [["1", "x\ny"]])


def test_a_blank_line_of_one_column_is_a_row(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text\nthe cat\n\nthe dog\n")
    assert read(path, "csv") == (["text"], [["the cat"], [""], ["the dog"]])


def test_raw_tables_keep_quotation_marks(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text('a\tb\n"x\t"y" he said\n')
    assert read(path, "raw") == (["a", "b"], [['"x', '"y" he said']])


def test_json_lines_keep_their_bytes(tmp_path):
    path = tmp_path / "t.jsonl.gz"
    line = '{"id": 1.10, "text": "a\\nb", "big": 123456789012345678901234567890, "x": null} '
    path.write_bytes(gzip.compress(f"\n{line}\n".encode()))
    (record,) = Records([TextFile(path)], "jsonl")
    assert record.line == line and record.where.endswith("t.jsonl.gz:2")
    assert (record.text("text"), record.text("x"), record.value("big")) == ("a\nb", None, json.loads(line)["big"])


def test_several_files_are_one_table(tmp_path):
    first, second, other = (tmp_path / f"{name}.csv" for name in "abc")
    first.write_text("x,y\n1,2\n")
    second.write_text("x,y\n3,4\n")
    other.write_text("y,x\n4,3\n")
    assert read(first, "csv", second) == (["x", "y"], [["1", "2"], ["3", "4"]])
    with pytest.raises(TextError, match=r"c.csv:1: the columns are y, x, but those of .*a.csv are x, y."):
        read(first, "csv", other)


@pytest.mark.parametrize(
    ("format", "data", "message"),
    [
        ("csv", "", "t: empty, but a table begins with a header."),
        ("csv", "a,b\n1\n", "t:2: 1 cells, but the header has 2: a, b."),
        ("csv", "a,b\n1,2\n1,2,3\n", "t:3: 3 cells, but the header has 2: a, b."),
        ("csv", 'a,b\n1,2\n1,"x\ny\nz\n', "t:3: not a row of a table with quoted cells (a quotation mark opens a cell"),
        ("csv", 'a,b\n1,"x" y\n', "t:2: not a row of a table with quoted cells ("),
        ("tsv", 'a\tb\n1\t"x" y\n', 'use `input_format="raw"`'),
        ("raw", "a\tb\n1\n", "t:2: 1 cells, but the header has 2: a, b."),
        ("jsonl", '{"a": 1}\n[1]\n', "t:2: not a JSON object"),
        ("jsonl", '{"a": 1\n', "t:1: not a JSON object"),
    ],
)
def test_a_malformed_table_is_named_with_its_line(tmp_path, format, data, message):
    path = tmp_path / "t"
    path.write_text(data)
    with pytest.raises(TextError) as caught:
        read(path, format)
    assert message in str(caught.value)


def test_a_missing_or_wrong_column(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,a,b\n1,2,3\n")
    records = Records([TextFile(path)], "csv")
    records.check("b", None)
    for name, fault in (("c", "no column 'c'. The columns are: a, a, b."), ("a", "2 of its columns have the name 'a'")):
        with pytest.raises(TextError, match=r"t.csv: ") as caught:
            records.check(name)
        assert fault in str(caught.value)
    path.write_text('{"a": 1, "b": ""}')
    (record,) = Records([TextFile(path)], "jsonl")
    assert record.text("b") is None
    with pytest.raises(TextError, match=r"t.csv:1: 'a' is 1, but a text is expected."):
        record.text("a")
    with pytest.raises(TextError, match=r"t.csv:1: no field 'c'. The fields are: a, b."):
        record.text("c")


def test_the_format_is_that_of_the_name():
    names = ("a.csv", "a.TSV.gz", "b.jsonl.zst", "c.ndjson", "d.txt", "csv", "e.json", "a.csv.txt")
    assert [*map(record_format, names)] == ["csv", "tsv", "jsonl", "jsonl", None, None, None, None]
