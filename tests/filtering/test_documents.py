"""Documents of every format, and those that are none."""

from __future__ import annotations

import gzip

import pytest

from keraslm.errors import TextError, UsageError
from keraslm.filtering.documents import Documents
from keraslm.text.files import TextFile


@pytest.fixture
def read(text):
    """Read documents from files with these contents: places and texts."""

    def call(*contents, name="docs.jsonl", **arguments):
        files = [
            TextFile(text(content, f"{number}{name}"), name=f"{number}") for number, content in enumerate(contents)
        ]
        return [(document.record.where, document.text) for document in Documents(files, **arguments)]

    return call


def test_json_lines(read):
    lines = [
        '\ufeff{"text": "the cat", "n": 1}\r\n',
        "\n",
        ' {"n": 1e999999, "text": "two\\nlines"} \n',
        '{"text": "\u2028日本 \\u00e9"}\n',
        '{"text": null}\n{"text": ""}\n{"text": " \\n\\t "}\n{"n": {"text": "inner"}}\n{}\n',
    ]
    assert read("".join(lines)) == [
        ("0:1", "the cat"),
        ("0:3", "two\nlines"),
        ("0:4", "\u2028日本 é"),
        *((f"0:{number}", "") for number in range(5, 10)),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"txt": "a"}\n', "^0:1: no field 'text'. The fields are: txt."),
        ('{"text": "a"}\n{"text": 3}\n', "^0:2: 'text' is 3, but a text is expected"),
        ('{"text": "a"}\n{"text": ["a"]}\n', "^0:2: 'text' is"),
        ('{"text": "a"}\n{"text": "b"\n', r"^0:2: not a JSON object \("),
        ('{"text": "a"}\n[1]\n', r"^0:2: not a JSON object, but \[1\]"),
        ("the cat\n", r"^0:1: not a JSON object .*If the documents are not JSON Lines, name their `input_format`"),
        ('{"text": "\\ud800"}\n', "^0:1: not a JSON object"),
    ],
)
def test_a_malformed_document_is_named_with_its_line(read, content, words):
    with pytest.raises(TextError, match=words):
        read(content)


def test_the_hint_about_formats_is_for_those_who_named_none(read):
    with pytest.raises(TextError, match=r"\)\.$"):
        read("the cat\n", format="jsonl")
    with pytest.raises(TextError, match=r"0:1:1: byte 0xff is not valid UTF-8 .* read it with U\+FFFD there\.$"):
        read(b"\xff\n")


def test_tables(read):
    content = 'id,body\n1,the cat\n2,\n3,"two\nlines"\n4,"  "\n'
    expected = [("0:2", "the cat"), ("0:3", ""), ("0:4", "two\nlines"), ("0:6", "")]
    assert read(content, name=".csv", field="body") == expected
    assert read(content.replace(",", "\t"), name=".tsv", field="body") == expected
    assert read('id\tbody\n1\t"the\n', format="raw", field="body") == [("0:2", '"the')]
    with pytest.raises(TextError, match=r"no column 'text'. The columns are: id, body"):
        read(content, name=".csv")


def test_lines_of_plain_text(read):
    assert read("the cat\n\n  \nsat\r\n", name=".txt") == [("0:1", "the cat"), ("0:2", ""), ("0:3", ""), ("0:4", "sat")]
    assert read(gzip.compress(b"a\n"), b"b", name=".txt.gz") == [("0:1", "a"), ("1:1", "b")]
    assert read("{}\n", format="text") == [("0:1", "{}")]


def test_paragraphs_of_plain_text(read):
    text = "\n\nthe cat\nsat\n \n\n\ndog\n"
    assert read(text, "cat", name="", paragraphs=True) == [("0:3", "the cat\nsat"), ("0:8", "dog"), ("1:1", "cat")]
    assert read("\n\n", name=".txt", paragraphs=True) == []


@pytest.mark.parametrize("name", [".jsonl", ".jsonl.gz", ".txt", "", ".json"])
def test_an_empty_file_has_no_documents(read, name):
    assert read(b"", name=name) == []


def test_formats_that_contradict_each_other_are_refused(text):
    files = [TextFile(text("", name)) for name in ("a.csv", "b", "c.txt")]
    with pytest.raises(UsageError, match=r"different formats: .*a\.csv \(csv\), .*b \(jsonl\), .*c\.txt \(text\)"):
        Documents(files)
    with pytest.raises(UsageError, match=r"`paragraphs` divides plain text, but the format of .*csv is csv"):
        Documents(files[:1], paragraphs=True)
    with pytest.raises(UsageError, match="`paragraphs` divides plain text"):
        Documents(files[:1], "jsonl", paragraphs=True)
    with pytest.raises(UsageError, match="`input_format` is 'xml', but must be one of auto, text"):
        Documents(files, "xml")
    with pytest.raises(UsageError, match="`field` is empty"):
        Documents(files, "jsonl", field="")
