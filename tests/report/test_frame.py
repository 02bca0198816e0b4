"""Columns for data frames have the values of the JSON lines that the command prints."""

from __future__ import annotations

import importlib.util
import json
import math

import numpy as np
import pytest

import keraslm
from keraslm.config import DataConfig
from keraslm.errors import ArgumentTypeError, TextError, UsageError
from keraslm.report import options
from keraslm.report.options import DEFAULT_COLUMNS
from keraslm.text.vocabulary import train_tokenizer
from tests.support import fake_model
from tests.support.program import strict_json

LINES = ["the cat sat", "", "zebra  the <unk>", "η \t 🙂 the", "dog <eos> cat", "a\u2028b cat"]
COLUMNS = {
    level: tuple(name for name in options.COLUMNS[level] if name not in ("frequency", "region"))
    for level in ("token", "word", "sentence")
}
SETTINGS = [
    {},
    {"base": "10"},
    {"context": "document"},
    {"unk": "exclude"},
    {"base": "e", "context": "paragraph", "unk": "exclude"},
]
KINDS = {name: type_ for names, type_ in ((("token", "word"), str), (("oov",), bool)) for name in names}
INTEGERS = {"sentence_id", "token_id", "word_id", "id", "rank", "tokens", "oovs", "words", "characters", "bytes"}
INTEGERS |= {"start", "end", "length"}


@pytest.fixture(scope="module")
def bpe(tmp_path_factory):
    tokenizer = train_tokenizer(["the cat sat on the mat"] * 9, DataConfig(tokenizer="bpe", vocab_size=270))
    table = np.log(np.random.default_rng(2).dirichlet(np.ones(tokenizer.vocab_size), tokenizer.vocab_size))
    path = tmp_path_factory.mktemp("bpe") / "m.onnx"
    return keraslm.load(fake_model.write(path, table, fake_model.info_of(tokenizer)))


def printed(program, scorer, text, level, settings) -> list[dict]:
    """What the command prints for the same lines."""
    path = text("".join(f"{line}\n" for line in LINES))
    flags = [part for name, value in settings.items() for part in (f"--{name}", value)]
    (member,) = scorer.session.members
    return [
        strict_json(row)
        for row in program(
            *("score", member.path, path, "--level", level, "--format", "jsonl", *flags),
            *(() if "columns" in settings else ("--columns", ",".join(COLUMNS[level]))),
        ).out.splitlines()
    ]


def rows_of(table: dict) -> list[dict]:
    columns = [value if isinstance(value, list) else value.tolist() for value in table.values()]
    return [dict(zip(table, row, strict=True)) for row in zip(*columns, strict=True)]


def same(value, expected) -> bool:
    if expected is None:
        return isinstance(value, float) and math.isnan(value)
    return type(value) is type(expected) and value == expected


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("level", COLUMNS)
@pytest.mark.parametrize("kind", ["by_history", "bpe"])
def test_all_values_are_those_of_the_json_lines(request, program, text, kind, level, settings):
    scorer = request.getfixturevalue(kind)
    rows = rows_of(scorer.table(LINES, level, columns=COLUMNS[level], **settings))
    expected = printed(program, scorer, text, level, settings)
    assert len(rows) == len(expected) > 0 and list(rows[0]) == list(expected[0]) == list(COLUMNS[level])
    for row, own in zip(rows, expected, strict=True):
        assert all(same(row[name], own[name]) for name in own), (row, own)


def test_words_with_the_space_after_them(program, text, bpe):
    rows = rows_of(bpe.table(LINES, columns=COLUMNS["word"], spaces="after"))
    assert rows == printed(program, bpe, text, "word", {"spaces": "after"})
    assert rows != rows_of(bpe.table(LINES, columns=COLUMNS["word"]))


@pytest.mark.parametrize("level", COLUMNS)
@pytest.mark.parametrize("lines", [LINES, []], ids=["lines", "none"])
def test_columns_are_what_data_frames_take(by_id, lines, level):
    """pandas and polars: a dictionary of lists or one-dimensional arrays of equal lengths."""
    found = by_id.table(lines, level, columns=COLUMNS[level], unk="exclude")
    assert type(found) is dict and len({len(column) for column in found.values()}) == 1
    for name, column in found.items():
        if KINDS.get(name) is str:
            assert type(column) is list and {*map(type, column)} <= {str}
        else:
            wanted = np.bool_ if name == "oov" else np.int64 if name in INTEGERS else np.float64
            assert (type(column), column.ndim, column.dtype) == (np.ndarray, 1, wanted), name


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_data_frame_has_the_same_values(by_id, library):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed here")
    found = by_id.table(LINES, unk="exclude")
    frame = importlib.import_module(library).DataFrame(found)
    assert list(frame.columns) == list(found) and len(frame) == len(found["word"])
    for name, column in found.items():
        np.testing.assert_array_equal(np.asarray(frame[name]), np.asarray(column))


def test_default_columns_and_the_function_of_the_package(by_id):
    for level, names in ((level, DEFAULT_COLUMNS[level]) for level in COLUMNS):
        found = by_id.table(["the cat"], level)
        assert tuple(found) == names
        again = keraslm.table(by_id, iter(["the cat\r\n"]), level=level)
        assert json.dumps(rows_of(found)) == json.dumps(rows_of(again))
    assert list(by_id.table(["the cat"])) == list(DEFAULT_COLUMNS["word"])


def test_the_worked_example(by_id):
    """Token i has probability (i + 1) / 21: <eos> 0, sat 1, the 2, cat 3, dog 4, <unk> 5."""
    found = by_id.table(["the cat", None, "zebra"], columns=["sentence_id", "word", "surprisal", "oov"])
    assert found["sentence_id"].tolist() == [1, 1, 1, 2, 2]
    assert found["word"] == ["the", "cat", "<eos>", "zebra", "<eos>"]
    expected = -np.log2(np.array([3, 4, 1, 6, 1]) / 21)
    np.testing.assert_allclose(found["surprisal"], expected, atol=2e-6)
    assert found["oov"].tolist() == [False, False, False, True, False]


def test_wrong_arguments_are_named(by_id):
    for kind, message, call in (
        (ArgumentTypeError, "`scorer` is 'm.onnx', but a Scorer is", lambda: keraslm.table("m.onnx", ["a"])),
        (ArgumentTypeError, "`texts` is 'the cat', but an iterable of strings", lambda: by_id.table("the cat")),
        (ArgumentTypeError, r"`texts\[1\]` is nan, but a string", lambda: by_id.table(["a", math.nan])),
        (UsageError, "`level` is 'summary', but must be one of token, word", lambda: by_id.table([], "summary")),
        (UsageError, "Unknown column 'rank'. The columns of", lambda: by_id.table([], columns=["rank"])),
        (ArgumentTypeError, "`columns` is 'word', but an iterable", lambda: by_id.table([], columns="word")),
        (UsageError, "`columns` is empty", lambda: by_id.table([], columns=[])),
        (UsageError, "`base` is '3', but must be one of", lambda: by_id.table([], base="3")),
        (UsageError, '`spaces="after"` moves the space', lambda: by_id.table([], "token", spaces="after")),
        (TextError, "a line end inside a line", lambda: by_id.table(["a\nb"])),
        (TypeError, "unexpected keyword argument 'unit'", lambda: by_id.table([], unit="bits")),
    ):
        with pytest.raises(kind, match=message):
            call()


def test_what_a_reading_study_asks_for(by_id, tmp_path):
    counts = tmp_path / "counts.tsv"
    counts.write_text("the\t3\ncat\t1\n")
    columns = ["word", "surprisal", "surprisal_lag1", "length_lag1", "frequency"]
    found = by_id.table(["the cat", "dog"], columns=columns, eos=False, frequencies=counts)
    assert found["word"] == ["the", "cat", "dog"]
    np.testing.assert_array_equal(found["surprisal_lag1"], [np.nan, found["surprisal"][0], np.nan])
    np.testing.assert_array_equal(found["length_lag1"], [np.nan, 3, np.nan])
    np.testing.assert_array_equal(found["frequency"], [750000, 250000, np.nan])
