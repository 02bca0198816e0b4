"""The configuration of a run that starts from a trained one, and weights for more words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keraslm.config import Config
from keraslm.config.presets import preset
from keraslm.config.shapes import weight_shapes
from keraslm.errors import ConfigError, RunError, UsageError
from keraslm.runs.initial import grown, new_config
from tests.support.made_run import make_run, random_weights

FIELDS = {"units": 5, "num_layers": 1, "train": "a.txt", "valid": "b.txt", "encoding": "latin-1", "epochs": 7}


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Make a run with these fields and others."""
    monkeypatch.chdir(tmp_path)
    return lambda **fields: make_run(tmp_path, **(FIELDS | fields))


def asked(run, config=None, folder=None, **fields):
    return new_config(config, {"init_from": run.path, **fields}, folder, lambda _: None)


def test_without_a_source_nothing_changes():
    lines = []
    assert new_config(None, {"units": 9}, None, lines.append) == preset("tiny", units=9)
    assert new_config(Config(), {"units": 9}, None, lines.append) == Config().replace(units=9) and not lines


def test_settings_that_are_not_given_are_those_of_the_source(source):
    run = source(freeze="embedding", save_at_words=(5,), min_count=3)
    own = run.config.replace(freeze=None, init_from=str(run.path))
    assert asked(run) == own
    changes = {"train": "c.txt", "epochs": 2, "output_dropout": 0.5, "context": "sentence", "freeze": "logits"}
    assert asked(run, **changes) == own.replace(valid=None, **changes)
    assert asked(run, train="c.txt", extend_vocab=3, min_count=1).data.min_count == 1


def test_a_configuration_that_is_given_keeps_its_own_settings(source):
    run = source(layer_units=(5,))
    given = Config().replace(units=5, num_layers=1, epochs=2, output_dropout=0.3)
    found = asked(run, given)
    texts = {name: FIELDS[name] for name in ("train", "valid", "encoding")}
    assert found == given.replace(init_from=str(run.path), **texts)
    assert asked(run, given.replace(train="c.txt")).data.train == ("c.txt",)


def test_the_cutoffs_of_the_source_are_kept(source):
    run = source(softmax="adaptive", cutoffs=(3, 5))
    assert asked(run).model.cutoffs == (3, 5)
    assert asked(run, Config().replace(units=5, num_layers=1, softmax="adaptive")).model.cutoffs == (3, 5)


@pytest.mark.parametrize(
    ("own", "fields", "differences"),
    [
        ({}, {"units": 6}, "`units` is 5, not 6"),
        ({}, {"layer_units": (5, 5)}, r"`layer_units` is None, not \(5, 5\)"),
        ({}, {"cell": "gru", "embedding_dim": 3}, "`cell` is 'lstm', not 'gru'; `embedding_dim` is None, not 3"),
        ({}, {"tie_weights": True}, "`tie_weights` is False, not True"),
        ({"softmax": "adaptive", "cutoffs": (3,)}, {"softmax": "full"}, "`softmax` is 'adaptive', not 'full'"),
        ({"softmax": "mixture", "num_experts": 2}, {"num_experts": 3}, "`num_experts` is 2, not 3"),
        ({"min_count": 2}, {"min_count": 3}, "`min_count` is 2, not 3"),
        ({"lowercase": True}, {"tokenizer": "t.json"}, r"`tokenizer` is 'word', not 't\.json'"),
    ],
)
def test_a_different_network_or_tokenizer_is_refused_with_the_difference(source, own, fields, differences):
    run = source(**own)
    message = rf"A run that starts from {run.path} has its network and tokenizer, in which {differences}\. Leave these"
    with pytest.raises(ConfigError, match=message):
        asked(run, **fields)


def test_a_preset_of_different_sizes_is_refused_and_a_larger_vocabulary_is_explained(source):
    run = source()
    with pytest.raises(
        ConfigError, match=r"`units` is 5, not 200; `num_layers` is 1, not 2\. Leave these out, and a pre"
    ):
        asked(run, preset("small"))
    with pytest.raises(ConfigError, match=r"`vocab_size` is 10000, not 9\..* Words are added with `extend_vocab`\."):
        asked(run, vocab_size=9)


def test_the_new_run_needs_a_folder_of_its_own(source):
    run = source()
    with pytest.raises(UsageError, match=r"run is the run to start from\. Choose a different `run` for the new one"):
        asked(run, folder=Path("./run"))
    Path("runs/latest").unlink()
    Path("runs/latest").symlink_to("../run")
    with pytest.raises(UsageError, match=r"runs/latest is a link, .* Use the folder, `init_from=run`"):
        new_config(None, {"init_from": "runs/latest"}, None, print)


@pytest.mark.parametrize(
    ("changes", "message"), [({"init_weights": "best"}, "no best weights"), ({}, "no such run fol")]
)
def test_a_source_that_cannot_be_opened_is_named(source, changes, message):
    run = source()
    folder = run.path if changes else Path("nowhere")
    with pytest.raises(RunError, match=rf"{folder}: {message}"):
        new_config(None, {"init_from": folder, **changes}, None, print)


@pytest.mark.parametrize(
    "fields", [{}, {"softmax": "sampled"}, {"softmax": "mixture"}, {"tie_weights": True}, {"cell": "gru"}]
)
def test_grown_weights_have_the_shapes_of_the_larger_network(fields):
    model = Config().replace(units=4, num_layers=2, **fields).model
    old, shapes = random_weights(model, 6), weight_shapes(model, 9)
    found = grown(old, shapes)
    assert {name: value.shape for name, value in found.items()} == shapes
    table = found["embedding/embeddings"]
    np.testing.assert_allclose(table[6:], np.tile(table[:6].astype(np.float64).mean(0), (3, 1)), rtol=1e-6)
    assert table[:6].tobytes() == old["embedding/embeddings"].tobytes() and table.dtype == np.float32
    assert [name for name in shapes if found[name] is not old[name]] == [
        name for name, shape in shapes.items() if 9 in shape
    ]
