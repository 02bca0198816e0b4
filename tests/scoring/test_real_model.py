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


def test_document_scores_equal_the_evaluation_of_the_run(scorer, tiny_run, tiny_folder):
    expected = keraslm.evaluate(tiny_run, tiny_folder / "held-out.txt")
    found = summarize(scorer.score_lines(HELD_OUT, "document"))
    assert found.nats == pytest.approx(expected.nats, rel=1e-4)
    assert scorer.perplexity(HELD_OUT, "document") == pytest.approx(expected.perplexity, rel=1e-4)
    for name in ("lines", "words", "tokens", "oovs"):
        assert getattr(found, name) == getattr(expected, name) > 0


def test_sentence_scores_are_independent_of_the_batch(scorer, tiny_folder):
    lines = (tiny_folder / "train.txt").read_text(encoding="utf-8").split("\n")[:-1]
    together = scorer.logprobs(lines)
    for line, found in zip(lines, together, strict=True):
        np.testing.assert_allclose(found, scorer.logprobs([line])[0], atol=1e-5)
