"""Weights that are kept at numbers of trained words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import keraslm
from keraslm.errors import ConfigError, RunError
from keraslm.runs.metrics import read_rows
from keraslm.runs.weights import digest_of
from keraslm.training.words import windows_at_words
from tests.support.program import assert_refused
from tests.support.resuming import assert_same, quietly

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture(scope="module")
def words(config):
    """Number of words of the training text."""
    return len(Path(config.data.train[0]).read_text(encoding="utf-8").split())


@pytest.fixture(scope="module")
def numbers(words):
    """In the first window, the middle and the end of epoch 1, two in one window of epoch 2, and the last word."""
    return (1, words // 2, words, words * 3 // 2, words * 3 // 2 + 1, words * 3)


@pytest.fixture(scope="module")
def kept(config, numbers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return quietly(config.replace(save_at_words=numbers), folder / "run")


def word_rows(run):
    return [row for row in read_rows(run.metrics_path) if "words" in row]


def test_a_number_is_reached_in_the_window_that_trains_its_share_of_the_text():
    lengths = np.array([5, 5, 4, 6])  # 20 steps: one step of every row is a twentieth of the words
    assert windows_at_words([1, 25, 26, 50, 51, 70, 71, 100], 100, 0, lengths) == {
        0: [1, 25],
        1: [26, 50],
        2: [51, 70],
        3: [71, 100],
    }
    assert windows_at_words([100, 101, 200, 201], 100, 1, lengths) == {0: [101], 3: [200]}
    assert windows_at_words([1], 0, 0, lengths) == {}
    large = 10**15
    assert windows_at_words([large * 99, large * 99 + 1], large, 99, lengths) == {0: [large * 99 + 1]}


def test_every_number_has_a_file_and_a_row(kept, numbers, corpus):
    run, lines = kept
    windows = len(corpus[1])
    assert list(run.weights_at_words()) == list(numbers)
    assert [path.name for path in run.weights_at_words().values()] == [f"weights-at-{n}.safetensors" for n in numbers]
    rows = word_rows(run)
    assert [row["words"] for row in rows] == list(numbers)
    places = [(row["epoch"], row["window"]) for row in rows]
    assert [places[0], places[2], places[5]] == [(1, 1), (1, windows), (3, windows)]
    assert places[3] == places[4] and abs(places[1][1] - windows / 2) <= 1 and places[3][0] == 2
    for number, row in zip(numbers, rows, strict=True):
        opened = keraslm.load_run(run.path, number)
        assert digest_of(opened.read_weights()) == row["weights"]
        assert opened.trained_epoch() == row
    assert not any("not reached" in line for line in lines)


def test_the_last_file_is_the_end_of_the_training(kept, numbers):
    run, _ = kept
    found, expected = keraslm.load_run(run.path, numbers[-1]).read_weights(), run.read_weights()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_the_training_is_that_without_them(kept, trained_run, tmp_path):
    run, _ = kept
    for name in ("weights.safetensors", "best.safetensors"):
        assert (run.path / name).read_bytes() == (trained_run.path / name).read_bytes()
    assert [row["loss"] for row in run.epochs()] == [row["loss"] for row in trained_run.epochs()]


def test_a_resumed_training_has_the_same_files(stopped, config, kept, numbers, corpus):
    run, _ = kept
    changes = {"save_at_words": numbers, "checkpoint_windows": 4}
    window = word_rows(run)[1]["window"]
    for moment in ((0, window - 1, None), (0, window, None), (1, None, 0)):
        stopped("run", *moment, changes=changes)
    assert_same(quietly(config.replace(save_at_words=numbers), "run")[0], run)


def test_files_after_the_checkpoint_are_removed_and_written_again(stopped, config, kept, numbers):
    """As after a kill: the checkpoint of the end of epoch 1 is older than the files and rows of epoch 2."""
    run, _ = kept
    stopped("run", 0, None, None, changes={"save_at_words": numbers})
    from keraslm.runs.run import Run

    here = Run.open("run")
    for number in numbers[3:5]:
        here.at_words_path(number).write_bytes(run.at_words_path(number).read_bytes())
    with pytest.raises(RunError, match=r"holds weights that belong to no row of metrics\.jsonl"):
        keraslm.load_run("run", numbers[3]).read_weights()
    resumed, lines = quietly(config.replace(save_at_words=numbers), "run")
    assert [line for line in lines if line.startswith("weights ")] == [
        f"weights   weights-at-{n}.safetensors was kept after the checkpoint: removed until its words are reached again"
        for n in numbers[3:5]
    ]
    assert_same(resumed, run)


def test_averaged_weights_are_kept_once_averaging_has_begun(config, words, monkeypatch):
    monkeypatch.setattr("keraslm.training.callbacks.averaging_since", lambda interval, rows: 1 if rows else None)
    run, _ = quietly(config.replace(nonmonotone_interval=1, epochs=2, save_at_words=(words, 2 * words)), "run")
    for number, row in zip((words, 2 * words), run.epochs(), strict=True):
        assert digest_of(keraslm.load_run("run", number).read_weights()) == row["weights"]


def test_other_numbers_may_be_given_when_a_run_is_resumed(config, words, stopped):
    stopped("run", 0, None, None)
    run, _ = quietly(config.replace(save_at_words=(words // 2, 2 * words)), "run")
    assert list(run.weights_at_words()) == [2 * words]  # the first was reached before


def test_numbers_beyond_the_training_are_named(config, words):
    _, lines = quietly(config.replace(save_at_words=(words, words * 3 + 1), num_layers=1), "run")
    assert f"          {words * 3 + 1:,} words are not reached: 3 epochs of {words:,}" in lines


def test_the_files_belong_to_the_run(config, kept, numbers, tmp_path):
    from keraslm.runs.files import paths_of

    run, _ = kept
    listed = json.loads((run.path / "config.json").read_text())["files"]
    assert "weights-at-*.safetensors" in listed
    assert {*run.weights_at_words().values()} <= {*paths_of(run.path)}
    quietly(config.replace(save_at_words=numbers[:1], epochs=1, num_layers=1), "again")
    again, _ = quietly(config.replace(epochs=1, num_layers=1), "again", overwrite=True)
    assert again.weights_at_words() == {}


def test_a_number_that_was_not_kept_is_refused(kept, trained_run, numbers):
    run, _ = kept
    with pytest.raises(RunError, match=rf"no weights at 2 words\. It has kept those at {numbers[0]}, "):
        keraslm.load_run(run.path, 2)
    with pytest.raises(RunError, match=r"no weights at 2 words.*train with `save_at_words`"):
        keraslm.load_run(trained_run.path, 2)


@pytest.mark.parametrize("numbers", [(), (0, 1), (2, 2), (3, 1)])
def test_numbers_must_increase(config, numbers):
    with pytest.raises(ConfigError, match=r"`save_at_words` is .*, but must be increasing integers above 0"):
        config.replace(save_at_words=numbers)


def test_the_command_line_reads_thousands_and_millions(config, kept, program):
    text, run = config.data.train[0], kept[0].path
    given = ("train", "--train", text, "--run", "run", "--save-at-words")
    assert_refused(
        program(*given, "2M,3k"), "--save-at-words is (2000000, 3000), but must be increasing integers above 0"
    )
    assert_refused(program(*given, "2G"), "'2G' is not a list of integers")
    assert_refused(program("evaluate", run, text, "--weights", "1M"), "no weights at 1,000,000 words")
    assert_refused(
        program("evaluate", run, text, "--weights", "first"), "'first' is not last, best or a number of words"
    )


def test_commands_use_and_list_them(kept, numbers, program, config):
    run = kept[0].path
    assert json.loads(program("show", run, "--json").out)["weights at words"] == list(numbers)
    assert ", ".join(f"{number:,}" for number in numbers) in program("show", run).out
    early, late = (
        program("evaluate", run, config.data.valid[0], "--weights", number).out for number in (numbers[0], numbers[-1])
    )
    assert early != late == program("evaluate", run, config.data.valid[0]).out
