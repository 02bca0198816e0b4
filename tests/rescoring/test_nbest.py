"""n-best lists: reading, faults with their place, and the rows that are written."""

from __future__ import annotations

import csv
import gzip
import json
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm.errors import TextError, UsageError
from keraslm.rescoring.nbest import best_row, read_nbest, scored_rows
from keraslm.text.files import TextFile
from keraslm.text.rows import cells_of, row_writer

TSV = "u1\t-1.50\t2e1\tthe cat\nu1\t-2\t+3\t\nu2\t0\t0\t the  cat \n"
KALDI = "utt-a-1 the cat\nutt-a-2\nutt-b-1 dog\n"
NESTED = '{"utterance": "u1", "speaker": 3, "hypotheses": [{"text": "a", "scores": {"am": -1, "lm": 2.5}}, ' + (
    '{"text": "日本", "scores": {"lm": 1, "am": -3}}]}\n'
)
FLAT = (
    '{"utterance": "u1", "text": "a", "scores": {"am": -1}}\n{"utterance": "u1", "text": "", "scores": {"am": 1e5}}\n'
)


@pytest.fixture
def file(tmp_path):
    """Write a text and open it."""

    def write(content: str | bytes, name: str = "lists") -> TextFile:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return TextFile(path, name=name)

    return write


def shape(utterances):
    return [[(each.utterance, each.text, each.scores) for each in utterance] for utterance in utterances]


def rows(utterances, format, **named):
    """The rows of utterances whose hypotheses have the scores -1, -2, ..."""
    scored = ((utterance, [-1.0 - n for n in range(len(utterance))]) for utterance in utterances)
    return "".join(f"{row}\n" for each, scores in scored for row in scored_rows(each, scores, format, **named))


def test_tab_separated_rows(file):
    assert shape(read_nbest(file(TSV))) == [
        [("u1", "the cat", (-1.5, 20.0)), ("u1", "", (-2.0, 3.0))],
        [("u2", " the  cat ", (0.0, 0.0))],
    ]
    assert shape(read_nbest(file("u1\ta\nu1\tb\n"))) == [[("u1", "a", ()), ("u1", "b", ())]]


def test_a_header_names_the_scores(file):
    ((first,),) = read_nbest(file("utterance\tam\tlm\ttext\nu1\t1\t2\ta\n"))
    assert (first.names, first.scores, first.where) == (("am", "lm"), (1.0, 2.0), "lists:2")


def test_kaldi_rows_and_costs(file):
    am, lm = file("utt-a-1 10.5\nutt-a-2\t11\nutt-b-1 -1\n", "am"), file("utt-a-1 1\nutt-a-2 2\nutt-b-1 3\n", "lm")
    assert shape(read_nbest(file(KALDI), "kaldi", scores=[am, lm])) == [
        [("utt-a", "the cat", (-10.5, -1.0)), ("utt-a", "", (-11.0, -2.0))],
        [("utt-b", "dog", (1.0, -3.0))],
    ]


def test_json_with_one_utterance_or_one_hypothesis_per_line(file):
    assert shape(read_nbest(file(NESTED), "jsonl")) == [[("u1", "a", (-1.0, 2.5)), ("u1", "日本", (-3.0, 1.0))]]
    assert shape(read_nbest(file(FLAT), "jsonl")) == [[("u1", "a", (-1.0,)), ("u1", "", (1e5,))]]


def test_names_may_be_integers_and_stay_integers(file):
    nested = '{"utterance": 17, "hypotheses": [{"text": "a"}, {"text": "b"}]}\n'
    flat = '{"utterance": 3, "text": "a"}\n{"utterance": 3, "text": "b"}\n{"utterance": "4", "text": "c"}\n'
    assert shape(read_nbest(file(nested), "jsonl")) == [[("17", "a", ()), ("17", "b", ())]]
    assert json.loads(rows(read_nbest(file(nested), "jsonl"), "jsonl"))["utterance"] == 17
    written = rows(read_nbest(file(flat), "jsonl"), "jsonl").splitlines()
    assert [json.loads(row)["utterance"] for row in written] == [3, 3, "4"]
    found = [best_row(own[0], 0.0, "jsonl") for own in read_nbest(file(flat), "jsonl")]
    assert [json.loads(row)["utterance"] for row in found] == [3, "4"]


def test_compression_and_line_ends_do_not_matter(file):
    expected = shape(read_nbest(file(TSV)))
    for content in (gzip.compress(TSV.encode()), TSV.replace("\n", "\r\n"), TSV[:-1], "\ufeff" + TSV):
        assert shape(read_nbest(file(content))) == expected


def test_every_row_gets_one_more_score(file):
    assert rows(read_nbest(file(TSV)), "tsv") == (
        "u1\t-1.50\t2e1\t-1.000000\tthe cat\nu1\t-2\t+3\t-2.000000\t\nu2\t0\t0\t-1.000000\t the  cat \n"
    )
    assert rows(read_nbest(file(KALDI), "kaldi"), "kaldi") == "utt-a-1 1.000000\nutt-a-2 2.000000\nutt-b-1 1.000000\n"
    nested = json.loads(rows(read_nbest(file(NESTED), "jsonl"), "jsonl", name="rnn"))
    assert nested["speaker"] == 3
    assert [each["scores"] for each in nested["hypotheses"]] == [
        {"am": -1, "lm": 2.5, "rnn": -1.0},
        {"lm": 1, "am": -3, "rnn": -2.0},
    ]
    assert rows(read_nbest(file(FLAT), "jsonl"), "jsonl").count("\n") == 2


def test_scored_rows_can_be_read_again(file):
    written = rows(read_nbest(file(TSV)), "tsv")
    assert shape(read_nbest(file(written)))[0][0] == ("u1", "the cat", (-1.5, 20.0, -1.0))
    with pytest.raises(TextError, match="lists:1: a score lm_logprob already exists; choose a different `name`"):
        rows(read_nbest(file(rows(read_nbest(file(FLAT), "jsonl"), "jsonl")), "jsonl"), "jsonl")


cells = st.text(st.characters(exclude_characters="\t\n\r\ufeff", exclude_categories=["Cs"]), max_size=5)
table = st.lists(st.tuples(st.floats(-1e6, 1e6), cells), min_size=1, max_size=5)


@given(st.lists(table, max_size=5))
def test_rows_keep_any_text(tmp_path_factory, utterances):
    path = tmp_path_factory.mktemp("lists") / "lists.tsv"
    text = "".join(f"u{n}\t{score}\t{text}\n" for n, each in enumerate(utterances) for score, text in each)
    path.write_text(text, encoding="utf-8", newline="")
    expected = [row.split("\t") for row in text.split("\n")[:-1]]
    readers = {"raw": lambda row: row.split("\t"), "tsv": partial(cells_of, format="tsv")}
    readers["csv"] = lambda row: next(csv.reader([row]))
    for format, read in readers.items():
        if format == "csv":
            path.write_text("".join(f"{row_writer(format)(row)}\n" for row in expected), encoding="utf-8", newline="")
        written = rows(read_nbest(TextFile(path), "raw" if format == "tsv" else format), format).split("\n")[:-1]
        found = [read(row) for row in written]
        assert [[*row[:2], *row[3:]] for row in found] == expected


def test_quoted_cells_are_read_as_pandas_writes_them(file):
    written = 'u1\t1\t"""Stop,"" he said"\nu1\t2\t" the "\nu1\t3\t"\nu1\t4\ta "b" c\n'
    texts = [each.text for each in next(read_nbest(file(written)))]
    assert texts == ['"Stop," he said', '" the "', '"', 'a "b" c']  # quotes that were not needed are text
    (again,) = read_nbest(file(rows(read_nbest(file(written)), "tsv")))
    assert [each.text for each in again] == texts
    with pytest.raises(TextError, match="lists:1: not a row of CSV"):
        list(read_nbest(file('u1,1,"a\n'), "csv"))
    with pytest.raises(TextError, match=r"lists:1: no comma\. A row is: utterance, scores, text, with a comma between"):
        list(read_nbest(file("u1\t1\ta\n"), "csv"))


TSV_FAULTS = [
    ("u1\t1\ta\n\nu2\t1\tb\n", "lists:2: a blank line"),
    ("u1 the cat\n", "lists:1: no tab. A row is: utterance, scores, text, with a tab between them"),
    ("\t1\ta\n", "lists:1: no utterance before the first tab"),
    ("u1\t1\ta\nu1\tb\n", "lists:2: 2 columns, but 3 are expected: utterance, 1 scores, text, as in the first row"),
    ("u1\t1\ta\nu1\t1\tb\tc\n", "lists:2: 4 columns, but 3"),
    ("u1\tone\ta\n", "lists:1: 'one' is not a finite number"),
    ("u1\t\ta\n", "lists:1: '' is not a finite number"),
    ("u1\tnan\ta\n", "lists:1: 'nan' is not a finite number"),
    ("u1\t1\ta\nu2\t1\tb\nu1\t2\tc\n", "lists:3: utterance 'u1' comes a second time"),
]
KALDI_FAULTS = [
    ("utt-1 a\nutt-2 b\nutt-1 a\n", "", "lists:3: key 'utt-1' comes a second time"),
    ("utt a\n", "", "lists:1: key 'utt' is not an utterance, a hyphen and a number"),
    ("-1 a\n", "", "lists:1: key '-1' is not an utterance"),
    ("utt-1 a\n\n", "", "lists:2: a blank line"),
    ("utt-1 a\nutt-2 b\n", "utt-1 3\n", "costs: ends before line 2 of lists. All files must have the same keys"),
    ("utt-1 a\n", "utt-1 3\nutt-2 3\n", "lists: ends before line 2 of costs"),
    ("utt-1 a\n", "utt-2 3\n", "costs:1: key 'utt-2', but lists:1 has 'utt-1'"),
    ("utt-1 a\n", "utt-1 high\n", "costs:1: 'high' is not a finite number"),
    ("utt-1 a\nutu-1 b\nutt-2 c\n", "", "lists:3: utterance 'utt' comes a second time"),
]
JSON_FAULTS = [
    ("the cat\n", "lists:1: not a JSON object"),
    ("[1]\n", "lists:1: not a JSON object, but [1]"),
    ("\n", "lists:1: not a JSON object"),
    ('{"text": "a"}\n', 'lists:1: no "utterance" with its name as a string'),
    ('{"utterance": true, "text": "a"}\n', 'lists:1: no "utterance" with its name as a string or an integer'),
    ('{"utterance": 1.0, "text": "a"}\n', 'lists:1: no "utterance" with its name as a string or an integer'),
    ('{"utterance": "u"}\n', 'lists:1: no "text"'),
    ('{"utterance": "u", "hypotheses": []}\n', 'lists:1: "hypotheses" is not a list with at least one hypothesis'),
    ('{"utterance": "u", "hypotheses": [{"text": "a"}, {}]}\n', 'lists:1: hypothesis 2: no "text"'),
    ('{"utterance": "u", "text": "a", "scores": [1]}\n', 'lists:1: "scores" is not an object'),
    ('{"utterance": "u", "text": "a", "scores": {"am": true}}\n', "lists:1: score 'am': True is not a finite"),
    ('{"utterance": "u", "text": "a", "scores": {"am": NaN}}\n', "lists:1: not a JSON object (NaN is not JSON)"),
    (FLAT + '{"utterance": "u1", "text": "a"}\n', "lists:3: scores none, but the first hypothesis has am"),
    ('{"utterance": "u", "text": "\\ud800"}\n', "lists:1: not a JSON object ('utf-8' codec can't encode"),
]


@pytest.mark.parametrize(
    ("format", "content", "costs", "message"),
    [
        *(("tsv", content, "", message) for content, message in TSV_FAULTS),
        *(("kaldi", *each) for each in KALDI_FAULTS),
        *(("jsonl", content, "", message) for content, message in JSON_FAULTS),
    ],
)
def test_faults_are_reported_with_their_line(file, format, content, costs, message):
    with pytest.raises(TextError) as refused:
        list(read_nbest(file(content), format, scores=[file(costs, "costs")] if costs else []))
    assert message in str(refused.value)


def test_the_number_of_score_columns_can_be_given(file):
    assert shape(read_nbest(file("u1\t1\ta\n"), score_columns=1)) == [[("u1", "a", (1.0,))]]
    with pytest.raises(TextError, match="lists:1: 3 columns, but 4 are expected: utterance, 2 scores, text"):
        list(read_nbest(file("u1\t1\ta\n"), score_columns=2))


def test_arguments_of_a_different_format_are_refused(file):
    with pytest.raises(UsageError, match=r"`format` is 'xml', but must be one of tsv, csv, raw, kaldi, moses, jsonl"):
        read_nbest(file(TSV), "xml")
    with pytest.raises(UsageError, match='`scores` needs `format="kaldi"`'):
        read_nbest(file(TSV), "tsv", scores=[file(TSV)])
    with pytest.raises(UsageError, match='`score_columns` needs `format="tsv"`'):
        read_nbest(file(KALDI), "kaldi", score_columns=1)


def test_best_rows(file):
    (hypothesis, _), _ = read_nbest(file(TSV))
    assert best_row(hypothesis, -1.23456789, "tsv") == "u1\tthe cat"
    assert best_row(hypothesis, -1.23456789, "kaldi") == "u1 the cat"
    ((hypothesis, _),) = read_nbest(file(FLAT), "jsonl")
    assert json.loads(best_row(hypothesis, -1.23456789, "jsonl")) == {
        "utterance": "u1",
        "text": "a",
        "total": -1.234568,
    }
