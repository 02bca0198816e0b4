"""An update from the gradients of the parts of a batch is the update from the whole batch."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from keraslm.errors import ConfigError
from keraslm.network.compile import compiled_model
from keraslm.network.model import stateful_layers
from keraslm.text.stream import Windows
from keraslm.training.dataset import BatchDataset, fit_from
from keraslm.training.progress import UnreadLogs
from keraslm.training.rows import Rows

CASES = {
    "sgd": {"optimizer": "sgd", "weight_decay": 0.1, "nonmonotone_interval": 1},
    "adamw, summed over rows": {"optimizer": "adamw", "learning_rate": 0.01, "average_across_batch": False},
}
IDS = np.random.default_rng(1).integers(0, 9, 110)
PLAIN = {"embedding_dropout": 0.0, "recurrent_dropout": 0.0, "output_dropout": 0.0, "batch_size": 6, "num_steps": 5}


def trained(config, corpus, parts):
    """The variables of a model after three windows."""
    tokenizer = corpus[0]
    config = config.replace(**PLAIN, num_layers=1, accumulate=parts, clip_norm=0.3)
    model = compiled_model(config, tokenizer.vocab_size)
    windows = Windows(IDS, 6, 5)
    callbacks = UnreadLogs([], add_history=True, model=model)
    callbacks.parts = parts
    fit_from(model, windows, None, 1, callbacks, rows=Rows(6, parts=parts))
    rows = Rows(6, parts=parts)
    states = [rows.in_order(ops.convert_to_numpy(v)) for v in stateful_layers(model)[0].state_variables]
    weights = [ops.convert_to_numpy(v) for v in model.trainable_variables]
    counts = [model.optimizer.value_of(name) for name in ("iterations", "finite_steps")]
    return weights, states, counts, float(model.get_metrics_result()["loss"]), model


@pytest.mark.parametrize("case", CASES)
def test_parts_make_the_update_of_the_whole(config, corpus, case):
    config = config.replace(**CASES[case])
    weights, states, counts, loss, _ = trained(config, corpus, 1)
    for parts in (2, 6):
        found = trained(config, corpus, parts)
        for own, other in zip((*found[0], *found[1]), (*weights, *states), strict=True):
            np.testing.assert_allclose(own, other, rtol=1e-5, atol=1e-6)
        assert found[2] == counts and found[3] == pytest.approx(loss, rel=1e-6)
        optimizer = found[4].optimizer
        assert optimizer.value_of("part") == 0
        assert all(not ops.convert_to_numpy(total).any() for total in optimizer.sums)


def test_the_sum_is_that_of_the_gradients_so_far(config, corpus):
    tokenizer = corpus[0]
    config = config.replace(**PLAIN, num_layers=1, accumulate=3)
    model = compiled_model(config, tokenizer.vocab_size)
    before = [ops.convert_to_numpy(v).copy() for v in model.trainable_variables]
    data = BatchDataset(Windows(IDS, 6, 5), rows=Rows(6, parts=3))
    for part in range(2):
        model.train_on_batch(*data[part])
    assert model.optimizer.value_of("part") == 2 and model.optimizer.value_of("iterations") == 0
    after = [ops.convert_to_numpy(v) for v in model.trainable_variables]
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    assert all(ops.convert_to_numpy(total).any() for total in model.optimizer.sums)


def test_parts_must_divide_the_rows(config):
    with pytest.raises(ConfigError, match="`accumulate` is 4, which does not divide `batch_size`, 6"):
        config.replace(batch_size=6, accumulate=4)
