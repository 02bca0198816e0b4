import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keraslm.config import ModelConfig
from keraslm.layers.lstm import StatefulLSTM
from keraslm.network.model import build_model, nats_model, reset_states
from keraslm.text.context import ends_context
from keraslm.text.epochs import EpochStream
from keraslm.text.stream import EveryToken, Windows
from keraslm.training.train import train_run
from tests.support.gradients import gradients, tensor

# 0 is the end symbol: paragraphs of two lines and of one line, then an unfinished one.
IDS = np.array([5, 6, 0, 7, 0, 0, 8, 9, 5, 0, 0, 6, 0], np.int32)
kinds = pytest.mark.parametrize("context", ["sentence", "paragraph"])
streams = st.lists(st.integers(0, 3), min_size=40, max_size=120).map(lambda ids: np.array(ids, np.uint16))


def ends_by_hand(ids, context):
    """Positions after each closed sentence or paragraph."""
    ends, before = [], 0
    for place, token in enumerate(ids):
        if token == 0 and (context == "sentence" or before == 0):
            ends.append(place + 1)
        before = token
    return ends


def parts_of(ids, context):
    return [tuple(part.tolist()) for part in np.split(ids, ends_by_hand(ids, context))]


def test_where_sentences_and_paragraphs_end():
    before = np.concatenate([[0], IDS[:-1]])
    assert np.flatnonzero(ends_context(IDS, before, 0, "sentence")).tolist() == [2, 4, 5, 9, 10, 12]
    assert np.flatnonzero(ends_context(IDS, before, 0, "paragraph")).tolist() == [5, 10]
    assert not ends_context(IDS, before, 0, "document").any()


@kinds
@given(ids=streams, num_steps=st.integers(1, 9))
def test_every_token_resets_before_the_first_input_of_a_part(context, ids, num_steps):
    windows = EveryToken(ids, 0, num_steps, context=context)
    resets = np.concatenate([window[2] for window in windows], axis=1)[0]
    inputs = np.concatenate([window[0] for window in windows], axis=1)[0]
    assert (inputs[resets] == 0).all()
    assert [place for place in np.flatnonzero(resets) if place] == [
        e for e in ends_by_hand(ids, context) if e < len(ids)
    ]


@kinds
@given(ids=streams, batch_size=st.integers(1, 4), num_steps=st.integers(1, 9))
def test_windows_reset_where_the_stream_does(context, ids, batch_size, num_steps):
    windows = Windows(ids, batch_size, num_steps, context=context, eos_id=0)
    assert len(windows) == len(Windows(ids, batch_size, num_steps))  # no padding
    resets = np.concatenate([window[2] for window in windows], axis=1)
    ends, length = set(ends_by_hand(ids, context)), len(ids) // batch_size
    for row in range(batch_size):
        for step in range(1, resets.shape[1]):  # a row always starts from zeros
            assert resets[row, step] == (row * length + step + 1 in ends)


@kinds
@given(ids=streams, seed=st.integers(0, 99), epoch=st.integers(0, 5))
def test_shuffling_only_changes_the_order(context, ids, seed, epoch):
    stream = EpochStream(ids, 0, context, seed)
    stream.set_epoch(epoch)
    shuffled = stream.take(np.arange(len(ids)))
    *before, last_before = parts_of(ids, context)
    *after, last_after = parts_of(shuffled, context)
    assert sorted(after) == sorted(before) and last_after == last_before
    again = EpochStream(ids, 0, context, seed)
    again.set_epoch(epoch)
    places = np.random.default_rng(1).permutation(len(ids))
    np.testing.assert_array_equal(again.take(places), shuffled[places])


def test_every_epoch_and_seed_has_its_own_order():
    ids = np.stack([np.arange(1, 101), np.zeros(100)], axis=1).ravel().astype(np.int32)
    orders = set()
    for seed in (1, 2):
        stream = EpochStream(ids, 0, "sentence", seed)
        for epoch in (0, 1):
            stream.set_epoch(epoch)
            orders.add(tuple(stream.take(np.arange(200)).tolist()))
    assert len(orders) == 4


# In the network


def network(resets=True):
    return nats_model(build_model(ModelConfig(num_layers=2, units=5, init_scale=0.8), 12, 1, seed=2, resets=resets))


def costs_of(model, ids, num_steps, context):
    reset_states(model)
    windows = EveryToken(ids, 0, num_steps, context=context)
    return np.concatenate([ops.convert_to_numpy(model([tensor(part) for part in w])) for w in windows], axis=1)[0]


@kinds
@pytest.mark.parametrize("num_steps", [3, 13])
def test_a_part_costs_the_same_together_and_alone(context, num_steps):
    model, carrying = network(), network(resets=False)
    ends = ends_by_hand(IDS, context)
    together = costs_of(model, IDS, num_steps, context)
    for part, start in zip(np.split(IDS, ends), [0, *ends], strict=True):
        if len(part):
            alone = costs_of(model, part, num_steps, context)
            np.testing.assert_allclose(alone, together[start : start + len(part)], rtol=1e-5)
    assert (costs_of(carrying, IDS, num_steps, "document")[ends[0] :] != together[ends[0] :]).all()


def test_gradients_do_not_cross_a_boundary():
    """The cost of the second part has a gradient of zero with respect to the first, in the middle of a window."""
    layer = StatefulLSTM(4, product_dtype="float32")
    x = np.random.default_rng(0).normal(size=(2, 8, 3)).astype(np.float32)
    layer.build(x.shape)
    resets = np.zeros((2, 8), bool)
    resets[0, 5] = resets[1, 2] = True  # a different step in each row

    def cost(inputs, rows):
        layer.reset_state()
        outputs = layer(inputs, resets=tensor(resets) if rows else None)
        return ops.sum(outputs[0, 5:] ** 2) + ops.sum(outputs[1, 2:] ** 2)

    (with_resets,), (without,) = (gradients(lambda a, rows=rows: cost(a, rows), [tensor(x)]) for rows in (True, False))
    assert (with_resets[0, :5] == 0).all() and (with_resets[1, :2] == 0).all()
    assert (with_resets[0, 5:] != 0).all() and (with_resets[1, 2:] != 0).all()
    assert (without[0, :5] != 0).all() and (without[1, :2] != 0).all()


def test_shuffled_training_is_reproducible_and_differs_from_the_text_order(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    losses = []
    for number, shuffle in enumerate((True, True, False)):
        changed = config.replace(epochs=1, log_every=None, context="sentence", shuffle=shuffle)
        run = train_run(changed, tmp_path / str(number), verbose=0, log=lambda line: None)
        losses.append(run.epochs()[0]["loss"])
    assert losses[0] == losses[1] != losses[2]


def test_windows_follow_the_order_of_their_epoch():
    ids = np.stack([np.arange(1, 41), np.zeros(40)], axis=1).ravel().astype(np.int32)
    windows = Windows(ids, 2, 5, context="sentence", eos_id=0, shuffle_seed=3)
    first = windows[0][0].tolist()
    windows.set_epoch(1)
    second = windows[0][0].tolist()
    windows.set_epoch(0)
    assert windows[0][0].tolist() == first != second
