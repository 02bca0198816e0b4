import keras
import numpy as np
import pytest

from keraslm.layers.embedding import Embedding
from tests.support.gradients import gradients, tensor

V, D = 9, 4
IDS = np.array([[1, 5, 1], [0, 8, 5]], np.int32)  # 1 and 5 twice
TABLE = np.random.default_rng(0).normal(size=(V, D)).astype(np.float32)


def built():
    layer = Embedding(V, D, name="table")
    layer.build((2, None))
    layer.embeddings.assign(TABLE)
    return layer


def test_rows_of_the_table():
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(built()(tensor(IDS))), TABLE[IDS])


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_the_gradient_adds_up_the_places_of_a_word(backend, sparse):
    weights = np.random.default_rng(1).normal(size=(*IDS.shape, D)).astype(np.float32)
    expected = np.zeros((V, D), np.float32)
    np.add.at(expected, IDS, weights)
    layer = built()
    layer.sparse_gradient = sparse
    if backend == "jax":
        state = lambda table: layer.stateless_call([table], [], tensor(IDS))[0]  # noqa: E731
        (found,) = gradients(lambda table: keras.ops.sum(state(table) * weights), [tensor(TABLE)])
    elif backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(IDS) * weights)
        gradient = tape.gradient(loss, layer.embeddings.value)
        assert isinstance(gradient, tf.IndexedSlices)
        found = tf.convert_to_tensor(gradient).numpy()
    else:
        (layer(tensor(IDS)) * tensor(weights)).sum().backward()
        gradient = layer.embeddings.value.grad
        assert gradient.is_sparse is sparse
        found = gradient.to_dense().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_configuration_goes_round():
    layer = built()
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is Embedding
    assert again.get_config() == layer.get_config()
