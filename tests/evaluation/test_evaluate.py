"""Temperature, Monte Carlo dropout, ensembles, and the evaluation with all techniques."""

import dataclasses
import math
import shutil

import numpy as np
import pytest

import keraslm
from keraslm.errors import TextError, UsageError
from keraslm.evaluation import ensemble, evaluate, reader
from keraslm.evaluation.ensemble import mean_nats, monte_carlo_nats
from keraslm.evaluation.evaluate import evaluate_run, one_contains_the_other
from keraslm.evaluation.neural_cache import cache_nats, tune_cache
from keraslm.evaluation.reader import Reader
from keraslm.evaluation.result import Variant
from keraslm.evaluation.temperature import GRID, temperature_nats, tempered_nats, tune_temperature
from keraslm.runs.run import Run
from keraslm.runs.weights import read_weights
from keraslm.testtime.grid import finer
from keraslm.testtime.settings import CacheSettings
from keraslm.text.files import TextFile
from tests.reference import testtime as reference
from tests.reference.language_model import log_mean_exp
from tests.support.made_run import make_run, replace_weights
from tests.support.words import encode_text


@pytest.fixture
def ids(trained_run, config):
    return encode_text(trained_run.tokenizer, TextFile(config.data.valid[0]))


@pytest.fixture
def held_out(tmp_path, config):
    """A text different from the validation text of the run."""
    path = tmp_path / "held-out.txt"
    path.write_text("word1 word2 word3 word1 word2\nword7 word1 word2\n\nword3 word1 nonsense\n")
    return path


def without(run, **fields):
    return dataclasses.replace(run, config=run.config.replace(**fields))


@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_temperature_divides_logits_or_log_probabilities(shift):
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(5, 7), scale=3.0), rng.integers(0, 7, 5)
    found = tempered_nats(targets, (logits + shift).astype(np.float32), [0.05, 1.0, 3.0])
    for nats, temperature in zip(found, [0.05, 1.0, 3.0], strict=True):
        np.testing.assert_allclose(nats, reference.tempered_nats(targets, logits, temperature), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("budget", [1, 60, 1 << 20])
def test_costs_at_a_temperature_equal_numpy(trained_run, ids, monkeypatch, budget):
    monkeypatch.setattr(reader, "_LOGPROBS", budget)
    some = ids[:50]
    expected = reference.tempered_nats(some, reference.outputs(trained_run, some)[0], 1.7)
    np.testing.assert_allclose(temperature_nats(Reader(trained_run), some, 1.7), expected, rtol=1e-4)


def test_the_tuned_temperature_equals_a_brute_force_search(trained_run, ids):
    logits = reference.outputs(trained_run, ids)[0]

    def search(grid):
        return int(np.argmin([reference.tempered_nats(ids, logits, heat).sum() for heat in grid]))

    grid = finer(GRID, search(GRID))
    lines = []
    found = tune_temperature(Reader(trained_run), ids, lines.append)
    assert found == grid[search(grid)] != 1.0
    assert len(lines) == 2 and f"{found:g}" in lines[1]


@pytest.mark.parametrize(
    "softmax", [{"softmax": "sampled", "num_sampled": 2}, {"softmax": "adaptive", "cutoffs": (4,)}]
)
def test_monte_carlo_uses_the_full_softmax_and_the_context(tmp_path, softmax):
    run = make_run(tmp_path, num_layers=1, units=4, context="sentence", num_steps=3, **softmax)
    ids = encode_text(run.tokenizer, ["the cat sat on the mat", "a dog ran"] * 3)
    np.testing.assert_allclose(monte_carlo_nats(Reader(run), ids, 2), Reader(run).nats(ids), rtol=1e-5)


def test_monte_carlo_averages_passes_with_different_masks(trained_run, ids, monkeypatch):
    seen = []
    monkeypatch.setattr(ensemble, "mean_nats", lambda rows: seen.append(rows) or mean_nats(rows))
    found = monte_carlo_nats(Reader(trained_run), ids, 3)
    rows = np.concatenate(seen, axis=1)
    assert rows.shape == (3, len(ids)) and {part.shape[1] for part in seen[:-1]} == {trained_run.config.train.num_steps}
    assert all(np.abs(rows[a] - rows[b]).mean() > 0.01 for a, b in [(0, 1), (0, 2), (1, 2)])
    np.testing.assert_allclose(found, -log_mean_exp(-rows), rtol=1e-9)
    plain = Reader(trained_run).nats(ids).mean()
    assert found.mean() == pytest.approx(plain, abs=0.2)
    assert found.mean() < rows.mean()


def test_mean_nats_is_the_cost_of_the_mean_probability():
    members = np.random.default_rng(3).uniform(0.1, 9.0, (4, 11))
    np.testing.assert_allclose(mean_nats(members), -log_mean_exp(-members), rtol=1e-12)
    np.testing.assert_allclose(mean_nats(members[:1]), members[0])


def test_an_ensemble_reports_its_members(trained_run, run_copy, held_out):
    weights = read_weights(trained_run.weights_path, trained_run.shapes())
    replace_weights(Run.open(run_copy), {name: value * 0.5 for name, value in weights.items()})
    found = keraslm.evaluate(trained_run, held_out, with_runs=[run_copy])
    other = keraslm.evaluate(run_copy, held_out)
    first, second, both = found.variants
    assert [v.name for v in found.variants] == [f"run {trained_run.path}", f"run {run_copy}", "ensemble"]
    assert first.nats == pytest.approx(found.nats) and second.perplexity == pytest.approx(other.perplexity)
    ids = encode_text(trained_run.tokenizer, TextFile(held_out))
    members = np.stack([Reader(run).nats(ids) for run in (trained_run, Run.open(run_copy))])
    assert both.nats == pytest.approx(-log_mean_exp(-members).sum())
    assert both.parameters == {"runs": 2} and both.perplexity < math.sqrt(first.perplexity * second.perplexity)


def test_an_ensemble_of_different_tokenizers_raises(trained_run, tmp_path, held_out):
    other = make_run(tmp_path, num_layers=1, units=3)
    message = rf"`with_runs`: {other.path} has a different tokenizer than {trained_run.path} \(10 and 14 tokens"
    with pytest.raises(UsageError, match=message):
        keraslm.evaluate(trained_run, held_out, with_runs=[other.path])


def test_without_techniques_there_are_no_variants(trained_run, held_out):
    found = keraslm.evaluate(trained_run, held_out)
    assert found == evaluate_run(trained_run, TextFile(held_out)) and found.variants == ()
    assert not any("test time" in row or "variants" in row for row in found.rows())
    assert found.to_dict()["variants"] == []


def test_parameters_are_tuned_on_the_validation_text(trained_run, held_out, ids, config):
    lines = []
    found = keraslm.evaluate(
        trained_run, held_out, temperature="tune", neural_cache=True, cache_window=30, log=lines.append
    )
    heat, both = found.variants
    read = Reader(trained_run)
    tuned = tune_temperature(read, ids, lambda _: None)
    assert (heat.name, heat.parameters, heat.tuned) == ("temperature", {"temperature": tuned}, ("temperature",))
    base = temperature_nats(read, ids, tuned)
    settings = tune_cache(read, ids, CacheSettings(30), lambda _: None, base)
    assert both.name == "temperature + neural cache" and both.tuned == ("temperature", "theta", "lambda")
    expected = {"temperature": tuned, "window": 30, "theta": settings.cache_theta, "lambda": settings.cache_lambda}
    assert both.parameters == expected
    text_ids = encode_text(trained_run.tokenizer, TextFile(held_out))
    nats = cache_nats(read, text_ids, settings, temperature_nats(read, text_ids, tuned))
    assert both.nats == pytest.approx(nats.sum()) and both.perplexity == pytest.approx(math.exp(nats.mean()))
    assert heat.tuned_on == both.tuned_on == str(config.data.valid[0])
    assert not heat.optimistic and len(lines) == 4
    assert found.nats == evaluate_run(trained_run, TextFile(held_out)).nats


def test_given_parameters_are_not_tuned(trained_run, held_out):
    found = keraslm.evaluate(
        trained_run, held_out, temperature=1.0, neural_cache=True, cache_theta=0.5, cache_lambda=0.0
    )
    heat, both = found.variants
    assert heat.nats == pytest.approx(found.nats, rel=1e-5) and both.nats == pytest.approx(found.nats, rel=1e-5)
    assert both.parameters == {"temperature": 1.0, "window": 500, "theta": 0.5, "lambda": 0.0}
    assert both.tuned == () and both.tuned_on == "" and both.description.startswith("temperature 1, window 500, theta")


def test_a_variant_tuned_on_the_evaluated_text_is_optimistic(trained_run, tmp_path, config):
    copy = shutil.copy(config.data.valid[0], tmp_path / "copy.txt")
    found = keraslm.evaluate(trained_run, copy, temperature="tune")
    assert found.variants[0].optimistic and found.variants[0].perplexity <= found.perplexity
    assert found.rows()[-1] == "note: 'temperature' was tuned on the evaluated text; this number is optimistic"
    given = {"neural_cache": True, "cache_theta": 0.0, "cache_lambda": 0.0}
    note = keraslm.evaluate(trained_run, copy, temperature="tune", **given).rows()[-1]
    assert note.startswith("note: 'temperature' and 'temperature + neural cache' were tuned on")
    assert note.endswith("; these numbers are optimistic")


def test_a_variant_tuned_on_a_part_of_the_text_or_more_is_optimistic(trained_run, tmp_path, config):
    lines = list(TextFile(config.data.valid[0]))
    for part in (lines[: len(lines) // 2], lines[len(lines) // 2 :]):
        half = tmp_path / "half.txt"
        half.write_text("".join(f"{line}\n" for line in part))
        assert keraslm.evaluate(trained_run, half, temperature="tune").variants[0].optimistic
        whole = keraslm.evaluate(trained_run, config.data.valid[0], temperature="tune", tune_on=half)
        assert whole.variants[0].optimistic


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([2, 3], [1, 2, 3], True),
        ([1, 2, 3, 4], [1, 2], True),
        ([1, 2], [1, 2], True),
        ([1, 1, 2], [1, 1, 1, 2], True),  # starts more than once
        ([1, 3], [1, 2, 3], False),
        ([3, 4], [1, 2, 3], False),
        ([], [1], False),
    ],
)
def test_one_contains_the_other(one, other, expected):
    assert one_contains_the_other(np.array(one, np.uint16), np.array(other, np.int32)) is expected


def test_tune_on_names_a_different_text(trained_run, held_out, config):
    found = keraslm.evaluate(trained_run, config.data.valid[0], temperature="tune", tune_on=held_out)
    assert found.variants[0].tuned_on == str(held_out) and not found.variants[0].optimistic
    assert f"tuned on {held_out}" in found.rows()[-1]


def test_errors_and_encoding_are_those_of_the_text_to_tune_on_too(trained_run, held_out, config, tmp_path):
    utf8, latin = tmp_path / "utf8.txt", tmp_path / "latin.txt"
    utf8.write_text(held_out.read_text() + "caf\u00e9\n", encoding="utf-8")
    latin.write_text(held_out.read_text() + "caf\u00e9\n", encoding="latin-1")
    for valid in (False, True):
        text = None if valid else config.data.valid[0]

        def tuned(path, text=text, valid=valid, **reading):
            found = keraslm.evaluate(trained_run, text, valid=valid, temperature="tune", tune_on=path, **reading)
            return found.variants[0].parameters["temperature"]

        assert tuned(latin, encoding="latin-1") == tuned(utf8)
        assert tuned(latin, errors="replace") == tuned(utf8)  # both words are unknown
        with pytest.raises(TextError, match=r"latin\.txt:.* not valid UTF-8"):
            tuned(latin)


@pytest.mark.parametrize(
    ("valid", "error", "words"),
    [
        (None, UsageError, r"trained without a validation text\. Name a text to tune on with `tune_on`"),
        (("-",), TextError, r"validation text was standard input\. It is the text to tune on; choose a different one"),
        (("gone.txt",), TextError, r"gone\.txt: cannot be read .* It is the text to tune on; choose a different one"),
    ],
)
def test_without_a_validation_text_tuning_raises(trained_run, held_out, valid, error, words):
    with pytest.raises(error, match=words):
        keraslm.evaluate(without(trained_run, valid=valid), held_out, temperature="tune")


def test_a_changed_validation_text_raises(trained_run, held_out):
    ids = encode_text(trained_run.tokenizer, TextFile(held_out))
    words = (
        rf"held-out\.txt is no longer the validation text of {trained_run.path}, which was \S+ tokens with SHA-256 "
        rf"[0-9a-f]{{12}}; this one is {len(ids)} tokens with SHA-256 [0-9a-f]{{12}}\. It is the text to tune on"
    )
    with pytest.raises(TextError, match=words):
        keraslm.evaluate(without(trained_run, valid=(str(held_out),)), held_out, temperature="tune")
    found = keraslm.evaluate(trained_run, held_out, temperature="tune", tune_on=held_out)
    assert found.variants[0].optimistic


@pytest.mark.parametrize("texts", [None, {}], ids=["moved", "of a run without fingerprints"])
def test_a_moved_validation_text_is_recognized_by_its_tokens(trained_run, held_out, config, tmp_path, texts):
    moved = shutil.copy(config.data.valid[0], tmp_path / "moved.txt")
    run = without(trained_run, valid=(str(moved if texts is None else held_out),))
    run = run if texts is None else dataclasses.replace(run, texts=texts)
    assert keraslm.evaluate(run, held_out, temperature="tune").variants[0].tuned_on == run.config.data.valid[0]


def test_a_variant_has_no_infinity_in_json():
    values = Variant("dynamic", math.inf, math.inf, {"learning_rate": 1.0}, ("learning_rate",), "a.txt").to_dict()
    assert values["perplexity"] is None and values["nats"] is None and values["tuned"] == ["learning_rate"]
    assert Variant("mc dropout", 2.0, 1.0).to_dict()["tuned_on"] is None


def test_reprs_are_one_line(trained_run, held_out):
    found = keraslm.evaluate(trained_run, held_out, temperature=1.5)
    (variant,) = found.variants
    value = f"{variant.perplexity:,.4f}"
    assert repr(variant) == f"<Variant 'temperature': perplexity {value} per token; temperature 1.5>"
    assert repr(found).endswith(f"perplexity {found.perplexity:,.4f} per token; temperature {value}>")


def test_tutorial_with_a_technique_raises(trained_run, config):
    with pytest.raises(UsageError, match="`tutorial` reads the text in several rows"):
        keraslm.evaluate(trained_run, config.data.valid[0], tutorial=True, temperature=1.0)


def test_an_unknown_option_raises(trained_run, config):
    with pytest.raises(UsageError, match=r"Unknown option 'heat' of evaluate\. Known options: temperature, "):
        keraslm.evaluate(trained_run, config.data.valid[0], heat=1.0)


@pytest.fixture
def fake_dynamic(monkeypatch):
    """Replace dynamic evaluation by costs from a formula; the list of calls."""
    calls = []

    class DynamicModel:
        def __init__(self, run, segment, context):
            calls.append(("model", segment, context))

        def nats(self, ids, settings, statistics):
            calls.append(("nats", len(ids), statistics))
            return np.full(len(ids), settings.learning_rate)

    def gradient_statistics(run, ids, settings):
        calls.append(("statistics", len(ids)))
        return "statistics"

    def tune_dynamic(model, ids, statistics, settings, log):
        assert isinstance(model, DynamicModel)
        calls.append(("tune", len(ids), statistics))
        return dataclasses.replace(settings, learning_rate=2.0)

    for fake in (gradient_statistics, tune_dynamic, DynamicModel):
        monkeypatch.setattr(evaluate, fake.__name__, fake)
    return calls


def test_dynamic_evaluation_is_tuned_and_the_cache_added(trained_run, held_out, ids, config, fake_dynamic):
    found = keraslm.evaluate(trained_run, held_out, dynamic=True, neural_cache=True, cache_window=30)
    text_ids = encode_text(trained_run.tokenizer, TextFile(held_out))
    train = len(encode_text(trained_run.tokenizer, TextFile(config.data.train[0])))
    assert fake_dynamic == [
        ("statistics", train),
        ("model", 5, "document"),
        ("tune", len(ids), "statistics"),
        ("nats", len(text_ids), "statistics"),
        ("nats", len(ids), "statistics"),
    ]
    alone, both = found.variants
    assert (alone.name, both.name) == ("dynamic", "dynamic + neural cache")
    assert alone.perplexity == pytest.approx(math.exp(2.0)) and alone.tuned == ("lr", "decay")
    read, base = Reader(trained_run), np.full(len(text_ids), 2.0)
    settings = tune_cache(read, ids, CacheSettings(30), lambda _: None, np.full(len(ids), 2.0))
    assert both.nats == pytest.approx(cache_nats(read, text_ids, settings, base).sum())
    assert both.description.startswith("segment 5, window 30; lr 2, decay 0.002, theta ")


def test_the_part_of_the_text_used_for_tuning_is_named(trained_run, held_out, config, fake_dynamic, monkeypatch):
    monkeypatch.setattr(evaluate, "TUNED_TOKENS", 7)
    valid = config.data.valid[0]
    alone, both = keraslm.evaluate(trained_run, held_out, dynamic=True, neural_cache=True).variants
    assert alone.tuned_on == f"the first 7 tokens of {valid}"
    assert both.tuned_on == f"{alone.tuned_on} and all of {valid}"
    given = {"neural_cache": True, "cache_theta": 0.0, "cache_lambda": 0.1}
    both = keraslm.evaluate(trained_run, held_out, dynamic=True, **given).variants[1]
    assert both.tuned_on == alone.tuned_on and both.tuned == ("lr", "decay")


def test_given_rates_of_dynamic_evaluation_are_not_tuned(trained_run, held_out, fake_dynamic):
    found = keraslm.evaluate(trained_run, held_out, dynamic=True, dynamic_lr=1.5, dynamic_decay=0.0, context="sentence")
    assert [call[0] for call in fake_dynamic] == ["statistics", "model", "nats"] and fake_dynamic[1][2] == "sentence"
    assert found.variants[0].perplexity == pytest.approx(math.exp(1.5))
    assert found.variants[0].parameters == {"segment": 5, "lr": 1.5, "decay": 0.0}


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ("-", r"training text was standard input\. `dynamic` needs the gradients of the run's training text"),
        ("gone.txt", r"gone\.txt: cannot be read .* `dynamic` needs the gradients of the run's training text"),
        ("held-out.txt", r"held-out\.txt is no longer the training text of .* `dynamic` needs the gradients"),
    ],
)
def test_dynamic_evaluation_needs_the_training_text(
    trained_run, held_out, fake_dynamic, train, words, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TextError, match=words):
        keraslm.evaluate(without(trained_run, train=(train,)), held_out, dynamic=True)


def test_a_missing_text_is_reported_before_anything_is_computed(trained_run, held_out, fake_dynamic, monkeypatch):
    monkeypatch.setattr(Reader, "evaluation", lambda *_: fake_dynamic.append("plain"))
    with pytest.raises(TextError, match=r"gone\.txt: cannot be read .* It is the text to tune on"):
        keraslm.evaluate(trained_run, held_out, dynamic=True, tune_on="gone.txt")
    assert fake_dynamic == []
