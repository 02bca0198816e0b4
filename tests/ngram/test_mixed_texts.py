"""Mixtures of texts after a prefix, in tables and by region."""

from __future__ import annotations

import csv
import io

import pytest

import keraslm
from keraslm.errors import UsageError
from keraslm.ngram.mixed import MixedScorer
from keraslm.report.options import ScoreOptions
from keraslm.report.table_input import TableInput
from keraslm.report.writer import write_records
from keraslm.scoring.texts import Ends, score_texts
from keraslm.scoring.words import word_scores
from keraslm.text.files import TextFile
from keraslm.text.vocabulary import train_tokenizer
from tests.ngram.test_mixed import KINDS, LINES, NGRAM, made


@pytest.fixture(scope="module", params=["word", *KINDS])
def mixed(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "model.arpa").write_text(NGRAM)
    tokenizer = train_tokenizer([*LINES, "the cats sat"] * 3, KINDS.get(request.param) or keraslm.DataConfig())
    return MixedScorer(made(folder / "m.onnx", tokenizer), keraslm.load_ngram(folder / "model.arpa"), 0.25)


def logprobs(mixed, line):
    """Of each word of a line and its end."""
    (found,) = mixed.score_lines([line])
    return [word.logprob for word in word_scores(found, mixed.tokenizer)]


@pytest.mark.parametrize("eos", [True, False])
def test_scores_after_a_prefix_are_those_of_the_words_of_the_joined_line(mixed, eos):
    pairs = [("the cat", "sat"), ("the", "bird zebra"), ("", "the cat"), ("the bird ", "cat sat")]
    for (prefix, text), found in zip(pairs, score_texts(mixed, pairs, Ends(eos=eos)), strict=True):
        expected = logprobs(mixed, f"{prefix.strip()} {text}".strip())[len(prefix.split()) :]
        expected = expected if eos else expected[:-1]
        (line,) = found.lines
        assert [word.word for word in word_scores(line, mixed.tokenizer)] == text.split() + ["<eos>"] * eos
        assert [word.logprob for word in word_scores(line, mixed.tokenizer)] == pytest.approx(expected, abs=1e-5)
        assert found.logprob == pytest.approx(sum(expected), abs=1e-5)
    with pytest.raises(UsageError, match="begins each line with <s>"):
        mixed.score_lines(["the"], bos=False)


def test_regions_and_sums_of_a_table(mixed, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text\nthe cat | sat the | bird\n")
    rows = {}
    for level in ("region", "word", "sentence"):
        out = io.StringIO()
        options = {"level": level, "format": "csv", "context": "document", "columns": ("logprob",)}
        table = TableInput("csv", "text", region_separator="|")
        write_records(mixed, [TextFile(path)], ScoreOptions(**options, table=table), out)
        rows[level] = [float(row["logprob"]) for row in csv.DictReader(io.StringIO(out.getvalue()))]
    own = logprobs(mixed, "the cat sat the bird")
    assert rows["word"] == pytest.approx(own, abs=1e-5)
    assert rows["region"] == pytest.approx([own[0] + own[1], own[2] + own[3], own[4], own[5]], abs=1e-5)
    assert rows["sentence"] == pytest.approx([sum(own)], abs=1e-5)


@pytest.mark.parametrize("eos", [True, False])
def test_sets_after_prefixes(mixed, eos):
    sets = [[("the cat", "sat"), ("the cat", "bird")], [], [("the\nbird", "sat"), "the cat"]]
    flat = [text for own in sets for text in own]
    for context in ("sentence", "document"):
        expected = iter(score_texts(mixed, flat, Ends(eos=eos), context))
        found = keraslm.score_sets(mixed, sets, eos=eos, context=context)
        for own, texts in zip(found, sets, strict=True):
            assert [line.logprob for line in own] == pytest.approx([next(expected).logprob for _ in texts], abs=1e-5)
