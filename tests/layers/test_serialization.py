"""Layers, losses and initializers are the same after serialization by Keras."""

import keras
import pytest

from keraslm.layers.activation_regularization import ActivationRegularization
from keraslm.layers.adaptive import AdaptiveSoftmax
from keraslm.layers.cells import StatefulGRU, StatefulMogrifierLSTM, StatefulRNN
from keraslm.layers.dropout import Dropout
from keraslm.layers.embedding import Embedding
from keraslm.layers.lstm import StatefulLSTM
from keraslm.layers.mixture import MixtureOfSoftmaxes
from keraslm.layers.projection import ProjectionCrossEntropy, TiedSoftmax
from keraslm.layers.sampled import SampledSoftmax
from keraslm.network.losses import SequenceLoss
from keraslm.network.parts import SeededUniform

DRAW = SeededUniform(0.1, 3, "a/kernel")
CELL = {"recurrent_dropout": 0.25, "dropconnect": 0.1, "kernel_initializer": DRAW, "seed": 7, "name": "memory"}
KERNEL = {"kernel_initializers": {"kernel": DRAW}}
TABLE = Embedding(11, 4, row_dropout=0.3, seed=5, name="embedding")
OBJECTS = [
    ActivationRegularization(2.0, 1.0, True, False, name="own"),
    Dropout(0.25, False, seed=7, name="drop"),
    Dropout(0.25, True, seed=7),
    TABLE,
    StatefulLSTM(6, forget_bias=0.5, recurrent_initializer="zeros", **CELL),
    StatefulGRU(6, **CELL),
    StatefulRNN(6, **CELL),
    StatefulMogrifierLSTM(6, rounds=4, rank=2, mogrifier_initializers={"mogrifier_1": DRAW}, **CELL),
    StatefulLSTM(6, input_gate="tied", **CELL),
    MixtureOfSoftmaxes(11, 3, 4, None, 0.25, True, seed=7, **KERNEL),
    MixtureOfSoftmaxes(11, 3, 4, TABLE, **KERNEL),
    AdaptiveSoftmax(11, (3, 6), **KERNEL),
    SampledSoftmax(11, 4, seed=7, **KERNEL),
    TiedSoftmax(TABLE, name="logits"),
    ProjectionCrossEntropy(keras.layers.Dense(11, name="logits"), product_dtype="bfloat16", name="cost"),
    SequenceLoss(average_across_timesteps=True, average_across_batch=False, name="nats"),
    DRAW,
]


@pytest.mark.parametrize("made", OBJECTS, ids=lambda made: type(made).__name__)
def test_an_object_is_the_same_after_serialization(made):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
    assert type(again) is type(made) and again.get_config() == made.get_config()
