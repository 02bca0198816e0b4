"""Tables, the formats of KenLM and SRILM, options, signature and output files, compared as strings."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import math
import pickle
import re

import numpy as np
import pytest

from keraslm import ScoreOptions, write_scores
from keraslm.errors import UsageError
from keraslm.report import tables
from keraslm.report.options import COLUMNS, DEFAULT_COLUMNS, OF_DISTRIBUTIONS
from keraslm.report.writer import opened_output, signature

# Token i has probability (i + 1) / 21: <eos> 0, sat 1, the 2, cat 3, dog 4, <unk> 5.
LINES = ["the bürd sat", "", "cat"]
P = {"the": 3 / 21, "<unk>": 6 / 21, "sat": 2 / 21, "<eos>": 1 / 21, "cat": 4 / 21}


def written(scorer, lines, **options) -> str:
    out = io.StringIO()
    write_scores(scorer, lines, ScoreOptions(**options), out, name="text.txt")
    return out.getvalue()


def assert_same(found: str, expected: str) -> None:
    """Compare texts; numbers with a point may differ in their last digits, since the model computes in float32."""
    number = re.compile(r"-?\d+\.\d+")
    assert number.sub("#", found) == number.sub("#", expected)
    ours, theirs = ([float(x) for x in number.findall(text)] for text in (found, expected))
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_every_column_of_tokens(by_id):
    entropy = -sum(i / 21 * math.log2(i / 21) for i in range(1, 7))
    rows = written(by_id, LINES, columns=COLUMNS["token"]).splitlines()
    assert rows[0] == "\t".join(COLUMNS["token"])
    tail = f"{entropy:.6f}\t0.000000"
    assert rows[1:] == [
        f"1\t1\tthe\t2\t-1.945910\t2.807355\t4\t{tail}\t0\t0\t3",
        f"1\t2\t<unk>\t5\t-1.252763\t1.807355\t1\t{tail}\t1\t4\t8",
        f"1\t3\tsat\t1\t-2.351375\t3.392318\t5\t{tail}\t0\t9\t12",
        f"1\t4\t<eos>\t0\t-3.044523\t4.392318\t6\t{tail}\t0\t12\t12",
        f"2\t1\t<eos>\t0\t-3.044523\t4.392318\t6\t{tail}\t0\t0\t0",
        f"3\t1\tcat\t3\t-1.658228\t2.392317\t3\t{tail}\t0\t0\t3",
        f"3\t2\t<eos>\t0\t-3.044523\t4.392318\t6\t{tail}\t0\t3\t3",
    ]


def test_every_column_of_words(by_id, tmp_path):
    entropy = -sum(i / 21 * math.log2(i / 21) for i in range(1, 7))
    tail = f"{entropy:.6f}\t0.000000"
    counts = tmp_path / "counts.tsv"
    counts.write_text("word\tcount\nthe\t30\ncat\t10\n")
    columns = COLUMNS["word"][:-1]  # not the region, which only a table has
    found = written(by_id, LINES, level="word", columns=columns, frequencies=str(counts)).splitlines()
    assert found == [
        "\t".join(columns),
        f"1\t1\tthe\t1\t-1.945910\t2.807355\t{tail}\t0\t0\t3\t3\t750000.000000",
        f"1\t2\tbürd\t1\t-1.252763\t1.807355\t{tail}\t1\t4\t8\t4\tnan",
        f"1\t3\tsat\t1\t-2.351375\t3.392318\t{tail}\t0\t9\t12\t3\tnan",
        f"1\t4\t<eos>\t1\t-3.044523\t4.392318\t{tail}\t0\t12\t12\t0\tnan",
        f"2\t1\t<eos>\t1\t-3.044523\t4.392318\t{tail}\t0\t0\t0\t0\tnan",
        f"3\t1\tcat\t1\t-1.658228\t2.392317\t{tail}\t0\t0\t3\t3\t250000.000000",
        f"3\t2\t<eos>\t1\t-3.044523\t4.392318\t{tail}\t0\t3\t3\t0\tnan",
    ]


def test_the_values_of_the_words_before(by_id):
    columns = ("word", "surprisal", "surprisal_lag1", "surprisal_lag2", "length_lag1")
    assert written(by_id, LINES, level="word", columns=columns).splitlines()[1:] == [
        "the\t2.807355\tnan\tnan\tnan",
        "bürd\t1.807355\t2.807355\tnan\t3",
        "sat\t3.392318\t1.807355\t2.807355\t4",
        "<eos>\t4.392318\t3.392318\t1.807355\t3",
        "<eos>\t4.392318\tnan\tnan\tnan",
        "cat\t2.392317\tnan\tnan\tnan",
        "<eos>\t4.392318\t2.392317\tnan\t3",
    ]


def test_the_end_of_each_line_can_be_left_out(by_id):
    whole = written(by_id, LINES, level="word", columns=("sentence_id", "word", "logprob")).splitlines()
    found = written(by_id, LINES, level="word", columns=("sentence_id", "word", "logprob"), eos=False).splitlines()
    assert found == [row for row in whole if "<eos>" not in row]
    sums = written(by_id, LINES, level="sentence", columns=("tokens", "logprob", "characters"), eos=False).splitlines()
    assert sums[1:] == ["3\t-5.550048\t12", "0\t0.000000\t0", "1\t-1.658228\t3"]


def test_every_column_of_sentences(by_id):
    header, first, blank, _ = written(by_id, LINES, level="sentence", columns=COLUMNS["sentence"]).splitlines()
    assert header == "\t".join(COLUMNS["sentence"])
    bits = -math.log2(P["the"] * P["<unk>"] * P["sat"] * P["<eos>"])
    assert first.split("\t") == [
        *("1", "4", "1", "3", "13", "14", "-8.594571", f"{bits:.6f}", "8.5732"),
        *(f"{bits / 4:.6f}", f"{bits / 13:.6f}", f"{bits / 14:.6f}"),
    ]
    assert blank.split("\t")[:6] == ["2", "1", "0", "0", "1", "1"]


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_long_lines_are_written_in_parts(by_history, monkeypatch, at_once):
    lines = ["the cat sat dog", "", "bird"]
    expected = written(by_history, lines, columns=COLUMNS["token"])
    monkeypatch.setattr(tables, "_AT_ONCE", at_once)
    assert written(by_history, lines, columns=COLUMNS["token"]) == expected


@pytest.mark.parametrize(("base", "scale"), [("2", math.log(2)), ("e", 1.0), ("10", math.log(10))])
@pytest.mark.parametrize("level", ["token", "word", "sentence"])
def test_base_applies_to_every_logarithm(by_id, level, base, scale):
    for row in written(by_id, ["the cat"], level=level, base=base, columns=("logprob", "surprisal")).splitlines()[1:]:
        logprob, surprisal = map(float, row.split("\t"))
        assert logprob == -surprisal
    found = written(by_id, ["the"], level="token", base=base, columns=("surprisal", "entropy")).splitlines()[1]
    surprisal, entropy = map(float, found.split("\t"))
    assert surprisal == pytest.approx(-math.log(P["the"]) / scale, abs=1e-6)
    assert entropy == pytest.approx(-sum(i / 21 * math.log(i / 21) for i in range(1, 7)) / scale, abs=1e-6)


def test_unknown_words_can_be_excluded(by_id):
    tokens = written(by_id, LINES, unk="exclude", columns=("token", "logprob")).splitlines()
    assert tokens[2] == "<unk>\tnan" and len(tokens) == 8
    words = written(by_id, LINES, level="word", unk="exclude", columns=("word", "logprob")).splitlines()
    assert words[2] == "bürd\tnan"
    columns = ("perplexity", "bits_per_character")  # the mean cost of a known token, for all four tokens of the line
    row = written(by_id, LINES, level="sentence", unk="exclude", columns=columns).splitlines()[1]
    perplexity, per_character = map(float, row.split("\t"))
    assert per_character == pytest.approx(math.log2(perplexity) * 4 / len("the bürd sat\n"), abs=1e-4)
    sentence = written(by_id, LINES, level="sentence", unk="exclude").splitlines()[1].split("\t")
    logprob = math.log(P["the"] * P["sat"] * P["<eos>"])
    assert sentence[:3] == ["1", "3", "1"]
    assert float(sentence[3]) == pytest.approx(logprob, abs=1e-6)
    assert float(sentence[5]) == pytest.approx(math.exp(-logprob / 3), abs=1e-4)


@pytest.mark.parametrize("level", ["token", "word", "sentence"])
def test_json_lines_equal_the_table(by_id, level):
    columns = tuple(name for name in COLUMNS[level] if name not in ("frequency", "region"))
    table = [row.split("\t") for row in written(by_id, LINES, level=level, columns=columns).splitlines()[1:]]
    objects = [
        json.loads(row) for row in written(by_id, LINES, level=level, columns=columns, format="jsonl").splitlines()
    ]
    assert len(objects) == len(table)
    for row, found in zip(table, objects, strict=True):
        assert tuple(found) == columns
        for cell, (name, value) in zip(row, found.items(), strict=True):
            if name == "oov":
                assert value is (cell == "1")
            else:
                assert value == (type(value)(cell) if not isinstance(value, float) else pytest.approx(float(cell)))


def test_nan_is_null_in_json(by_id):
    (row,) = (r for r in written(by_id, LINES, unk="exclude", format="jsonl").splitlines() if "unk" in r)
    assert json.loads(row)["logprob"] is None


def test_a_word_cannot_break_a_row(by_id):
    rows = written(by_id, ["the\x0bcat\x1f\u2028dog"], level="word").split("\n")
    assert [row.split("\t")[2] for row in rows[1:-1]] == ["the", "cat\x1f", "dog", "<eos>"]


def test_kenlm_writes_words_totals_and_the_summary(by_id):
    total, known = 0.845098 + 0.544068 + 1.0211893 + 3 * 1.3222193 + 0.7201593, 6
    assert_same(
        written(by_id, LINES, format="kenlm"),
        "the=3 2 -0.845098\tbürd=0 3 -0.544068\tsat=2 4 -1.0211893\t</s>=1 5 -1.3222193\tTotal: -3.7325747 OOV: 1\n"
        "</s>=1 2 -1.3222193\tTotal: -1.3222193 OOV: 0\n"
        "cat=4 2 -0.7201593\t</s>=1 3 -1.3222193\tTotal: -2.0423787 OOV: 0\n"
        f"Perplexity including OOVs:\t{10 ** (total / 7)}\n"
        f"Perplexity excluding OOVs:\t{10 ** ((total - 0.544068) / known)}\n"
        "OOVs:\t1\n"
        "Tokens:\t7\n",
    )


def test_srilm_writes_words_totals_and_the_summary(by_id):
    rows = [
        "the bürd sat",
        "\tp( the | <s> ) \t= [2gram] 0.1428571 [ -0.845098 ]",
        "\tp( <unk> | the ...) \t= [OOV] 0 [ -inf ]",
        "\tp( sat | <unk> ...) \t= [4gram] 0.0952381 [ -1.021189 ]",
        "\tp( </s> | sat ...) \t= [5gram] 0.04761905 [ -1.322219 ]",
        "1 sentences, 3 words, 1 OOVs",
        "0 zeroprobs, logprob= -3.188507 ppl= 11.55675 ppl1= 39.28741",
    ]
    found = written(by_id, ["the bürd sat", "cat"], format="srilm", level="word", unk="exclude")
    assert_same("\n".join(found.split("\n")[:7]), "\n".join(rows))


@pytest.mark.parametrize("format", ["kenlm", "srilm"])
def test_formats_of_other_tools_have_words_for_both_levels(by_id, format):
    assert written(by_id, LINES, format=format, level="token") == written(by_id, LINES, format=format, level="word")


@pytest.mark.parametrize("format", ["tsv", "jsonl", "kenlm", "srilm"])
@pytest.mark.parametrize("level", ["token", "word", "sentence"])
def test_rows_are_written_while_the_text_is_read(by_id, format, level):
    class EnoughError(Exception):
        pass

    class Reader(io.StringIO):
        def write(self, row):
            super().write(row)
            if self.getvalue().count("\n") > 30:
                raise EnoughError
            return 0

    out = Reader()
    with pytest.raises(EnoughError):
        write_scores(by_id, itertools.repeat("the cat"), ScoreOptions(level=level, format=format), out)


def test_watchers_see_each_line_with_its_distributions(by_id):
    seen = []
    write_scores(by_id, LINES, ScoreOptions(level="summary"), io.StringIO(), watchers=[seen.append])
    assert [line.text for line in seen] == LINES
    assert all(line.ranks is not None and line.entropies is not None for line in seen)


def test_signature_names_model_tokenizer_and_settings(by_id):
    found = dict(part.split(":") for part in signature(by_id, ScoreOptions(context="document", base="10")).split("|"))
    assert found.keys() == {"model", "tokenizer", "context", "base", "unk", "spaces", "keraslm"}
    assert by_id.session.digest.startswith(found["model"]) and len(found["model"]) == 12
    assert (found["context"], found["base"]) == ("document", "10")
    assert dict(p.split(":") for p in signature(by_id, ScoreOptions(format="kenlm")).split("|"))["base"] == "10"


def test_summary_has_its_signature_on_request(by_id):
    assert written(by_id, LINES, level="summary", signature=True).splitlines()[-1].startswith("signature  ")
    values = json.loads(written(by_id, LINES, level="summary", format="jsonl", signature=True))
    assert values["signature"] == signature(by_id, ScoreOptions(level="summary", format="jsonl", signature=True))
    assert "signature" not in written(by_id, LINES, level="summary")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "page"}, "`level` is 'page', but must be one of token, word, region, sentence, summary."),
        ({"format": "xml"}, "`format` is 'xml', but must be one of tsv, csv, raw, jsonl, kenlm, srilm."),
        ({"base": "3"}, "`base` is '3', but must be one of 2, e, 10."),
        ({"lines_ahead": 0}, "`lines_ahead` is 0, but must be at least 1."),
        ({"columns": ("word",)}, "Unknown column 'word'. The columns of `level=\"token\"` are: sentence_id, token_id"),
        ({"level": "word", "columns": ("rank",)}, "Unknown column 'rank'. The columns of `level=\"word\"` are: "),
        ({"format": "kenlm", "columns": ("token",)}, 'columns of a table; `format="kenlm"` has none.'),
        ({"level": "summary", "columns": ("token",)}, '`level="summary"` has none.'),
        ({"level": "summary", "base": "2"}, "A summary is always in nats and bits: leave out `base`"),
        ({"format": "srilm", "base": "e"}, '`format="srilm"` is always in base 10: leave out `base="e"`.'),
        ({"format": "kenlm", "unk": "exclude"}, '`format="kenlm"` gives perplexity with and without OOVs'),
        ({"spaces": "after"}, '`spaces="after"` moves the space between two words: it needs `level="word"`.'),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(UsageError) as caught:
        ScoreOptions(**options)
    assert message in str(caught.value)


def test_options_can_be_pickled():
    options = ScoreOptions(level="word", base="2", spaces="after")
    assert pickle.loads(pickle.dumps(options)) == options
    assert {*itertools.chain(*DEFAULT_COLUMNS.values())} <= {*itertools.chain(*COLUMNS.values())}
    assert {*COLUMNS["token"]} >= OF_DISTRIBUTIONS


def test_output_file_appears_when_complete(tmp_path):
    path = tmp_path / "scores.tsv"
    with opened_output(path) as out:
        out.write("a\u2028b\n")
        assert not path.exists()
    assert path.read_bytes() == "a\u2028b\n".encode()
    assert [p.name for p in tmp_path.iterdir()] == ["scores.tsv"]


def test_gzip_output_is_reproducible(tmp_path):
    found = []
    for name in ("a.tsv.gz", "b.tsv.gz"):
        with opened_output(tmp_path / name) as out:
            out.write("row\n" * 1000)
        found.append((tmp_path / name).read_bytes())
    assert found[0] == found[1] and gzip.decompress(found[0]) == b"row\n" * 1000


def test_sums_are_float64(by_id):
    (row,) = written(by_id, ["the " * 3000], level="sentence").splitlines()[1:]
    one = float(np.float32(math.log(3 / 21)))
    assert float(row.split("\t")[3]) == pytest.approx(3000 * one + float(np.float32(math.log(1 / 21))), abs=2e-6)
