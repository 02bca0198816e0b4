"""The model file of a trained run, against the run itself."""

from __future__ import annotations

import numpy as np
import pytest

import keraslm
from keraslm import summarize
from tests.support.tiny import HELD_OUT


@pytest.fixture(scope="module")
def scorer(tiny_model):
    return keraslm.load(tiny_model)


@pytest.fixture(scope="module")
def evaluation(tiny_run, tiny_folder):
    return keraslm.evaluate(tiny_run, tiny_folder / "held-out.txt")


def test_document_scores_equal_the_evaluation_of_the_run(scorer, evaluation):
    summary = summarize(scorer.score_lines(HELD_OUT, "document"))
    assert summary.perplexity == pytest.approx(evaluation.perplexity, rel=1e-4)
    assert summary.nats == pytest.approx(evaluation.nats, rel=1e-4)
    assert scorer.perplexity(HELD_OUT, "document") == pytest.approx(evaluation.perplexity, rel=1e-4)


def test_document_counts_equal_those_of_the_run(scorer, evaluation):
    summary = summarize(scorer.score_lines(HELD_OUT, "document"))
    found = (summary.lines, summary.words, summary.tokens, summary.oovs)
    assert found == (evaluation.lines, evaluation.words, evaluation.tokens, evaluation.oovs)
    assert summary.lines == len(HELD_OUT)
    assert summary.oovs > 0


def test_the_model_has_learnt_something(scorer, tiny_run, tiny_folder):
    lines = (tiny_folder / "valid.txt").read_text(encoding="utf-8").split("\n")[:-1]
    assert scorer.perplexity(lines) < 0.9 * tiny_run.tokenizer.vocab_size


def test_sentence_scores_are_independent_of_the_batch(scorer, tiny_folder):
    lines = (tiny_folder / "train.txt").read_text(encoding="utf-8").split("\n")[:-1]
    together = scorer.logprobs(lines)
    for line, found in zip(lines, together, strict=True):
        np.testing.assert_allclose(found, scorer.logprobs([line])[0], atol=1e-5)


def test_state_in_chunks_equals_one_pass(scorer):
    session = scorer.session
    ids = np.random.default_rng(1).integers(0, session.info.vocab_size, (3, 20))
    whole, end = session.run(ids, session.zero_state(3))
    state, parts = session.zero_state(3), []
    for part in np.split(ids, [1, 4, 5, 13], axis=1):
        log_probs, state = session.run(part, state)
        parts.append(log_probs)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-5)
    np.testing.assert_allclose(state.h, end.h, atol=1e-5)
    np.testing.assert_allclose(state.c, end.c, atol=1e-5)


def test_context_changes_the_scores_of_a_document(scorer):
    lines = ["the cat sat", "the cat sat"]
    first, second = scorer.logprobs(lines, "document")
    np.testing.assert_allclose(first, scorer.logprobs(lines)[0], atol=1e-5)
    assert not np.allclose(first, second, atol=1e-5)
