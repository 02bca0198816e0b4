"""Unread logs, tokens per second and the progress bar."""

import keras
import pytest

from keraslm.network.model import reset_states
from keraslm.training import progress
from keraslm.training.dataset import BatchDataset
from keraslm.training.progress import TOKENS_PER_SECOND, Progress, Throughput, UnreadLogs

TOKENS = 20


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test advances: `clock[0] += seconds`."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


class Spy(keras.callbacks.Callback):
    """Keeps the logs of each window."""

    def __init__(self):
        super().__init__()
        self.logs = []

    def on_train_batch_end(self, batch, logs=None):
        self.logs.append({name: (type(value), float(value)) for name, value in logs.items()})


def test_logs_are_unread_and_the_same_numbers(backend, standing_model, corpus, capsys):
    spies, histories = (Spy(), Spy()), []
    throughput = Throughput(TOKENS)
    bar = Progress(throughput, interval=0.0)
    options = {"epochs": 2, "verbose": 1}
    unread = UnreadLogs(
        [throughput, bar, spies[1]], add_history=True, model=standing_model, steps=len(corpus[1]), **options
    )
    for callbacks in ([spies[0]], unread):
        reset_states(standing_model)
        capsys.readouterr()
        history = standing_model.fit(
            BatchDataset(corpus[1]),
            validation_data=BatchDataset(corpus[2]),
            shuffle=False,
            callbacks=callbacks,
            **options,
        )
        histories.append(history.history)
    assert histories[0].keys() == {"loss", "val_loss"} == histories[1].keys() - {TOKENS_PER_SECOND}
    for name, values in histories[0].items():
        assert histories[1][name] == pytest.approx(values, rel=1e-6)
    assert len(spies[0].logs) == len(spies[1].logs) == 2 * len(corpus[1])
    for one, other in zip(*(spy.logs for spy in spies), strict=True):
        assert one["loss"][1] == pytest.approx(other["loss"][1], rel=1e-6)
    assert all(issubclass(logs["loss"][0], float) for logs in spies[0].logs)
    if backend != "torch":
        assert not any(issubclass(logs["loss"][0], float) for logs in spies[1].logs)
    out = capsys.readouterr().out
    assert f"{len(corpus[1])}/{len(corpus[1])}" in out and "loss: " in out and f"{TOKENS_PER_SECOND}: " in out


def run_epoch(throughput, clock, windows, seconds, validation=None):
    """The logs of an epoch whose windows take `seconds` each, but the first one ten times as long."""
    logs = {"loss": 1.0}
    throughput.on_epoch_begin(0)
    for number in range(windows):
        clock[0] += seconds if number else 10 * seconds
        throughput.on_train_batch_end(number, logs)
    if validation:
        throughput.on_test_begin()
        clock[0] += validation
    throughput.on_epoch_end(0, logs)
    return logs


def test_tokens_per_second_exclude_the_first_window_and_the_validation(clock):
    throughput = Throughput(TOKENS)
    assert run_epoch(throughput, clock, 5, 2.0, validation=50.0)[TOKENS_PER_SECOND] == TOKENS / 2.0
    assert run_epoch(throughput, clock, 3, 4.0)[TOKENS_PER_SECOND] == TOKENS / 4.0  # the next epoch starts again


def test_an_epoch_of_one_window_has_no_rate(clock):
    assert TOKENS_PER_SECOND not in run_epoch(Throughput(TOKENS), clock, windows=1, seconds=2.0)


def test_the_rate_is_known_during_an_epoch(clock):
    throughput = Throughput(TOKENS)
    throughput.on_epoch_begin(0)
    throughput.on_train_batch_end(0, {"loss": 1.0})
    assert throughput.rate == 0.0
    for number in (1, 2, 3):
        clock[0] += 0.5
        throughput.on_train_batch_end(number, {"loss": 1.0})
        assert throughput.rate == TOKENS / 0.5


class Unread:
    """A loss that counts how often it is read."""

    reads = 0

    def __float__(self):
        self.reads += 1
        return 1.0


def test_the_bar_reads_the_loss_twice_per_second(clock):
    bar, loss = Progress(Throughput(TOKENS), interval=0.5), Unread()
    bar.set_params({"verbose": 1, "epochs": 1, "steps": 100})
    bar.on_train_begin()
    bar.on_epoch_begin(0)
    for number in range(100):
        clock[0] += 0.25
        bar.on_train_batch_end(number, {"loss": loss})
    assert loss.reads == 50
