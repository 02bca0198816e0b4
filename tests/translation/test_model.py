import math
import zlib

import keras
import numpy as np
import pytest

from examples.translation.config import TranslationConfig
from examples.translation.model import build_network
from keraslm.network.losses import SequenceLoss
from keraslm.network.metrics import Perplexity
from tests.reference.translation import smoothed_cross_entropy, translation_logits

SOURCE_SIZE, TARGET_SIZE, EOS = 7, 9, 1
PLAIN = {"embedding_dropout": 0.0, "encoder_dropout": 0.0, "decoder_dropout": 0.0, "label_smoothing": 0.0}
SOURCE = [np.array(ids, np.int32) for ids in ([3, 6, 2, 4, 1], [1], [5, 5, 1])]
TARGET = [np.array(ids, np.int32) for ids in ([8, 1], [2, 7, 7, 3, 0, 1], [4, 5, 1])]

CONFIGS = {
    "none": {"attention": "none", "bidirectional": False},
    "none-both-2": {"attention": "none", "num_layers": 2, "tie_weights": False, "embedding_size": 3},
    "luong-2": {"attention": "luong", "bidirectional": False, "num_layers": 2},
    "scaled-both": {"attention": "scaled_luong"},
    "bahdanau-both-2": {"attention": "bahdanau", "num_layers": 2, "tie_weights": False, "embedding_size": 6},
}


def config_of(**fields):
    return TranslationConfig().replace(**{"units": 4, "init_scale": 0.8, "seed": 3, **PLAIN, **fields})


def network_of(**fields):
    return build_network(config_of(**fields), SOURCE_SIZE, TARGET_SIZE, EOS)


def batch(rows, width, source=SOURCE, target=TARGET):
    """Inputs of the training model: source, lengths, targets and weights; rows without a sentence have weight 0."""
    ids, targets = (np.zeros((rows, width), np.int32) for _ in range(2))
    lengths, weights = np.ones(rows, np.int32), np.zeros((rows, width), np.float32)
    for row, (sentence, translation) in enumerate(zip(source, target, strict=True)):
        ids[row, : len(sentence)], lengths[row] = sentence, len(sentence)
        targets[row, : len(translation)], weights[row, : len(translation)] = translation, 1 / len(source)
    return ids, lengths, targets, weights


def weights_of(model):
    return {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}


def nats_by_reference(model, share=0.0):
    """The nats of each target in each sentence, with label smoothing by a share."""
    logits = [translation_logits(weights_of(model), *pair, EOS) for pair in zip(SOURCE, TARGET, strict=True)]
    return [smoothed_cross_entropy(*pair, share) for pair in zip(logits, TARGET, strict=True)]


@pytest.fixture(scope="module", params=CONFIGS.values(), ids=CONFIGS.keys())
def network(request):
    """A network whose biases and scale are random too."""
    network = network_of(**request.param)
    draw = np.random.default_rng(5)
    for weight in network.training.trainable_weights:
        if len(weight.shape) == 1:
            weight.assign(draw.normal(size=weight.shape))
    return network


def test_the_nats_of_each_target_equal_the_reference(network):
    nats = np.asarray(network.training.predict_on_batch(list(batch(3, 7))))
    for found, expected in zip(nats, nats_by_reference(network.training), strict=True):
        np.testing.assert_allclose(found[: len(expected)], expected, atol=5e-6)


def test_encoder_and_step_predict_token_by_token_what_the_training_model_predicts(network):
    source, lengths, targets, weights = batch(3, 7)
    expected = np.asarray(network.training.predict_on_batch([source, lengths, targets, weights]))
    constant = len([i for i in network.step.inputs if i.name.startswith("memory")])
    found = network.encoder.predict_on_batch([source, lengths])
    memory, state, tokens = found[:constant], found[constant:], np.full(3, EOS, np.int32)
    assert len(network.step.outputs) == 1 + len(state) + bool(constant)
    for step in range(targets.shape[1]):
        log_probs, *found = network.step.predict_on_batch([tokens, *memory, *state])
        state, alignment = found[: len(state)], found[len(state) :]
        tokens = targets[:, step]
        np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1.0, rtol=1e-5)
        np.testing.assert_allclose(-log_probs[np.arange(3), tokens], expected[:, step], atol=5e-6)
        for weight in alignment:
            np.testing.assert_allclose(weight.sum(axis=1), 1.0, rtol=1e-5)
            assert not weight[np.arange(7) >= lengths[:, None]].any()


def with_other_padding(inputs):
    """The same sentences with different ids in the padded places."""
    source, lengths, targets, weights = inputs
    source = np.where(np.arange(source.shape[1]) < lengths[:, None], source, 4)
    return source.astype(np.int32), lengths, np.where(weights > 0, targets, 5).astype(np.int32), weights


def test_width_empty_rows_and_contents_of_the_padding_change_neither_loss_nor_update():
    """Label smoothing is part of the loss in training only."""
    model = network_of(label_smoothing=0.3).training
    model.compile(keras.optimizers.SGD(0.1), SequenceLoss(False, False), weighted_metrics=[Perplexity()])
    nats, smoothed = (np.concatenate(nats_by_reference(model, share)) for share in (0.0, 0.3))
    before, after = model.get_weights(), []

    def losses(call, inputs):
        found = call(inputs, inputs[2], sample_weight=inputs[3], return_dict=True)
        model.reset_metrics()
        return [found["loss"], found["perplexity"]]

    perplexity, wide = math.exp(nats.mean()), batch(6, 10)
    assert losses(model.test_on_batch, wide) == pytest.approx([nats.sum() / 3, perplexity], rel=2e-6)
    for inputs in (batch(3, 6), wide, with_other_padding(wide)):
        assert losses(model.train_on_batch, inputs) == pytest.approx([smoothed.sum() / 3, perplexity], rel=2e-6)
        after.append(model.get_weights())
        model.set_weights(before)
    for updated in after:
        for found, expected, initial in zip(updated, after[0], before, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-6)
            assert not np.array_equal(found, initial)


def expected_weight(path, shape, seed, scale):
    """The initial value of a weight, drawn here."""
    name = path.split("/")[-1]
    if name.startswith("bias"):
        return np.zeros(shape) if path == "logits/bias" else np.repeat([0.0, 1.0, 0.0, 0.0], shape[0] // 4)
    if name == "scale":
        return np.ones(shape)
    draw = np.random.default_rng([seed, zlib.crc32(path.encode())])
    return draw.uniform(-scale, scale, shape).astype(np.float32)


@pytest.mark.parametrize("fields", CONFIGS.values(), ids=CONFIGS.keys())
def test_initial_weights_are_numpys_draws(fields):
    network = network_of(seed=4, init_scale=0.2, **fields)
    found = weights_of(network.training)
    assert len(found) == len(network.training.weights)
    assert found.keys() == weights_of(network.encoder).keys() | weights_of(network.step).keys()
    for path, value in found.items():
        np.testing.assert_array_equal(value, expected_weight(path, value.shape, 4, 0.2), err_msg=path)


def test_the_three_models_share_their_weights():
    network = network_of()
    shared = {id(weight) for weight in network.training.weights}
    assert {id(weight) for model in (network.encoder, network.step) for weight in model.weights} == shared


def test_fit_learns_to_reverse_sentences():
    draw = np.random.default_rng(6)
    source = [np.append(draw.integers(2, 6, draw.integers(1, 4)), EOS).astype(np.int32) for _ in range(120)]
    target = [np.append(ids[-2::-1], EOS).astype(np.int32) for ids in source]
    fields = dict.fromkeys([*PLAIN, "init_scale"], 0.1) | {"units": 24}  # every kind of dropout, and label smoothing
    model = build_network(config_of(**fields), 6, 6, EOS).training
    model.compile(keras.optimizers.Adam(0.02), SequenceLoss(False, False), weighted_metrics=[Perplexity()])
    x = batch(120, 4, source, target)
    options = {"sample_weight": x[3] * 3, "batch_size": 40, "epochs": 20, "verbose": 0}
    history = model.fit(list(x), x[2], **options).history
    assert 4 < history["perplexity"][0] < 7
    assert history["perplexity"][-1] < 2
    assert history["loss"][-1] < history["loss"][0] / 2
