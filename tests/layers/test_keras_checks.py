"""What Keras promises of a layer, for each layer: types, symbolic calls, saving, cloning, windows without a step."""

import keras
import numpy as np
import pytest
from keras import ops

from keraslm.config import ModelConfig
from keraslm.layers.activation_regularization import ActivationRegularization
from keraslm.layers.adaptive import AdaptiveSoftmax
from keraslm.layers.cells import StatefulGRU, StatefulMogrifierLSTM, StatefulRNN
from keraslm.layers.dropout import Dropout
from keraslm.layers.embedding import Embedding
from keraslm.layers.lstm import StatefulLSTM
from keraslm.layers.mixture import MixtureOfSoftmaxes
from keraslm.layers.projection import ProjectionCrossEntropy, TiedSoftmax
from keraslm.layers.sampled import SampledSoftmax
from keraslm.network.model import build_model, nats_model, reset_states

B, T, D, V = 2, 3, 4, 11
HIDDEN, IDS = ((B, T, D), "float32"), ((B, T), "int32")


def built(layer, shape=(B, None, D)):
    layer.build(shape)
    return layer


def table(dtype):
    return built(Embedding(V, D, name="embedding", dtype=dtype), (B, None))


PROJECTIONS = {
    "tied": lambda dtype: TiedSoftmax(table(dtype), dtype=dtype),
    "adaptive": lambda dtype: AdaptiveSoftmax(V, (3, 6), dtype=dtype),
    "sampled": lambda dtype: SampledSoftmax(V, 4, seed=1, dtype=dtype),
    "mixture": lambda dtype: MixtureOfSoftmaxes(V, 3, D, dropout=0.2, seed=1, dtype=dtype),
    "tied mixture": lambda dtype: MixtureOfSoftmaxes(V, 3, D, table(dtype), dtype=dtype),
    "dense": lambda dtype: keras.layers.Dense(V, dtype=dtype),
}
MASKS = {"recurrent_dropout": 0.2, "dropconnect": 0.2, "seed": 1}
LAYERS = {  # a function of the type, and the inputs
    "dropout": (lambda dtype: Dropout(0.5, seed=1, dtype=dtype), [HIDDEN]),
    "locked dropout": (lambda dtype: Dropout(0.5, True, seed=1, dtype=dtype), [HIDDEN]),
    "embedding": (lambda dtype: Embedding(V, D, row_dropout=0.3, seed=1, dtype=dtype), [IDS]),
    "lstm": (lambda dtype: StatefulLSTM(D, dtype=dtype, **MASKS), [HIDDEN]),
    "gru": (lambda dtype: StatefulGRU(D, dtype=dtype, **MASKS), [HIDDEN]),
    "rnn": (lambda dtype: StatefulRNN(D, dtype=dtype, **MASKS), [HIDDEN]),
    "mogrifier": (lambda dtype: StatefulMogrifierLSTM(D, 3, 2, dtype=dtype, **MASKS), [HIDDEN]),
    "regularization": (lambda dtype: ActivationRegularization(2.0, 1.0, dtype=dtype), [HIDDEN, HIDDEN]),
    **{name: (make, [HIDDEN]) for name, make in PROJECTIONS.items() if name != "dense"},
    **{
        f"cost of {name}": (
            lambda dtype, make=make: ProjectionCrossEntropy(built(make(dtype)), dtype=dtype),
            [HIDDEN, IDS],
        )
        for name, make in PROJECTIONS.items()
    },
}
every_layer = pytest.mark.parametrize(("make", "inputs"), LAYERS.values(), ids=LAYERS.keys())
POLICIES = ["mixed_bfloat16", "mixed_float16", "bfloat16", "float16", "float64"]


def single(values):
    return values[0] if len(values) == 1 else values


def data(inputs, steps=T):
    random, arrays = np.random.default_rng(0), []
    for (rows, _, *rest), dtype in inputs:
        shape = (rows, steps, *rest)
        arrays.append(random.integers(0, V, shape) if dtype == "int32" else random.normal(size=shape))
    return single([array.astype(dtype) for array, (_, dtype) in zip(arrays, inputs, strict=True)])


def symbols(inputs, kind):
    return single([kind(batch_shape=(rows, None, *rest), dtype=dtype) for (rows, _, *rest), dtype in inputs])


def model_of(layer, inputs):
    given = symbols(inputs, keras.Input)
    return keras.Model(given, layer(given))


def train(model, x, steps=T):
    if not model.trainable_weights:
        return
    model.compile("sgd", "mean_squared_error")
    for _ in range(2):
        loss = model.train_on_batch(x, np.zeros((B, steps, *model.output_shape[2:])))
        assert np.isfinite(loss) or not steps


def numbers(value):
    return np.asarray(ops.convert_to_numpy(ops.cast(value, "float32")))


def copy_weights(source, target):
    for variable, value in zip(target.weights, source.weights, strict=True):
        variable.assign(ops.cast(numbers(value), variable.dtype))


def predicted(model, x):
    reset_states(model)
    return np.asarray(model.predict_on_batch(x)).astype(np.float32)


@every_layer
@pytest.mark.parametrize("policy", POLICIES)
def test_a_layer_computes_and_stores_in_the_types_of_its_policy(make, inputs, policy, backend):
    if policy == "float64" and backend == "jax":
        pytest.skip("JAX has float64 only if it is enabled for the whole process")
    layer, plain = make(policy), make("float32")
    for either in (layer, plain):
        either.build(single([shape for shape, _ in inputs]))
    copy_weights(layer, plain)
    found, expected = layer(data(inputs)), plain(data(inputs))
    assert keras.backend.standardize_dtype(found.dtype) == layer.compute_dtype
    assert {variable.dtype for variable in layer.trainable_weights} <= {layer.variable_dtype}
    np.testing.assert_allclose(numbers(found), numbers(expected), atol=0.1)
    trained = layer(data(inputs), training=True)
    assert keras.backend.standardize_dtype(trained.dtype) == layer.compute_dtype
    assert np.isfinite(numbers(trained)).all()
    (spec,) = keras.tree.flatten(layer.compute_output_spec(symbols(inputs, keras.Input)))
    assert spec.dtype == layer.compute_dtype and spec.shape == (B, None, *found.shape[2:])
    shapes = single([symbol.shape for symbol in keras.tree.flatten(symbols(inputs, keras.Input))])
    assert tuple(layer.compute_output_shape(shapes)) == spec.shape


@every_layer
def test_a_layer_trains_in_a_mixed_policy_and_is_saved(make, inputs, tmp_path):
    model, x = model_of(make("mixed_bfloat16"), inputs), data(inputs)
    train(model, x)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(predicted(again, x), predicted(model, x))


@every_layer
def test_a_window_without_a_step_gives_no_output_and_keeps_the_state(make, inputs):
    layer = make("float32")
    layer(data(inputs))
    states = [numbers(variable) for variable in getattr(layer, "state_variables", [])]
    for training in (False, True):
        assert layer(data(inputs, 0), training=training).shape[:2] == (B, 0)
    for before, variable in zip(states, getattr(layer, "state_variables", []), strict=True):
        np.testing.assert_array_equal(numbers(variable), before)
    model = model_of(layer, inputs)
    assert model.predict_on_batch(data(inputs, 0)).shape[1] == 0
    train(model, data(inputs, 0), steps=0)  # in a compiled step, which may know only one of the axes


@every_layer
def test_a_layer_and_a_clone_are_the_same_after_their_configuration(make, inputs):
    model, x = model_of(make("float32"), inputs), data(inputs)
    clone = keras.models.clone_model(model)
    assert [v.path for v in clone.weights] == [v.path for v in model.weights]
    copy_weights(model, clone)
    np.testing.assert_array_equal(predicted(clone, x), predicted(model, x))


TIED = [ModelConfig(units=D, tie_weights=True), ModelConfig(units=D, tie_weights=True, softmax="mixture")]


@pytest.mark.parametrize("config", TIED, ids=["tied", "tied mixture"])
@pytest.mark.parametrize("prepare", [lambda model: model, nats_model], ids=["logits", "nats"])
@pytest.mark.parametrize("way", ["clone", "save"])
def test_tied_weights_stay_tied_in_a_copy_of_a_model(config, prepare, way, tmp_path):
    model = prepare(build_model(config, V, B))
    if way == "clone":
        copy = keras.models.clone_model(model)
    else:
        model.save(tmp_path / "model.keras")
        copy = keras.models.load_model(tmp_path / "model.keras")
    assert [v.path for v in copy.weights] == [v.path for v in model.weights]
    copy_weights(model, copy)
    x = [np.arange(B * T, dtype=np.int32).reshape(B, T)] * len(model.inputs)
    x = single(x)
    np.testing.assert_array_equal(predicted(copy, x), predicted(model, x))
    copy.get_layer("embedding").embeddings.assign(np.ones((V, D)))
    last = getattr(copy.layers[-1], "projection", copy.layers[-1])
    assert last.embedding is copy.get_layer("embedding") is not model.get_layer("embedding")


def test_a_model_tied_to_an_embedding_outside_its_graph_is_copied_with_it():
    model = model_of(TiedSoftmax(table("float32"), name="logits"), [HIDDEN])
    clone = keras.models.clone_model(model)
    assert clone.get_layer("logits").embedding is not model.get_layer("logits").embedding
    assert clone.count_params() == model.count_params() == V * D + V
