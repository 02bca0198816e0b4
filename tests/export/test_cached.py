"""The neural cache over the file of a run has the perplexity of `keraslm evaluate` over the run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import keraslm
from keraslm.config import CONTEXTS
from keraslm.system.backend import select_backend
from keraslm.system.processes import Workers
from tests.support.made_run import make_run
from tests.support.tiny import text_lines

TOKENIZERS = {"word": {}, "char": {"tokenizer": "char"}, "bpe": {"tokenizer": "bpe", "vocab_size": 280}}
LINES = [*text_lines(12, seed=3), "", "the cat <eos> the dog", "<unk> the zebra", "", "", *text_lines(4, seed=4)]


def converter():
    """Converts several runs in one process; `export` would start one for each."""
    select_backend("tensorflow")
    from keraslm_export.convert import convert

    return lambda runs: [convert(keraslm.load_run(run), output) for run, output in runs]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run per tokenizer, beside its model.onnx."""
    made = {}
    for name, fields in TOKENIZERS.items():
        fields = {"units": 8, "embedding_dim": 6, "num_layers": 2} | fields
        made[name] = make_run(tmp_path_factory.mktemp(name), text_lines(150, seed=1), **fields)
    with Workers(1, converter) as workers:
        workers.submit([(run.path, run.path.parent / "model.onnx") for run in made.values()]).result()
    return made


@pytest.fixture(scope="module", params=TOKENIZERS)
def made(runs, request) -> tuple[keraslm.Run, Path, Path]:
    """A run, its model file and a text."""
    run = runs[request.param]
    text = run.path.parent / "text.txt"
    text.write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    return run, run.path.parent / "model.onnx", text


@pytest.mark.parametrize("context", CONTEXTS)
def test_one_parameter_given_and_one_tuned(made, context):
    run, model, text = made
    options = {"cache_theta": 1.5, "cache_window": 30}
    (expected,) = keraslm.evaluate(run, text, context=context, neural_cache=True, tune_on=text, **options).variants
    tuned = keraslm.tune_cache(model, text, context, **options)
    assert (tuned.cache_theta, tuned.cache_lambda) == (1.5, expected.parameters["lambda"])
    assert tuned.perplexity == pytest.approx(expected.perplexity, rel=1e-4)
    scorer = keraslm.with_cache(model, cache_lambda=tuned.cache_lambda, **options)
    for how in ({"lines_ahead": 1}, {}, {"distributions": True}):
        found = keraslm.summarize(scorer.score_lines(LINES, context, **how))
        assert found.nats == pytest.approx(expected.nats, rel=1e-5)
    if context != "sentence":
        assert found.perplexity < 0.99 * keraslm.load(model).perplexity(LINES, context)


def test_both_parameters_tuned(made, program):
    run, model, text = made
    (expected,) = keraslm.evaluate(run, text, context="document", neural_cache=True, tune_on=text).variants
    found = keraslm.tune_cache(model, text, "document")
    assert (found.cache_theta, found.cache_lambda) == (expected.parameters["theta"], expected.parameters["lambda"])
    flags = ["--context", "document", "--neural-cache", "--cache-tune", text]
    outcome = program("score", model, text, "--level", "summary", "--json", *flags)
    assert json.loads(outcome.out)["perplexity"] == pytest.approx(expected.perplexity, rel=1e-4)


def test_sums_of_words_are_those_of_their_tokens(made):
    _, model, _ = made
    scorer = keraslm.with_cache(model, 1.5, 0.2)
    for line in scorer.score_lines(LINES, "document"):
        words = keraslm.word_scores(line, scorer.tokenizer)
        assert sum(word.logprob for word in words) == pytest.approx(line.logprob, rel=1e-9)
    probabilities = np.exp(scorer.next_logprobs(scorer.advance_all(scorer.begin(), line.ids)[1]))
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
