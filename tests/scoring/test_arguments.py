"""Public functions refuse arguments of a wrong type by name and position, and return one result per input."""

from __future__ import annotations

import io
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import keraslm
from keraslm import ModelConfig, Sampling, ScoreOptions, TextCost, kenlm
from keraslm.errors import KeraslmError, UsageError
from keraslm.evaluation.options import Techniques
from keraslm.rescoring.hypothesis import Hypothesis

OBJECT = object()
TEXT = [None, 3, math.nan, b"the", ["the"], {"the": 1}, Path("the"), OBJECT]
TEXTS = [None, 3, math.nan, "the cat", b"the", {"the": 1}, Path("the"), np.array([["the"]]), np.array("the"), OBJECT]
TEXTS += [[None], ["the", math.nan], ("the", 3), [["the"]], [b"the"], [Path("the")]]
LINES = [bad for bad in TEXTS if bad != [None]]
NESTED = [None, 3, "the cat", b"the", {"the": 1}, [None], ["the cat"], [["the"], "cat"], [["the", None]], [[["the"]]]]
PATH = [3, 1.5, b"model", True, ["a"], {"a": 1}, OBJECT]
PATHS = [3, 1.5, b"model", {"a": 1}, OBJECT, [None], ["a", 3], [["a"]]]
INTEGER = ["3", 1.5, math.nan, True, [1], OBJECT]
NUMBER = ["1", True, [1.0], OBJECT]
SWITCH = [None, "no", 1, [True]]
CHOICE = [3, ["a"], b"strict", "other"]
IDS = [None, "12", 1.5, [1.5], [[1.5]], [["a"]], [[None]], [[1], [1, 2]], {"a": 1}, [True], -1, 99]
OTHERS = ["other", 3, None, [], {}]


def calls(scorer, fake):
    """Name of the argument, a call with it, and wrong values."""
    session, options, state = scorer.session, ScoreOptions(), kenlm.State()
    here, model = scorer.begin(), kenlm.Model(str(fake))
    score_files = partial(keraslm.score_files, fake, ["a.txt"], "gone/out", options)
    yield "text", scorer.score, TEXT
    for method in (scorer.logprobs, scorer.perplexity):
        yield "texts", method, TEXTS
        yield "context", partial(method, ["the"]), CHOICE
    yield "lines", lambda bad: list(scorer.score_lines(bad)), LINES
    yield "lines_ahead", lambda bad: scorer.score_lines([], lines_ahead=bad), [*INTEGER, 0]
    yield "distributions", lambda bad: scorer.score_lines([], distributions=bad), SWITCH
    yield "boundary", lambda bad: scorer.score_lines([], boundary=bad), [True, [1, 2], "a", np.ones(3, bool)]
    yield "context", lambda bad: scorer.advance(bad, 1), OTHERS
    yield "context", lambda bad: scorer.advance_all(bad, [1]), OTHERS
    yield "context", scorer.next_logprobs, OTHERS
    yield "oken", lambda bad: scorer.advance(here, bad), IDS
    yield "oken", lambda bad: scorer.advance_all(here, bad), [*IDS, iter([1])]
    yield "session", keraslm.Scorer, OTHERS
    yield "session", lambda bad: keraslm.generate(bad), ["model.onnx", None]
    yield "prompt", partial(keraslm.generate, session), TEXT
    yield "max_tokens", lambda bad: keraslm.generate(session, "", bad), INTEGER
    yield "sampling", lambda bad: keraslm.generate(session, sampling=bad), [0.5, {"top_k": 3}, "greedy"]
    yield "scorer", lambda bad: keraslm.predict(bad, "the"), OTHERS
    yield "text", partial(keraslm.predict, scorer), TEXT
    yield "session", lambda bad: keraslm.predict_from(bad, here), [*OTHERS, scorer]
    yield "context", partial(keraslm.predict_from, session), OTHERS
    for name, bad in (("begun", TEXT), ("count", [*INTEGER, 0]), ("beams", [*INTEGER, 0]), ("lead", [3, b" ", "x"])):
        yield name, lambda value, name=name: keraslm.predict_from(session, here, **{name: value}), bad
    for name in ("stop_at_eos", "allow_unk", "as_text"):
        yield name, lambda bad, name=name: keraslm.generate(session, **{name: bad}), SWITCH
    for name, bad in (("temperature", NUMBER), ("top_k", INTEGER), ("top_p", NUMBER), ("seed", INTEGER)):
        yield name, lambda value, name=name: Sampling(**{name: value}), bad
    for name in ("level", "format", "unk", "context", "spaces", "base"):
        yield name, lambda bad, name=name: ScoreOptions(**{name: bad}), CHOICE
    yield "columns", lambda bad: ScoreOptions(columns=bad), [3, "token", {"token": 1}, [3]]
    yield "lines_ahead", lambda bad: ScoreOptions(lines_ahead=bad), INTEGER
    yield "signature", lambda bad: ScoreOptions(signature=bad), SWITCH
    yield "ids", lambda bad: session.run(bad, session.zero_state(1)), IDS
    yield (
        "arget",
        lambda bad: session.target_logprobs([[1]], bad, session.zero_state(1)),
        [bad for bad in IDS if bad != 99],
    )
    yield "state", lambda bad: session.run([[1]], bad), OTHERS
    yield "rows", session.zero_state, INTEGER
    yield "rows", session.zero_state(2).select, ["a", [5], [0.5], {"a": 1}]
    yield "states", session.zero_state(1).join, [[], None, 3, ["a"]]
    yield "path", keraslm.ModelSession, [*PATH, None]
    yield "threads", lambda bad: keraslm.ModelSession(fake, threads=bad), INTEGER
    yield "rovider", lambda bad: keraslm.ModelSession(fake, bad), CHOICE
    yield "members", keraslm.Ensemble, [None, 3, "model.onnx", [None], [str(fake)], session]
    for name, bad in (("cache_theta", NUMBER), ("cache_lambda", NUMBER), ("cache_window", [*INTEGER, 0, None])):
        given = {"cache_theta": 1.0, "cache_lambda": 0.5}
        yield name, lambda value, name=name, given=given: keraslm.with_cache(scorer, **given | {name: value}), bad
    yield "lines", lambda bad: keraslm.tune_cache(scorer, bad), [*LINES[:3], *LINES[4:6], OBJECT]
    yield "models", keraslm.load, [*PATHS, None, scorer]
    for function in (keraslm.rescore, keraslm.pairs):
        yield "models", lambda bad, function=function: function(bad, [["the", "cat"]]), [*PATHS, None]
        yield "errors", lambda bad, function=function: function(scorer, "a.txt", errors=bad), CHOICE
    yield "scorer", lambda bad: keraslm.score_sets(bad, [["the"]]), [str(fake), None]
    yield "sets", lambda bad: list(keraslm.score_sets(scorer, bad)), NESTED
    yield "texts_ahead", lambda bad: keraslm.score_sets(scorer, [], bad), [*INTEGER, 0]
    yield (
        "lists",
        lambda bad: list(keraslm.rescore(scorer, bad)),
        [*(bad for bad in NESTED if isinstance(bad, list)), [[]]],
    )
    yield "lists", lambda bad: list(keraslm.rescore(scorer, [[Hypothesis("u", bad)]])), []
    for name, bad in (("weight", NUMBER), ("word_penalty", NUMBER), ("mix", NUMBER), ("scales", [3, "12", ["1"]])):
        yield name, lambda value, name=name: keraslm.rescore(scorer, [["the"]], **{name: value}), bad
    yield "interpolate", lambda bad: keraslm.rescore(scorer, [["the"]], interpolate=bad), [1, b"am"]
    yield "base", lambda bad: keraslm.rescore(scorer, [["the"]], base=bad), [10, "3", None]
    for name, bad in (("format", CHOICE), ("score_columns", INTEGER), ("scores", PATHS)):
        yield name, lambda value, name=name: keraslm.rescore(scorer, "a.txt", **{name: value}), bad
    yield "sentences", partial(keraslm.pairs, scorer), [None, 3, b"a", ["ab"], [("a",)], [("a", "b", "c")], {"a": "b"}]
    yield "sentences", partial(keraslm.pairs, scorer), [[("a", None)], [("a", "b"), ("a", 3)], [None]]
    yield "options", lambda bad: keraslm.write_scores(scorer, [], bad, io.StringIO()), OTHERS
    yield "scorer", lambda bad: keraslm.write_scores(bad, [], options, io.StringIO()), [str(fake), None, session]
    yield "lines", lambda bad: keraslm.write_scores(scorer, bad, options, io.StringIO()), LINES
    yield "out", lambda bad: keraslm.write_scores(scorer, [], options, bad), ["scores.tsv", None]
    yield "lines", keraslm.summarize, [None, "the", ["the"], [None], {}]
    yield "models", lambda bad: keraslm.score_files(bad, ["a.txt"], "gone/out", options), [*PATHS, None]
    yield "files", lambda bad: keraslm.score_files(fake, bad, "gone/out", options), [*PATHS, None]
    yield "output", lambda bad: keraslm.score_files(fake, ["a.txt"], bad, options), [*PATH, None]
    yield "options", lambda bad: keraslm.score_files(fake, ["a.txt"], "gone/out", bad), OTHERS
    for name, bad in (("workers", INTEGER), ("errors", CHOICE)):
        yield name, lambda value, name=name: score_files(**{name: value}), bad
    for method in (model.score, model.full_scores, model.perplexity):
        yield "string", lambda bad, method=method: list([method(bad)][0]), [None, 3, ["the"], math.nan]
    yield "state", model.BeginSentenceWrite, OTHERS
    yield "in_state", lambda bad: model.BaseScore(bad, "the", state), OTHERS
    yield "out_state", lambda bad: model.BaseFullScore(state, "the", bad), OTHERS
    yield "word", lambda bad: model.BaseScore(state, bad, kenlm.State()), [None, b"the", 3]


def with_runs():
    """The same for functions of runs; wrong values are refused before Keras is needed."""
    yield "path", keraslm.load_run, [*PATH, None]
    yield "weights", lambda bad: keraslm.load_run("gone", bad), [*CHOICE[1:], True, 0, 1.5]
    for function in (keraslm.load_model, partial(keraslm.evaluate, text="a.txt"), keraslm.export):
        yield "run", function, [*PATH, None]
    yield "batch_size", lambda bad: keraslm.load_model("gone", bad), [*INTEGER, 0]
    yield "runs", lambda bad: keraslm.average(bad, "out"), [bad for bad in [*PATHS, None] if bad != ["a", 3]]
    yield "output", partial(keraslm.average, ["a", "b"]), [*PATH, None]
    yield "last", lambda bad: keraslm.average("a", "out", last=bad), INTEGER
    yield "overwrite", lambda bad: keraslm.average("a", "out", overwrite=bad), SWITCH
    yield "int8", lambda bad: keraslm.export("gone", int8=bad), SWITCH
    yield "tolerance", lambda bad: keraslm.export("gone", tolerance=bad), NUMBER
    yield "config", keraslm.train, ["small", 3, {"units": 3}, []]
    yield "run", lambda bad: keraslm.train(run=bad), PATH
    for name, bad in (("resume", CHOICE), ("overwrite", SWITCH)):
        yield name, lambda value, name=name: keraslm.train(**{name: value}), bad
    yield "name", keraslm.preset, [None, 3, ["small"], {}]
    yield "config", lambda bad: keraslm.build_model(bad, 5, 1), OTHERS
    yield "vocab_size", lambda bad: keraslm.build_model(ModelConfig(), bad, 1), INTEGER
    yield "batch_size", lambda bad: keraslm.build_model(ModelConfig(), 5, bad), INTEGER
    for name, bad in (
        ("mc_dropout", INTEGER),
        ("with_runs", PATHS),
        ("neural_cache", SWITCH),
        ("temperature", [[1], True]),
    ):
        yield name, lambda value, name=name: Techniques(**{name: value}), bad


def check_refused(cases):
    for name, call, wrong in cases:
        for bad in wrong:
            with pytest.raises((TypeError, ValueError)) as caught:
                call(bad)
            assert name in str(caught.value), (name, bad, caught.value)
            assert isinstance(caught.value, KeraslmError) or name in ("string", "word") or "state" in name, (name, bad)


def test_wrong_arguments_of_scoring_are_refused_by_name(by_id, fake):
    check_refused(calls(by_id, fake))


def test_wrong_arguments_of_runs_are_refused_by_name():
    check_refused(with_runs())


def test_wrong_arguments_of_an_evaluation_are_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr("keraslm.api.evaluate.opened_run", lambda run, name: run)
    check_refused([("text", partial(keraslm.evaluate, None), [*PATHS, None, []])])
    check_refused([("text", lambda text: keraslm.evaluate(None, text, valid=True), ["a.txt", []])])
    for name, bad in (("valid", SWITCH), ("tutorial", SWITCH), ("context", CHOICE), ("errors", CHOICE)):
        check_refused([(name, lambda value, name=name: keraslm.evaluate(None, "a.txt", **{name: value}), bad)])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.score(None), "`text` is None, but a string is expected."),
        (lambda s: s.perplexity("a line"), "`texts` is 'a line', but an iterable of strings is expected."),
        (lambda s: s.logprobs(["a", None, "b"]), "`texts[1]` is None, but a string is expected."),
        (lambda s: s.score(["a", "b"]), "`text` is ['a', 'b'], but a string is expected."),
        (lambda s: list(keraslm.score_sets(s, [["a"], ["b", 3]])), "`sets[1][1]` is 3, but a string is expected."),
        (lambda s: keraslm.pairs(s, [("a", "b"), ("c", None)]), "`sentences[1][1]` is None, but a string is expected."),
    ],
)
def test_the_message_names_argument_position_and_value(by_id, call, message):
    with pytest.raises(TypeError) as caught:
        call(by_id)
    assert str(caught.value) == message


def test_a_missing_value_ends_no_loop(by_id):
    with pytest.raises(TypeError):
        list(map(by_id.score, ["the", None, "cat"]))
    scores = by_id.score_lines(iter(["the", "cat", 3]))
    assert [next(scores).text for _ in range(2)] == ["the", "cat"]
    with pytest.raises(TypeError, match=r"`lines\[2\]` is 3"):
        next(scores)


def test_each_input_has_a_result(by_id):
    texts = ["the cat", "", "dog"]
    expected = [by_id.score(text) for text in texts]
    for given in (tuple(texts), iter(texts), (text for text in texts), np.array(texts), np.array(texts, object)):
        assert [line.sum() for line in by_id.logprobs(given)] == pytest.approx(expected)
    assert by_id.score(np.str_("the cat")) == expected[0]
    (found,) = keraslm.score_sets(by_id, iter([iter(texts)]))
    assert [line.logprob for line in found] == pytest.approx(expected)
    (found,) = keraslm.rescore(by_id, ((text for text in texts) for _ in range(1)))
    assert found.logprobs == pytest.approx(expected)
    assert len(keraslm.pairs(by_id, (iter(pair) for pair in [("the", "cat")] * 3)).scores) == 3
    assert keraslm.summarize(iter([])) == TextCost()


def test_missing_values_of_pandas_are_refused(by_id):
    pandas = pytest.importorskip("pandas")
    column = pandas.Series(["the", None, "cat"])
    with pytest.raises(TypeError, match=r"`texts\[1\]` is (nan|None)"):
        by_id.logprobs(column)
    assert len(by_id.logprobs(column.dropna())) == 2
    with pytest.raises(TypeError, match="`texts` is "):
        by_id.logprobs(pandas.DataFrame({"the": ["cat"]}))


@pytest.mark.parametrize("value", ["bar", "line", 3, None])
def test_verbose_is_one_of_the_numbers_of_keras(value, tmp_path):
    with pytest.raises(UsageError, match=r'^`verbose` is .*, but must be "auto", 0, 1 or 2\.$'):
        keraslm.train(run=tmp_path / "run", verbose=value)
    assert not (tmp_path / "run").exists()
