import math

import numpy as np
import pytest

from keraslm.errors import TextError
from keraslm.evaluation import reader
from keraslm.evaluation.evaluate import evaluate_run
from keraslm.evaluation.reader import load_model
from keraslm.runs.weights import read_weights
from keraslm.text.files import TextFile
from tests.reference.language_model import language_model
from tests.reference.testtime import outputs
from tests.support.words import encode_text


@pytest.fixture
def valid(config):
    return TextFile(config.data.valid[0])


@pytest.mark.parametrize("num_steps", [1, 7, 50, 10_000])
def test_costs_equal_numpy_with_any_num_steps(trained_run, valid, monkeypatch, num_steps):
    monkeypatch.setattr(reader, "NUM_STEPS", num_steps)
    nats = outputs(trained_run, encode_text(trained_run.tokenizer, valid))[2]
    found = evaluate_run(trained_run, valid)
    assert found.nats == pytest.approx(nats.sum(), rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(nats.mean()), rel=1e-5)
    assert found.counting == "every token" and found.predicted == found.tokens == nats.size


def test_tutorial_counting_equals_the_validation_of_the_training(trained_run, valid, config):
    found = evaluate_run(trained_run, valid, tutorial=True)
    last = trained_run.epochs()[-1]
    assert found.perplexity == pytest.approx(last["val_perplexity"], rel=1e-4)
    rows = found.tokens // config.train.batch_size
    assert found.predicted == (rows - 1) // config.train.num_steps * config.train.num_steps * config.train.batch_size
    assert found.counting == "tutorial" and found.predicted < found.tokens


def test_tutorial_counting_excludes_the_oovs_of_its_windows(trained_run, text, config):
    lines = ["word1 word2 word3 word4", "word2 nonsense word1", *["nonsense"] * 20]
    path, rows, steps = text("\n".join(lines) + "\n"), config.train.batch_size, config.train.num_steps
    tokenizer = trained_run.tokenizer
    stream = encode_text(tokenizer, TextFile(path))
    length = len(stream) // rows
    kept = (length - 1) // steps * steps
    table = stream[: rows * length].reshape(rows, length)
    network = load_model(trained_run, rows)
    logits = np.asarray(network.predict_on_batch(table[:, :kept].astype(np.int32)), np.float64)
    targets = table[:, 1 : kept + 1]
    normalised = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    known = -np.take_along_axis(normalised, targets[..., None], -1)[..., 0][targets != tokenizer.unk_id]
    found = evaluate_run(trained_run, TextFile(path), tutorial=True)
    assert found.predicted_oovs == targets.size - known.size < found.oovs
    assert found.perplexity_excluding_oovs == pytest.approx(math.exp(known.mean()), rel=1e-5)
    assert found.bits_per_byte == pytest.approx(found.nats / found.predicted * found.tokens / math.log(2) / found.bytes)
    assert any(row.startswith("predicted OOVs") for row in found.rows())


def test_counts_of_a_text(trained_run, text):
    path = text("word1 word2 nonsense\n\nword3 <unk>\n")
    found = evaluate_run(trained_run, TextFile(path))
    counts = (found.lines, found.words, found.tokens, found.predicted, found.oovs)
    assert counts == (3, 5, 8, 8, 2)
    assert found.text == str(path)
    assert found.to_dict()["oovs"] == 2
    assert repr(found) == f"<Evaluation of {found.text!r}: perplexity {found.perplexity:,.4f} per token>"


def test_an_evaluation_leaves_no_state_behind(trained_run, valid):
    assert evaluate_run(trained_run, valid) == evaluate_run(trained_run, valid)


@pytest.mark.parametrize(
    ("content", "tutorial", "message"),
    [("", False, "0 tokens; there is nothing to evaluate"), ("word1 word2\n", True, "3 tokens are too few")],
)
def test_a_text_that_is_too_short_raises(trained_run, text, content, tutorial, message):
    with pytest.raises(TextError, match=rf"text\.txt: {message}"):
        evaluate_run(trained_run, TextFile(text(content)), tutorial=tutorial)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_load_model_accepts_any_batch_size(trained_run, batch_size):
    ids = np.random.default_rng(0).integers(0, trained_run.tokenizer.vocab_size, (batch_size, 6)).astype(np.int32)
    weights = read_weights(trained_run.weights_path, trained_run.shapes())
    logits, _ = language_model(weights, ids)
    np.testing.assert_allclose(load_model(trained_run, batch_size).predict_on_batch(ids), logits, atol=1e-4)
