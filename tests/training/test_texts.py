"""Training on weighted texts and with a held-out share: resumed bit for bit, counted, and recognised."""

from __future__ import annotations

from pathlib import Path

import pytest

import keraslm
from keraslm.errors import ConfigError, TextError, UsageError
from keraslm.runs.metrics import read_rows
from keraslm.runs.run import Run, run_text
from keraslm.text.encoding import Encoder
from keraslm.text.files import TextFiles
from tests.reference.text import write_text
from tests.support.resuming import assert_same, quietly
from tests.support.words import train_words

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Paths of two training texts, of 50 and 40 lines."""
    folder = tmp_path_factory.mktemp("pair")
    return tuple(str(write_text(folder / f"{n}.txt", lines=60 - 10 * n, seed=n)) for n in (1, 2))


@pytest.fixture
def changes(pair):
    """Two weighted texts, of whose lines a fifth is held out."""
    return {
        "train": pair,
        "train_weights": (1.5, 0.5),
        "valid": None,
        "valid_share": 0.2,
        "num_layers": 1,
        "log_every": None,
    }


@pytest.mark.parametrize(
    "more",
    [
        {"context": "sentence", "shuffle": True, "lr_schedule": "cosine"},
        {"lr_schedule": "luong234", "warmup_epochs": 0.5},
    ],
    ids=["shuffled", "document"],
)
def test_stops_inside_an_epoch_change_nothing(stopped, config, changes, more):
    changes |= more
    complete, lines = quietly(config.replace(**changes), "complete")
    (read,) = [line for line in lines if "an epoch reads" in line]
    assert read.endswith(f" tokens: 3/2 x {changes['train'][0]}, 1/2 x {changes['train'][1]}")
    rows = complete.epochs()
    assert len({row["tokens"] for row in rows}) == 1 and all("val_perplexity" in row for row in rows)
    for moment in ((0, 3, None), (1, None, None), (2, 5, None)):
        stopped("run", *moment, changes=changes)
    assert_same(quietly(config.replace(**changes), "run")[0], complete)


def test_a_weight_repeats_a_text_as_naming_it_twice_does(config, changes, pair):
    tokenizer = tokenizer_file(pair)
    changes |= {"valid_share": None, "epochs": 1, "context": "sentence", "tokenizer": tokenizer}
    for weights, train in (((2.0, 1.0), (pair[0], *pair)), ((1.0, 1.0), pair)):
        weighted = quietly(config.replace(**changes | {"train_weights": weights}), f"weights {weights}")[0]
        plain = quietly(config.replace(**changes | {"train": train, "train_weights": None}), f"plain {weights}")[0]
        files = [(run.path / "weights.safetensors").read_bytes() for run in (weighted, plain)]
        assert files[0] == files[1]
        assert weighted.epochs()[0]["tokens"] == plain.epochs()[0]["tokens"]


def tokenizer_file(paths):
    """A tokenizer file: the order of a trained vocabulary follows the counts, which weights do not change."""
    tokenizer = train_words(TextFiles(paths))
    Path("tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    return "tokenizer.json"


def test_words_are_counted_as_often_as_they_are_read(config, changes, pair):
    words = [len(Path(path).read_text().split()) for path in pair]
    epoch = int(words[0] * 3 / 2 + words[1] / 2)
    numbers = (epoch // 2, epoch, 2 * epoch, 3 * epoch, 3 * epoch + 1)
    changes |= {"valid_share": None, "save_at_words": numbers}
    run, lines = quietly(config.replace(**changes), "run")
    rows = [row for row in read_rows(run.metrics_path) if "words" in row]
    windows = rows[1]["window"]
    places = [(row["epoch"], row["window"]) for row in rows]
    assert places[1:] == [(1, windows), (2, windows), (3, windows)] and abs(places[0][1] - windows / 2) <= 1
    assert f"          {numbers[-1]:,} words are not reached: 3 epochs of {epoch:,}" in lines
    with pytest.raises(UsageError, match="trained without a validation text"):
        keraslm.evaluate(Run.open(run.path), valid=True)


def test_a_run_recognises_the_sizes_of_its_texts(stopped, config, changes, pair, tmp_path):
    stopped("run", 0, 3, None, changes=changes | {"valid_share": None})
    lines = [Path(path).read_text().splitlines(keepends=True) for path in pair]
    moved = [tmp_path / "a.txt", tmp_path / "b.txt"]
    moved[0].write_text("".join(lines[0][:-1]))
    moved[1].write_text("".join([lines[0][-1], *lines[1]]))
    changes |= {"valid_share": None, "train": tuple(map(str, moved))}
    with pytest.raises(TextError, match=r"different training text: .* tokens in texts of \[\d+, \d+\] with SHA-256"):
        quietly(config.replace(**changes), "run")
    with pytest.raises(ConfigError, match=r"`train_weights` is \(1\.5, 0\.5\), not \(1\.5, 1\.0\)"):
        quietly(config.replace(**changes | {"train_weights": (1.5, 1)}), "run")


def test_a_share_of_unequal_parts_is_noted(config, changes, tmp_path):
    for number in range(1, 10):
        write_text(tmp_path / f"{number}.txt", lines=20, seed=number)
    changes |= {"train": str(tmp_path / "?.txt"), "train_weights": None, "valid_share": 0.1, "epochs": 1}
    noted = []
    for lines in (40, 80):  # that are held out, of 220 and of 260
        write_text(tmp_path / "0.txt", lines=lines, seed=0)
        found = quietly(config.replace(**changes), f"run {lines}")[1]
        assert "valid     held out: 0.txt (1 of 10 files)" in found
        noted += [line.split(":")[0] for line in found if "units differ" in line]
    assert noted == ["          `valid_share` is 0.1, but 0.31 of the tokens are held out"]


def test_the_held_out_text_is_evaluated_without_a_name(config, changes, pair):
    run, _ = quietly(config.replace(**changes), "run")
    for split, tokens in run.texts.items():
        encoded = run_text(run, split, Encoder())
        assert encoded is not None and len(encoded.ids) == tokens["tokens"]
    found = keraslm.evaluate(run, valid=True, tutorial=True)
    assert found.perplexity == pytest.approx(run.epochs()[-1]["val_perplexity"], rel=1e-5)
    assert found.text == f"the held-out last lines of {pair[0]} and 1 more" and found.lines == 10 + 8
    assert keraslm.evaluate("run", valid=True, temperature=2.0).variants[0].name == "temperature"
    # With a preset, the run keeps its texts and their share.
    again = keraslm.train(config.replace(**changes | {"train": None, "train_weights": None, "valid_share": None}),
                          run="run", verbose=0, log=lambda line: None)  # fmt: skip
    assert again.config == run.config
    Path(pair[1]).write_text(Path(pair[1]).read_text() + "one more line\n")
    with pytest.raises(TextError, match="is no longer the validation text of run"):
        keraslm.evaluate("run", valid=True)
