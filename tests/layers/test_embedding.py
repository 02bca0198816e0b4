import keras
import numpy as np
import pytest

from keraslm.layers.embedding import Embedding
from tests.support.gradients import gradients, tensor

V, D = 9, 4
IDS = np.array([[1, 5, 1], [0, 8, 5]], np.int32)  # 1 and 5 twice
TABLE = np.random.default_rng(0).normal(size=(V, D)).astype(np.float32)


def built(**options):
    layer = Embedding(V, D, name="table", **options)
    layer.build((2, None))
    layer.embeddings.assign(TABLE)
    return layer


def test_rows_of_the_table():
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(built()(tensor(IDS))), TABLE[IDS])


@pytest.mark.parametrize("row_dropout", [0.0, 0.5])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_the_gradient_is_the_sum_over_all_places_of_a_word(backend, sparse, row_dropout):
    weights = np.random.default_rng(1).normal(size=(*IDS.shape, D)).astype(np.float32)
    expected = np.zeros((V, D), np.float32)
    layer = built(row_dropout=row_dropout, seed=2)
    layer.sparse_gradient = sparse
    np.add.at(expected, IDS, weights * factors(layer, IDS)[..., None])
    if row_dropout:  # the same mask once more
        layer.seed_generator.state.assign(built(row_dropout=row_dropout, seed=2).seed_generator.state)
    if backend == "jax":
        others = [v.value for v in layer.non_trainable_variables]
        state = lambda table: layer.stateless_call([table], others, tensor(IDS), training=True)[0]  # noqa: E731
        (found,) = gradients(lambda table: keras.ops.sum(state(table) * weights), [tensor(TABLE)])
    elif backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(IDS, training=True) * weights)
        gradient = tape.gradient(loss, layer.embeddings.value)
        assert isinstance(gradient, tf.IndexedSlices)
        found = tf.convert_to_tensor(gradient).numpy()
    else:
        (layer(tensor(IDS), training=True) * tensor(weights)).sum().backward()
        gradient = layer.embeddings.value.grad
        assert gradient.is_sparse is sparse
        found = gradient.to_dense().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def factors(layer, ids, training=True):
    """The factor on each looked-up vector, in the shape of `ids`."""
    found = keras.ops.convert_to_numpy(layer(tensor(ids), training=training)) / TABLE[ids]
    np.testing.assert_allclose(found, np.repeat(found[..., :1], D, axis=-1), rtol=1e-4)  # complete rows
    return found[..., 0]


def test_a_row_is_dropped_or_scaled_wherever_its_word_occurs():
    ids = np.random.default_rng(3).integers(0, V, (6, 40)).astype(np.int32)
    found = factors(built(row_dropout=0.25, seed=1), ids)
    per_word = [set(np.round(found[ids == word].astype(float), 3)) for word in range(V)]
    assert all(len(values) == 1 for values in per_word)
    assert set.union(*per_word) == {0.0, 1.333}


def test_each_window_drops_different_rows_and_the_mean_stays():
    layer, every = built(row_dropout=0.25, seed=1), np.arange(V, dtype=np.int32)[None]
    found = np.concatenate([factors(layer, every) for _ in range(300)])
    assert len({row.tobytes() for row in found}) > 100
    assert abs(found.mean() - 1) < 5 * np.sqrt(0.25 / 0.75 / found.size)


def test_no_row_is_dropped_without_training_or_rate_and_the_table_does_not_change():
    layer = built(row_dropout=0.5, seed=1)
    np.testing.assert_allclose(factors(layer, IDS, training=False), 1)
    np.testing.assert_allclose(factors(built(), IDS), 1)
    assert built().seed_generator is None
    factors(layer, IDS)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer.embeddings), TABLE)
