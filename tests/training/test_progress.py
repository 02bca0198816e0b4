import keras
import pytest

from keraslm.network.model import reset_states
from keraslm.training import progress
from keraslm.training.dataset import WindowDataset
from keraslm.training.progress import TOKENS_PER_SECOND, Progress, Throughput, UnreadLogs

TOKENS = 20


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until a test moves it: `clock[0] += seconds`."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


class Spy(keras.callbacks.Callback):
    """Keeps what it is handed after each window."""

    def __init__(self):
        super().__init__()
        self.handed = []

    def on_train_batch_end(self, batch, logs=None):
        self.handed.append({name: (type(value), float(value)) for name, value in logs.items()})


def fit(model, corpus, spies, unread):
    options = {"epochs": 2, "verbose": 0}
    chosen = UnreadLogs(spies, add_history=True, model=model, steps=len(corpus[1]), **options) if unread else spies
    history = model.fit(
        WindowDataset(corpus[1]), validation_data=WindowDataset(corpus[2]), shuffle=False, callbacks=chosen, **options
    )
    return history.history


# Logs


def test_logs_come_unread_and_are_the_same_numbers(backend, standing_model, corpus):
    read, unread = Spy(), Spy()
    histories = []
    for spy in (read, unread):
        reset_states(standing_model)
        histories.append(fit(standing_model, corpus, [spy], unread=spy is unread))
    assert histories[0].keys() == histories[1].keys() == {"loss", "val_loss"}
    for name, values in histories[0].items():
        assert histories[1][name] == pytest.approx(values, rel=1e-6)
    assert len(read.handed) == len(unread.handed) == 2 * len(corpus[1])
    for one, other in zip(read.handed, unread.handed, strict=True):
        assert one["loss"][1] == pytest.approx(other["loss"][1], rel=1e-6)
    assert all(issubclass(logs["loss"][0], float) for logs in read.handed)
    if backend != "torch":
        assert not any(issubclass(logs["loss"][0], float) for logs in unread.handed)


# Tokens a second


def run_epoch(throughput, clock, windows, seconds, validation=None):
    """One epoch of windows, each `seconds` long, the first ten times as long; the logs of its end."""
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


def test_tokens_a_second_leave_out_the_first_window(clock):
    assert run_epoch(Throughput(TOKENS), clock, windows=5, seconds=2.0)[TOKENS_PER_SECOND] == TOKENS / 2.0


def test_tokens_a_second_leave_out_the_validation(clock):
    assert run_epoch(Throughput(TOKENS), clock, 5, 2.0, validation=50.0)[TOKENS_PER_SECOND] == TOKENS / 2.0


def test_each_epoch_is_counted_anew(clock):
    throughput = Throughput(TOKENS)
    assert run_epoch(throughput, clock, 5, 2.0, validation=50.0)[TOKENS_PER_SECOND] == TOKENS / 2.0
    assert run_epoch(throughput, clock, 3, 4.0)[TOKENS_PER_SECOND] == TOKENS / 4.0


def test_an_epoch_of_one_window_has_no_figure(clock):
    assert TOKENS_PER_SECOND not in run_epoch(Throughput(TOKENS), clock, windows=1, seconds=2.0)


def test_the_rate_runs_along(clock):
    throughput = Throughput(TOKENS)
    throughput.on_epoch_begin(0)
    throughput.on_train_batch_end(0, {"loss": 1.0})
    assert throughput.rate == 0.0
    for number in (1, 2, 3):
        clock[0] += 0.5
        throughput.on_train_batch_end(number, {"loss": 1.0})
        assert throughput.rate == TOKENS / 0.5


# The bar


def test_the_bar_shows_tokens_a_second(standing_model, corpus, capsys):
    throughput = Throughput(TOKENS)
    spies = [throughput, Progress(throughput, interval=0.0)]
    callbacks = UnreadLogs(spies, add_history=True, model=standing_model, epochs=1, steps=len(corpus[1]), verbose=1)
    standing_model.fit(WindowDataset(corpus[1]), epochs=1, shuffle=False, verbose=1, callbacks=callbacks)
    out = capsys.readouterr().out
    assert f"{len(corpus[1])}/{len(corpus[1])}" in out and "loss: " in out and f"{TOKENS_PER_SECOND}: " in out


class Unread:
    """A loss that counts how often it is looked at."""

    looks = 0

    def __float__(self):
        self.looks += 1
        return 1.0


def test_the_bar_looks_at_the_loss_twice_a_second_however_fast_the_windows_come(clock):
    bar, loss = Progress(Throughput(TOKENS), interval=0.5), Unread()
    bar.set_params({"verbose": 1, "epochs": 1, "steps": 100})
    bar.on_train_begin()
    bar.on_epoch_begin(0)
    for number in range(100):
        clock[0] += 0.25
        bar.on_train_batch_end(number, {"loss": loss})
    assert loss.looks == 50
