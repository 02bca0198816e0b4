"""A language model of each cell is trained, opened and evaluated."""

from dataclasses import replace

import keras
import numpy as np
import pytest

import keraslm
from keraslm.config.shapes import weight_shapes
from keraslm.runs.weights import read_weights
from keraslm.text.files import TextFile
from tests.reference.cells import numpy_gru, numpy_mogrifier, numpy_rnn
from tests.reference.language_model import token_nats

BACKEND = keras.backend.backend()
CELLS = {
    "gru": ({"cell": "gru"}, numpy_gru, 1),
    "rnn": ({"cell": "rnn"}, numpy_rnn, 1),
    "mogrifier": ({"mogrifier_rounds": 3, "forget_bias": 1.0}, numpy_mogrifier, 2),
}
SIZES = {"units": 8, "embedding_dim": 5, "init_scale": 0.3, "batch_size": 4, "num_steps": 6, "epochs": 4}
SIZES["learning_rate"] = 0.5  # at 1, a simple RNN may diverge, depending on the dropout masks


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A text in which every word follows from the two words before it."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("the cat sat on the mat\n" * 150)
    return path


@pytest.fixture(scope="module", params=CELLS)
def trained(request, text, tmp_path_factory):
    """The name of the cell, a run of two layers, and its lines of progress."""
    folder, lines = tmp_path_factory.mktemp("cells"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        fields = {**SIZES, **CELLS[request.param][0], "dropconnect": 0.1, "recurrent_dropout": 0.1}
        run = keraslm.train(
            keraslm.preset("small"),
            backend=BACKEND,
            run="run",
            train=text,
            valid=text,
            verbose=0,
            log=lines.append,
            **fields,
        )
        return request.param, replace(run, path=folder / "run"), lines


def weights_of(run):
    weights = read_weights(run.weights_path, run.config.model, run.tokenizer.vocab_size)
    return {name: value.astype(np.float64) for name, value in weights.items()}


def test_training_learns_and_saves_the_weights_of_the_configuration(trained):
    name, run, _ = trained
    vocab_size = run.tokenizer.vocab_size
    assert run.epochs()[-1]["val_perplexity"] < 4.0  # 5.7 without the previous words
    weights = weights_of(run)
    assert weights.keys() == weight_shapes(run.config.model, vocab_size).keys()
    assert ("lstm_1/mogrifier_3" in weights) == (name == "mogrifier")


def test_an_evaluation_equals_numpy(trained, tmp_path):
    name, run, _ = trained
    text = tmp_path / "other.txt"
    text.write_text("the mat on the cat sat on\n" * 20)
    _, numpy_form, states = CELLS[name]
    weights, cell = weights_of(run), run.config.model.cell
    targets = np.asarray(run.tokenizer.encode_text(TextFile(str(text))))[None]
    ids = np.concatenate([[[run.tokenizer.eos_id]], targets[:, :-1]], axis=1)
    x = weights["embedding/embeddings"][ids]
    for number in range(2):
        shapes = weight_shapes(run.config.model, run.tokenizer.vocab_size)
        layer = [weights[weight] for weight in shapes if weight.startswith(f"{cell}_{number}/")]
        x, _ = numpy_form(x, [np.zeros((1, 8))] * states, layer)
    nats = token_nats(targets, x @ weights["logits/kernel"] + weights["logits/bias"])
    assert keraslm.evaluate(run, text).nats == pytest.approx(nats.sum(), rel=1e-5)


def test_progress_names_the_cell_and_whether_it_can_be_exported(trained, backend):
    name, run, lines = trained
    told = f"{backend} loop with automatic differentiation, matrix products in float32"
    assert (f"{'lstm' if name == 'mogrifier' else name:<10}" + told in lines) == (name != "mogrifier")
    if name == "mogrifier":
        assert f"lstm      Mogrifier with 3 rounds, {told}" in lines
    reasons = [line for line in lines if line.startswith("export ")]
    assert reasons == ([f"export    {run.config.model.not_exportable}"] if name == "mogrifier" else [])
