import keras
import numpy as np
import pytest

from keraslm.config import ModelConfig
from keraslm.errors import UsageError
from keraslm.network.losses import SequenceLoss
from keraslm.network.model import build_model, nats_model
from keraslm.text.stream import Windows
from keraslm.training.dataset import BatchDataset

IDS = np.random.default_rng(0).integers(0, 10, 400).astype(np.int32)


def windows():
    return Windows(IDS, batch_size=4, num_steps=3)


def small_model():
    model = nats_model(build_model(ModelConfig(num_layers=1, units=4), vocab_size=10, batch_size=4))
    model.compile("sgd", SequenceLoss())
    return model


def test_windows_come_in_order_in_each_epoch():
    dataset = BatchDataset(windows())
    assert len(dataset) == len(windows()) == 33
    for _ in range(2):
        for number, (inputs, targets) in enumerate(windows()):
            found = dataset[number]
            np.testing.assert_array_equal(found[0], [inputs, targets])  # the model's inputs
            np.testing.assert_array_equal(found[1], targets)


def test_the_first_window_may_be_requested_at_any_time():
    dataset = BatchDataset(windows())
    for index in (0, 1, 0, 1, 2, 0):
        np.testing.assert_array_equal(dataset[index][0], windows()[index])


@pytest.mark.parametrize("index", [1, 3])
def test_a_window_out_of_order_is_refused(index):
    dataset = BatchDataset(windows())
    dataset[0], dataset[1]
    with pytest.raises(UsageError, match=rf"Batch {index} was requested, but batch 2 comes next.*shuffle=False"):
        dataset[index]


def test_fit_without_shuffling_trains_on_every_window_in_each_epoch():
    seen = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    small_model().fit(BatchDataset(windows()), epochs=2, shuffle=False, verbose=0, callbacks=[count])
    assert seen == list(range(33)) * 2


def test_the_default_shuffling_of_keras_is_refused():
    """TensorFlow wraps the error in its own, which contains the message."""
    with pytest.raises(Exception, match=r"(?s)must stay in order: call fit\(\.\.\., shuffle=False\)"):
        small_model().fit(BatchDataset(windows()), verbose=0)
