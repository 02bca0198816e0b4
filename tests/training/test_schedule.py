"""Learning rates, averaging and early stopping, compared with formulas and programs of the papers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keraslm.config import TrainConfig
from keraslm.errors import ConfigError
from keraslm.training.schedule import averaging_since, check_validated, early_stop, learning_rate_of, window_factors

perplexities = st.lists(st.integers(1, 9), max_size=12)


def rows_of(perplexities):
    return [{"val_perplexity": float(p)} for p in perplexities]


def factors(epoch, lengths, **fields):
    return window_factors(TrainConfig(**fields), epoch, np.array(lengths))


@pytest.mark.parametrize(("rate", "decay", "start"), [(1.0, 0.5, 4), (1.0, 0.8, 6), (2.0, 1 / 1.15, 14), (0.3, 1.0, 0)])
def test_decay_equals_the_tutorial(rate, decay, start):
    config = TrainConfig(learning_rate=rate, lr_decay=decay, lr_decay_from=start)
    for epoch in range(60):
        decayed = rate * decay ** max(epoch + 1 - start, 0.0)  # ptb_word_lm.py: i + 1 - max_epoch
        assert learning_rate_of(config, epoch) == pytest.approx(decayed, rel=1e-12)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "luong234"])
def test_other_schedules_have_one_rate_per_epoch(schedule):
    config = TrainConfig(lr_schedule=schedule, learning_rate=0.3)
    assert {learning_rate_of(config, epoch) for epoch in range(13)} == {0.3}


@pytest.mark.parametrize(("epochs", "windows"), [(12, 5), (4, 9), (1, 12), (3, 1)])
def test_luong234_equals_the_tutorial(epochs, windows):
    """`_get_decay_info` and `_get_learning_rate_decay` of nmt/model.py, with fractions of steps instead of int()."""
    found = np.concatenate(
        [factors(epoch, [20] * windows, lr_schedule="luong234", epochs=epochs) for epoch in range(epochs)]
    )
    steps = epochs * windows
    start = steps * 2 / 3
    decay_steps = (steps - start) / 4
    expected = [0.5 ** math.floor((n - start) / decay_steps + 1e-9) if n >= start else 1.0 for n in range(steps)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found[0] == 1.0 and (steps < 12 or found[-1] == 0.125)


@given(values=perplexities, patience=st.integers(1, 3))
def test_plateau_equals_torch(values, patience):
    """torch waits for one more bad epoch."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    stock = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=patience - 1, threshold=0.0)
    for value in values:
        stock.step(float(value))
    config = TrainConfig(lr_schedule="plateau", lr_decay=0.5, lr_patience=patience)
    assert learning_rate_of(config, len(values), rows_of(values)) == pytest.approx(optimizer.param_groups[0]["lr"])


def test_rows_of_later_epochs_are_ignored():
    config = TrainConfig(lr_schedule="plateau", lr_decay=0.5)
    assert learning_rate_of(config, 1, rows_of([90, 95, 95])) == 1.0


def test_cosine_falls_to_the_final_share_over_all_epochs():
    found = np.concatenate([factors(e, [20] * 5, lr_schedule="cosine", lr_final=0.1, epochs=4) for e in range(4)])
    expected = [0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / 20)) for step in range(20)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found[0] == 1.0 and np.all(np.diff(found) < 0) and found[-1] < 0.11


@pytest.mark.parametrize("epochs", [0.5, 1.0, 1.25])
def test_warmup_is_linear(epochs):
    found = np.concatenate([factors(e, [20] * 8, warmup_epochs=epochs) for e in range(2)])
    warm = int(8 * epochs)
    np.testing.assert_allclose(found[:warm], np.arange(1, warm + 1) / warm, rtol=1e-6)
    np.testing.assert_array_equal(found[warm:], 1.0)


@pytest.mark.parametrize(
    ("fields", "follows"),
    [
        ({"optimizer": "adamw", "learning_rate": 0.001}, True),
        ({"average_across_timesteps": True}, True),
        ({}, False),  # a sum already grows with the window
    ],
)
def test_longer_windows_have_larger_steps_unless_the_loss_is_a_sum(fields, follows):
    found = factors(0, [10, 20, 25], variable_windows=True, **fields)
    np.testing.assert_allclose(found, [0.5, 1.0, 1.25] if follows else [1.0] * 3)
    assert TrainConfig(variable_windows=True, **fields).rate_varies_within_epoch == follows


def test_factors_multiply():
    fields = {"optimizer": "adamw", "learning_rate": 0.001, "variable_windows": True}
    found = factors(0, [10, 30], epochs=2, lr_schedule="cosine", warmup_epochs=1.0, **fields)
    np.testing.assert_allclose(found, [0.5 * 0.5, 1.5 * 0.5 * (1 + math.cos(math.pi / 4))], rtol=1e-6)
    varying = [{"warmup_epochs": 0.1}, {"lr_schedule": "cosine"}]
    for fields in (*varying, {}, {"lr_schedule": "plateau"}):
        assert TrainConfig(**fields).rate_varies_within_epoch == (fields in varying)


def merity(values, nonmono):
    """The loop of salesforce/awd-lstm-lm, main.py, reduced to the validations."""
    best_val_loss = []
    for epoch, val_loss in enumerate(values):
        if len(best_val_loss) > nonmono and val_loss > min(best_val_loss[:-nonmono]):
            return epoch + 1
        best_val_loss.append(val_loss)
    return None


@given(values=perplexities, interval=st.integers(1, 5))
def test_averaging_starts_in_the_epoch_of_meritys_program(values, interval):
    assert averaging_since(interval, rows_of(values)) == merity(values, interval)


def test_nothing_is_averaged_without_an_interval():
    assert averaging_since(None, rows_of(range(1, 9))) is None


@pytest.mark.parametrize(
    ("values", "patience", "ends"),
    [
        ([90, 80, 85, 81], 2, True),
        ([90, 80, 85], 2, False),
        ([90, 80, 80], 1, True),  # no better
        ([90, 80, 85, 79], 2, False),
        ([90, 91, 92, 93], None, False),
        ([], 1, False),
    ],
)
def test_training_stops_after_epochs_without_improvement(values, patience, ends):
    assert bool(early_stop(patience, rows_of(values))) is ends


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"lr_schedule": "plateau"}, '`lr_schedule="plateau"`'),
        ({"early_stopping": 2}, "`early_stopping`"),
        ({"nonmonotone_interval": 5}, "`nonmonotone_interval`"),
    ],
)
def test_some_fields_need_a_validation_text(fields, name):
    config = TrainConfig(**fields)
    check_validated(config, True)
    check_validated(TrainConfig(), False)
    with pytest.raises(ConfigError, match=f"^{name} needs a validation after each epoch, but there is no"):
        check_validated(config, False)
