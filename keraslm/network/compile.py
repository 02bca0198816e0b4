"""From a configuration to a model that `fit()` can train: loss, optimizer, regularization, metric."""

from __future__ import annotations

import keras

from keraslm.config import Config, ModelConfig, TrainConfig
from keraslm.layers.activation_regularization import ActivationRegularization
from keraslm.network.losses import SequenceLoss
from keraslm.network.metrics import Perplexity
from keraslm.network.model import build_model, nats_model
from keraslm.optimizers.adamw import ClippedAdamW
from keraslm.optimizers.base import ClippedOptimizer
from keraslm.optimizers.sgd import ClippedSGD


def compiled_model(config: Config, vocab_size: int, windows: int | None = None) -> keras.Model:
    """The nats model of a configuration, compiled with the recipe's loss, clipping, optimizer and metric.

    Args:
        config: of the run.
        vocab_size: V.
        windows: of an epoch; needed where the learning rate changes within one.
    """
    train = config.train
    resets = config.data.context != "document"
    network = build_model(config.model, vocab_size, train.batch_size, train.seed, train.dtype, resets)
    model = nats_model(network, train.dtype, _regularization(train))
    optimizer = _optimizer(train, windows if train.rate_varies_within_epoch else None)
    loss = SequenceLoss(train.average_across_timesteps, train.average_across_batch)
    compile_model(model, network, config.model, optimizer, loss, Perplexity())
    return model


def compile_model(
    model: keras.Model,
    network: keras.Model,
    config: ModelConfig,
    optimizer: keras.optimizers.Optimizer,
    loss: keras.losses.Loss,
    metric: keras.metrics.Metric,
) -> None:
    """Compile a model of `nats_model` in the way that is fastest on this backend.

    Args:
        model: that is trained.
        network: of `build_model`, whose layers it has.
        config: of the network.
        optimizer: says by `takes_sparse_gradients` whether the gradient of a table may list its rows.
        loss, metric: of the model.
    """
    # The gradient of a table that is the softmax's kernel too has a part for every row.
    sparse = optimizer.takes_sparse_gradients and not config.tie_weights
    for layer in (network.get_layer("embedding"), network.get_layer("logits")):
        layer.sparse_gradient = sparse
    # Without XLA TensorFlow multiplies with oneDNN, on a CPU twice as fast at 650 units; see benchmarks/README.md.
    jit = False if keras.backend.backend() == "tensorflow" else "auto"
    model.compile(optimizer=optimizer, loss=loss, metrics=[metric], jit_compile=jit)


def _optimizer(train: TrainConfig, windows: int | None) -> ClippedOptimizer:
    averaging = train.nonmonotone_interval is not None
    shared = train.learning_rate, train.clip_norm, train.weight_decay, windows, averaging
    return ClippedAdamW(*shared, train.beta_1, train.beta_2) if train.optimizer == "adamw" else ClippedSGD(*shared)


def _regularization(train: TrainConfig) -> keras.layers.Layer | None:
    factors = train.activation_regularization, train.temporal_regularization
    if not any(factors):
        return None
    sums = not train.average_across_timesteps, not train.average_across_batch
    return ActivationRegularization(*factors, *sums, name="activation_regularization")
