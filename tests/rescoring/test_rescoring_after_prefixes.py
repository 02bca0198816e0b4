"""n-best lists whose hypotheses are scored after a prefix, or without their end."""

from __future__ import annotations

import numpy as np
import pytest

from keraslm.errors import ArgumentTypeError, TextError, UsageError
from keraslm.rescoring.hypothesis import Hypothesis
from keraslm.rescoring.nbest import read_nbest
from keraslm.rescoring.rescore import rescore
from keraslm.text.files import TextFile

LISTS = "u1\tthe cat\nu1\tthe dog\nu2\tsat\nu2\tthe cat sat\n"
TEXTS = [["the cat", "the dog"], ["sat", "the cat sat"]]


@pytest.fixture
def file(tmp_path):
    def write(content: str, name: str = "lists") -> TextFile:
        (tmp_path / name).write_bytes(content.encode())
        return TextFile(tmp_path / name, name=name)

    return write


def logprobs(found):
    return [each.logprobs for each in found]


@pytest.mark.parametrize("eos", [True, False])
def test_a_file_gives_each_utterance_its_prefix(by_history, file, eos):
    prefixes = file("\ufeffu2\tthe dog sat\r\nu1\r\nu3 cat\r\n", "before")
    found = [*rescore(by_history, file(LISTS), prefixes=prefixes, eos=eos)]
    for own, prefix, texts in zip(found, ("", "the dog sat"), TEXTS, strict=True):
        assert [(each.text, each.prefix) for each in own.hypotheses] == [(text, prefix) for text in texts]
        expected = [by_history.score(text, prefix=prefix, eos=eos) for text in texts]
        assert own.logprobs == pytest.approx(expected, abs=1e-6)
        assert own.parts.words.tolist() == [len(text.split()) for text in texts]  # the prefix does not count
    assert logprobs(rescore(by_history, file(LISTS), prefixes=str(prefixes.path), eos=eos)) == logprobs(found)


@pytest.mark.parametrize("context", ["paragraph", "document"])
def test_the_previous_sentence_ends_before_the_text(by_history, file, context):
    prefixes = file("u1\nu2 the dog sat\n", "before")
    _, found = rescore(by_history, file(LISTS), prefixes=prefixes, context=context)
    for logprob, text in zip(found.logprobs, TEXTS[1], strict=True):
        _, own = by_history.score_lines(["the dog sat", text], "document")
        assert logprob == pytest.approx(own.logprob, abs=1e-6)
    assert found.hypotheses[0].prefix == "the dog sat\n"


def test_the_prefixes_of_json(by_history, file):
    rows = (
        '{"utterance": "u1", "prefix": "the", "hypotheses": [{"text": "cat"}, {"text": "cat", "prefix": "sat"}]}\n'
        '{"utterance": "u2", "text": "dog", "prefix": "the cat\\n"}\n{"utterance": "u3", "text": "dog"}\n'
    )
    found = [
        each for own in rescore(by_history, file(rows), format="jsonl", context="document") for each in own.logprobs
    ]
    texts = [("the", "cat"), ("sat", "cat"), ("the cat\n", "dog"), "dog"]
    assert found == pytest.approx([each.logprob for each in by_history.score_texts(texts)], abs=1e-6)
    for value in ("3", "null", '["a"]'):
        row = f'{{"utterance": "u1", "text": "a", "prefix": {value}}}\n'
        with pytest.raises(TextError, match=r'lists:1: "prefix" is .*, but a string is expected'):
            [*read_nbest(file(row), "jsonl")]


def test_python_data(by_history):
    lists = [[("the", "cat"), "cat", Hypothesis("u", "cat", prefix="sat")]]
    ((found, alone, after),) = logprobs(rescore(by_history, lists))
    expected = [by_history.score("cat", prefix=prefix) for prefix in ("the", "", "sat")]
    assert [found, alone, after] == pytest.approx(expected, abs=1e-6)
    (glued,) = rescore(by_history, [[("th", "e")]], separator="")
    assert glued.logprobs == pytest.approx([by_history.score("the")], abs=1e-6)
    assert np.isfinite(glued.totals).all()


def test_faults(by_history, file):
    def run(rows, prefixes, **named):
        return [*rescore(by_history, file(rows), prefixes=file(prefixes, "before"), **named)]

    with pytest.raises(
        TextError, match=r"lists:3: utterance 'u2' is not in before\. If it has no prefix, add a row with"
    ):
        run(LISTS, "u1 the\n")
    with pytest.raises(TextError, match="before:2: utterance 'u1' comes a second time"):
        run(LISTS, "u1 the\nu1 cat\n")
    row = '{"utterance": "u1", "text": "a", "prefix": "the"}\n'
    with pytest.raises(TextError, match="lists:1: the row has a prefix, and before has one, too; leave out one"):
        run(row, "u1 the\n", format="jsonl")
    with pytest.raises(UsageError, match="`prefixes` is empty"):
        rescore(by_history, [["the"]], prefixes="")
    with pytest.raises(ArgumentTypeError, match=r"`prefixes` is \{\}, but a path is expected"):
        rescore(by_history, [["the"]], prefixes={})
    with pytest.raises(UsageError, match="`context` is 'line'"):
        rescore(by_history, [["the"]], context="line")
