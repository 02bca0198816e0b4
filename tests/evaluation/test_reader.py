import math

import numpy as np
import pytest

from keraslm.errors import RunError, TextError
from keraslm.evaluation import reader
from keraslm.evaluation.evaluate import evaluate_run
from keraslm.evaluation.reader import load_model
from keraslm.runs.run import Run
from keraslm.runs.weights import read_weights
from keraslm.text.files import TextFile
from tests.reference.language_model import language_model
from tests.reference.testtime import outputs


@pytest.fixture
def valid(config):
    return TextFile(config.data.valid[0])


def nats_by_numpy(run, text):
    return outputs(run, run.tokenizer.encode_text(text))[2]


def test_costs_equal_numpy(trained_run, valid):
    nats = nats_by_numpy(trained_run, valid)
    found = evaluate_run(trained_run, valid)
    assert found.nats == pytest.approx(nats.sum(), rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(nats.mean()), rel=1e-5)
    assert found.counting == "every token" and found.predicted == found.tokens == nats.size


@pytest.mark.parametrize("num_steps", [1, 7, 50, 10_000])
def test_the_result_does_not_depend_on_num_steps(trained_run, valid, monkeypatch, num_steps):
    monkeypatch.setattr(reader, "NUM_STEPS", num_steps)
    assert evaluate_run(trained_run, valid).nats == pytest.approx(nats_by_numpy(trained_run, valid).sum(), rel=1e-5)


def test_tutorial_counting_equals_the_validation_of_the_training(trained_run, valid, config):
    found = evaluate_run(trained_run, valid, tutorial=True)
    last = trained_run.epochs()[-1]
    assert found.perplexity == pytest.approx(last["val_perplexity"], rel=1e-4)
    rows = found.tokens // config.train.batch_size
    assert found.predicted == (rows - 1) // config.train.num_steps * config.train.num_steps * config.train.batch_size
    assert found.counting == "tutorial" and found.predicted < found.tokens


def test_counts_of_a_text(trained_run, tmp_path):
    (tmp_path / "text.txt").write_text("word1 word2 nonsense\n\nword3 <unk>\n")
    found = evaluate_run(trained_run, TextFile(tmp_path / "text.txt"))
    counts = (found.lines, found.words, found.tokens, found.predicted, found.oovs)
    assert counts == (3, 5, 8, 8, 2)
    assert found.text == str(tmp_path / "text.txt")
    assert found.to_dict()["oovs"] == 2
    assert repr(found) == f"<Evaluation of {found.text!r}: perplexity {found.perplexity:,.4f} per token>"


def test_an_evaluation_leaves_no_state_behind(trained_run, valid):
    assert evaluate_run(trained_run, valid) == evaluate_run(trained_run, valid)


def test_an_empty_text_raises(trained_run, tmp_path):
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(TextError, match=r"empty\.txt: 0 tokens; there is nothing to evaluate"):
        evaluate_run(trained_run, TextFile(tmp_path / "empty.txt"))


def test_a_text_too_short_for_tutorial_windows_raises(trained_run, tmp_path):
    (tmp_path / "short.txt").write_text("word1 word2\n")
    with pytest.raises(TextError, match=r"short\.txt: 3 tokens are too few"):
        evaluate_run(trained_run, TextFile(tmp_path / "short.txt"), tutorial=True)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_load_model_takes_any_batch_size(trained_run, batch_size):
    ids = np.random.default_rng(0).integers(0, trained_run.tokenizer.vocab_size, (batch_size, 6)).astype(np.int32)
    weights = read_weights(trained_run.weights_path, trained_run.config.model, trained_run.tokenizer.vocab_size)
    logits, _ = language_model(weights, ids)
    np.testing.assert_allclose(load_model(trained_run, batch_size).predict_on_batch(ids), logits, atol=1e-4)


def test_a_run_without_weights_raises(run_copy, valid):
    (run_copy / "weights.safetensors").unlink()
    with pytest.raises(RunError, match=r"weights\.safetensors: no weights"):
        evaluate_run(Run.open(run_copy), valid)
