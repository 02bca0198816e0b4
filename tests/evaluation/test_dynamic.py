import dataclasses
import hashlib

import numpy as np
import pytest

from keraslm.errors import TextError, UsageError
from keraslm.evaluation import dynamic
from keraslm.evaluation.dynamic import DynamicModel, DynamicSettings, gradient_statistics, tune_dynamic
from keraslm.evaluation.evaluate import evaluate_run
from keraslm.runs.weights import read_weights, write_weights
from keraslm.text.files import TextFile
from tests.reference import dynamic as reference
from tests.reference.differences import central_differences
from tests.support.made_run import make_run
from tests.support.words import encode_text

SETTINGS = DynamicSettings(learning_rate=0.01, decay=0.1, epsilon=1e-3, segment=3, statistics_batch=4)
SIZES = {"units": 5, "embedding_dim": 4, "num_layers": 2, "output_dropout": 0.5, "recurrent_dropout": 0.5}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Random weights, and a configuration with dropout, which evaluation must not use."""
    return make_run(tmp_path_factory.mktemp("dynamic"), **SIZES)


@pytest.fixture(scope="module")
def train_ids(run):
    return ids_of(run, 70, seed=1)


@pytest.fixture(scope="module")
def statistics(run, train_ids):
    return gradient_statistics(run, train_ids, SETTINGS)


@pytest.fixture(scope="module")
def dynamic_model(run):
    return DynamicModel(run, SETTINGS.segment)


def ids_of(run, count, seed):
    return np.random.default_rng(seed).integers(0, run.tokenizer.vocab_size, count).astype(np.int32)


def weights_of(run):
    weights = read_weights(run.weights_path, run.shapes())
    return {name: value.astype(np.float64) for name, value in weights.items()}


def by_numpy(run, ids, settings, squares, starts=None):
    values = settings.learning_rate, settings.decay, settings.epsilon, settings.segment
    return reference.dynamic_nats(weights_of(run), ids, run.tokenizer.eos_id, *values, squares, starts)


def dynamic_nats(run, ids, settings, statistics, context=None):
    return DynamicModel(run, settings.segment, context).nats(ids, settings, statistics)


def test_gradients_of_the_reference_equal_finite_differences(run, train_ids):
    weights, rows = weights_of(run), train_ids[:16].reshape(2, 8)
    arguments = rows[:, :-1], rows[:, 1:], reference.zero_states(weights, 2)
    _, found, _ = reference.window_gradients(weights, *arguments)
    loss = lambda: reference.window_gradients(weights, *arguments)[0].mean()  # noqa: E731
    for name, expected in zip(weights, central_differences(loss, list(weights.values()), 1e-6), strict=True):
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-8, err_msg=name)


def test_statistics_equal_numpy(run, train_ids, statistics):
    weights = weights_of(run)
    expected = reference.statistics(weights, train_ids[:68].reshape(4, 17), SETTINGS.segment)
    assert statistics.keys() == weights.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(statistics[name], value, rtol=1e-4, atol=1e-9, err_msg=name)


def test_statistics_of_a_short_text_use_fewer_rows(run, train_ids):
    found = gradient_statistics(run, train_ids[:9], SETTINGS)
    expected = reference.statistics(weights_of(run), train_ids[:8].reshape(2, 4), SETTINGS.segment)
    np.testing.assert_allclose(found["logits/bias"], expected["logits/bias"], rtol=1e-4)


def test_statistics_of_a_text_shorter_than_a_segment_raise(run, train_ids):
    with pytest.raises(TextError, match="training text: 3 tokens are too few for a segment of 3 and the token after"):
        gradient_statistics(run, train_ids[:3], SETTINGS)


@pytest.mark.parametrize(("count", "decay"), [(60, 0.1), (61, 0.1), (2, 0.1), (40, 3.0)])
def test_costs_equal_numpy(run, dynamic_model, statistics, count, decay):
    """The text ends with a segment, within one, or within the first. A strong decay stops at the trained weights."""
    ids, settings = ids_of(run, count, seed=2), dataclasses.replace(SETTINGS, decay=decay)
    expected = by_numpy(run, ids, settings, statistics)
    np.testing.assert_allclose(dynamic_model.nats(ids, settings, statistics), expected, rtol=1e-4)
    static = by_numpy(run, ids, dataclasses.replace(settings, learning_rate=0.0), statistics)
    assert count == 2 or decay == 3.0 or np.abs(expected - static).max() > 0.1
    roots = np.concatenate([np.sqrt(value).ravel() for value in statistics.values()])
    mean = np.mean([np.sqrt(value).mean() for value in statistics.values()])
    assert (0.1 < np.mean(decay * roots / mean > 1.0) < 0.9) == (decay == 3.0)


def test_each_text_starts_with_the_trained_weights(run, dynamic_model, statistics):
    ids = ids_of(run, 24, seed=5)
    first = dynamic_model.nats(ids, SETTINGS, statistics)
    dynamic_model.nats(ids[::-1], dataclasses.replace(SETTINGS, learning_rate=0.3, decay=0.0), statistics)
    np.testing.assert_array_equal(dynamic_model.nats(ids, SETTINGS, statistics), first)


@pytest.mark.parametrize("segment", [1, 3, 4])
def test_a_learning_rate_of_zero_has_the_plain_costs(run, statistics, tmp_path, segment):
    (tmp_path / "text.txt").write_text("the cat sat on the dog\na mat ran\n\nthe unheard\n")
    text = TextFile(tmp_path / "text.txt")
    settings = dataclasses.replace(SETTINGS, learning_rate=0.0, segment=segment)
    plain = evaluate_run(run, text)
    found = dynamic_nats(run, encode_text(run.tokenizer, text), settings, statistics)
    assert found.dtype == np.float64 and found.shape == (plain.predicted,)
    assert found.sum() == pytest.approx(plain.nats, rel=1e-6)


def test_divergence_has_an_infinite_cost(run, statistics):
    settings = dataclasses.replace(SETTINGS, learning_rate=1e38, decay=0.0)
    nats = dynamic_nats(run, ids_of(run, 50, seed=8), settings, statistics)
    assert nats.shape == (50,) and np.isfinite(nats[:3]).all() and np.isposinf(nats[-40:]).all()
    assert not np.isnan(nats).any()


def test_sentences_start_from_a_zero_state_with_adapted_weights(tmp_path):
    run = make_run(tmp_path, **SIZES, context="sentence")
    eos = run.tokenizer.eos_id
    ids = np.array([3, 4, eos] * 4 + [5, 3, eos] * 3, np.int32)  # each sentence is a segment
    statistics = gradient_statistics(run, np.tile(ids, 3), SETTINGS)
    found = dynamic_nats(run, ids, SETTINGS, statistics)
    expected = by_numpy(run, ids, SETTINGS, statistics, starts=np.arange(len(ids)) % 3 == 0)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert np.abs(found - dynamic_nats(run, ids, SETTINGS, statistics, context="document")).max() > 0.01


@pytest.mark.parametrize(
    "softmax", [{"softmax": "adaptive", "cutoffs": (4,)}, {"softmax": "sampled", "num_sampled": 2}]
)
def test_other_softmaxes_adapt_to_a_text(tmp_path, softmax):
    """The sampled softmax has exact costs: those of the full softmax with the same weights."""
    run = make_run(tmp_path, **SIZES, **softmax)
    ids = np.tile(ids_of(run, 12, seed=9), 40)
    settings = dataclasses.replace(SETTINGS, learning_rate=0.001, decay=0.001)
    found = dynamic_nats(run, ids, settings, gradient_statistics(run, ids, settings)).reshape(40, 12)
    assert found[-1].mean() < 0.85 * found[0].mean()
    if softmax["softmax"] == "sampled":
        (tmp_path / "full").mkdir()
        full = make_run(tmp_path / "full", **SIZES)
        weights = {name: value.astype(np.float32) for name, value in weights_of(run).items()}
        write_weights(full.weights_path, {**weights, "logits/kernel": weights["logits/kernel"].T})
        expected = dynamic_nats(full, ids, settings, gradient_statistics(full, ids, settings))
        np.testing.assert_allclose(found.ravel(), expected, rtol=1e-4)


def test_the_run_folder_does_not_change(tmp_path):
    run = make_run(tmp_path, **SIZES)

    def digests():
        return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in run.path.rglob("*") if p.is_file()}

    before, ids = digests(), ids_of(run, 20, seed=10)
    dynamic_nats(run, ids, SETTINGS, gradient_statistics(run, ids, SETTINGS))
    assert digests() == before


def test_statistics_of_a_different_network_raise(run, dynamic_model, statistics):
    other = {**statistics, "logits/bias": np.ones(3, np.float32)}
    del other["lstm_1/bias"]
    with pytest.raises(UsageError, match=r"do not fit the run: logits/bias, lstm_1/bias are missing, unknown or"):
        dynamic_model.nats(ids_of(run, 5, seed=0), SETTINGS, other)


def test_an_empty_text_raises(dynamic_model, statistics):
    with pytest.raises(TextError, match="0 tokens; there is nothing to evaluate"):
        dynamic_model.nats(np.zeros(0, np.int32), SETTINGS, statistics)


START = DynamicSettings(learning_rate=1e-5, decay=1e-3)
IDS = np.zeros(4000, np.int32)


class Bowl:
    """A cost per token that grows with the square of the logarithmic distance to the best eta and lambda."""

    best = {"learning_rate": 4e-4, "decay": 2e-3}
    diverges_from = np.inf
    seen: list[tuple[DynamicSettings, int]]

    def __init__(self):
        Bowl.seen = []

    def segments(self, ids, settings, statistics):
        cost = 5.0 + sum(0.05 * np.log(getattr(settings, k) / v) ** 2 for k, v in self.best.items())
        if settings.learning_rate > self.diverges_from:
            cost = np.inf
        for done in range(500, len(ids) + 1, 500):
            yield np.full(500, cost)
            Bowl.seen = [*(pair for pair in Bowl.seen if pair[0] != settings), (settings, done)]


def near(value, wanted):
    return max(value / wanted, wanted / value)


def test_tuning_ends_near_the_best_eta_and_lambda():
    found = tune_dynamic(Bowl(), IDS, None, START, lambda line: None)
    assert near(found.learning_rate, 4e-4) < 1.3
    assert near(found.decay, 2e-3) < 1.3
    printed = [float(f"{value:g}") for value in (found.learning_rate, found.decay)]
    assert printed == [found.learning_rate, found.decay]
    assert dataclasses.replace(found, learning_rate=1e-5, decay=1e-3) == START


def test_tuning_logs_each_setting_once(monkeypatch):
    monkeypatch.setattr(dynamic, "TUNED_TOKENS", 3000)
    lines = []
    tune_dynamic(Bowl(), IDS, None, START, lines.append)
    assert lines[0] == "dynamic       tuning on 3,000 tokens"
    assert lines[1].startswith("dynamic       lr 1e-05, decay 0.001: perplexity ")
    assert len(lines) == len(set(lines)) == len(Bowl.seen) + 1 < 20


def test_tuning_abandons_clearly_worse_settings_early():
    lines = []
    tune_dynamic(Bowl(), IDS, None, dataclasses.replace(START, learning_rate=4e-4, decay=2e-3), lines.append)
    assert "perplexity 157.65 after 1,000 tokens, given up" in lines[2]  # exp(5 + 0.05 * ln(3) ** 2)
    assert {done for _, done in Bowl.seen} <= {500, 4000}  # an abandoned setting is not resumed


def test_tuning_moves_away_from_settings_that_diverge(monkeypatch):
    monkeypatch.setattr(Bowl, "diverges_from", 1e-3)
    lines = []
    found = tune_dynamic(Bowl(), IDS, None, dataclasses.replace(START, learning_rate=1.0), lines.append)
    assert lines[1] == "dynamic       lr 1, decay 0.001: diverges"
    assert near(found.learning_rate, 4e-4) < 1.3
