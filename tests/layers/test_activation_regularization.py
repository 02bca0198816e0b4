import keras
import numpy as np
import pytest

from keraslm.layers.activation_regularization import ActivationRegularization
from keraslm.network.compile import compiled_model
from keraslm.network.model import reset_states
from keraslm.training import callbacks
from keraslm.training.dataset import BatchDataset

random = np.random.default_rng(5)
DROPPED, RAW = (random.normal(size=(3, 4, 2)).astype(np.float32) for _ in range(2))


def penalty(dropped, raw, alpha, beta):
    """The penalty of Merity et al. for a mean loss, in float64."""
    dropped, raw = dropped.astype(np.float64), raw.astype(np.float64)
    changes = np.mean((raw[:, 1:] - raw[:, :-1]) ** 2) if raw.shape[1] > 1 else 0.0
    return alpha * np.mean(dropped**2) + beta * changes


@pytest.mark.parametrize(("sum_steps", "sum_rows", "scale"), [(0, 0, 1), (1, 0, 4), (0, 1, 3), (1, 1, 12)])
def test_the_penalty_equals_numpy_in_every_convention_of_the_loss(sum_steps, sum_rows, scale):
    layer = ActivationRegularization(2.0, 0.5, bool(sum_steps), bool(sum_rows))
    found = layer([DROPPED, RAW], training=True)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(found), DROPPED)
    assert float(layer.losses[0]) == pytest.approx(scale * penalty(DROPPED, RAW, 2.0, 0.5), rel=1e-6)


def test_a_window_of_one_step_has_no_change():
    layer = ActivationRegularization(0.0, 1.0)
    layer([DROPPED[:, :1], RAW[:, :1]], training=True)
    assert float(layer.losses[0]) == 0.0


@pytest.mark.parametrize("sums", [True, False])
def test_the_penalty_is_in_the_training_loss_but_not_in_validation_or_perplexity(config, corpus, sums):
    """Under `fit` as the backend compiles it, the validation last. A rate of nearly 0 keeps the weights."""
    without = {"embedding_dropout": 0, "recurrent_dropout": 0, "output_dropout": 0, "learning_rate": 1e-30}
    plain = config.replace(**without, num_layers=1, average_across_timesteps=not sums, average_across_batch=not sums)
    histories = []
    for changes in ({}, {"activation_regularization": 2000.0, "temporal_regularization": 3000.0}):
        model = compiled_model(plain.replace(**changes), corpus[0].vocab_size)
        history = model.fit(
            BatchDataset(corpus[1]),
            validation_data=BatchDataset(corpus[2]),
            epochs=2,
            shuffle=False,
            verbose=0,
            callbacks=[callbacks.ResetStates()],
        )
        histories.append(history.history)
    outputs = keras.Model(model.inputs[0], model.get_layer("lstm_0").output)
    reset_states(model)
    windows = [outputs.predict_on_batch(window[0]) for window in corpus[1]]
    added = np.mean([penalty(h, h, 2000.0, 3000.0) for h in windows]) * (20 if sums else 1)
    for name in ("val_loss", "val_perplexity", "perplexity"):
        assert histories[1][name] == pytest.approx(histories[0][name], rel=1e-6)
    differences = np.subtract(histories[1]["loss"], histories[0]["loss"])
    assert differences == pytest.approx([added] * 2, rel=1e-3) and added > 0.01


def test_the_penalty_is_part_of_the_gradient(config, corpus):
    """A small step lowers the loss by the learning rate times the square of the gradient's norm."""
    still = {"embedding_dropout": 0, "recurrent_dropout": 0, "output_dropout": 0, "clip_norm": None}
    still |= {"learning_rate": 1e-6, "activation_regularization": 1e4, "temporal_regularization": 1e4}
    model = compiled_model(config.replace(**still), corpus[0].vocab_size)
    inputs, targets = corpus[1][0]
    losses = []
    for _ in range(2):
        model.reset_metrics()
        reset_states(model)
        losses.append(float(model.train_on_batch([inputs, targets], targets, return_dict=True)["loss"]))
        norm = float(model.optimizer.gradient_norm)
    assert losses[0] - losses[1] == pytest.approx(1e-6 * norm**2, rel=0.05) and norm > 100


def test_the_layer_exists_only_with_a_factor(config, corpus):
    for changes, times in (({}, 0), ({"temporal_regularization": 1.0}, 1), ({"activation_regularization": 1.0}, 1)):
        model = compiled_model(config.replace(**changes), corpus[0].vocab_size)
        assert [layer.name for layer in model.layers].count("activation_regularization") == times
