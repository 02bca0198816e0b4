"""Build and compile a model that is ready for `fit()`: loss, optimizer, regularization, metric."""

from __future__ import annotations

import keras

from keraslm.config import Config, ModelConfig, TrainConfig
from keraslm.config.shapes import frozen_weights
from keraslm.layers.activation_regularization import ActivationRegularization
from keraslm.network.losses import SequenceLoss
from keraslm.network.metrics import Mean, Perplexity
from keraslm.network.model import build_model, nats_model
from keraslm.optimizers.clipped import ClippedAdamW, ClippedOptimizer, ClippedSGD


def compiled_model(config: Config, vocab_size: int, windows: int | None = None, replicas: int = 1) -> keras.Model:
    """Build the nats model of a configuration and compile it with its loss, optimizer and metric.

    Args:
        config: if it accumulates gradients, a step of the model reads a part of the rows of a window.
        vocab_size: V.
        windows: number of windows per epoch; needed if the learning rate changes within an epoch.
        replicas: number of replicas among which the rows are divided further.
    """
    train = config.train
    resets = config.data.context != "document"
    shares = replicas * train.accumulate
    options = train.seed, train.dtype, resets, train.accumulate
    network = build_model(config.model, vocab_size, train.batch_size // shares, *options)
    frozen = frozen_weights(config.model, config.transfer.freeze or ())
    for variable in network.weights:
        if variable.path in frozen:
            variable.trainable = False
    model = nats_model(network, train.dtype, _regularization(train, shares))
    optimizer = make_optimizer(train, windows)
    loss = SequenceLoss(train.average_across_timesteps, train.average_across_batch, shares)
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
    """Compile the result of `nats_model` in the way that is fastest on this backend.

    `network` is the result of `build_model`; `optimizer` has the attribute `takes_sparse_gradients`.
    """
    # The gradient of a table that is also the kernel of the softmax is not sparse.
    sparse = optimizer.takes_sparse_gradients and not config.tie_weights
    for layer in (network.get_layer("embedding"), network.get_layer("logits")):
        layer.sparse_gradient = sparse
    compile_nats(model, optimizer, loss, metric)


def compile_nats(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    loss: keras.losses.Loss,
    metric: keras.metrics.Metric,
) -> None:
    """Compile a model whose output is the nats of each target; `metric` counts them with the weights of `fit()`."""
    # Without XLA, TensorFlow multiplies with oneDNN, on a CPU twice as fast at 650 units (benchmarks/README.md).
    jit = False if keras.backend.backend() == "tensorflow" else "auto"
    model.compile(optimizer=optimizer, loss=loss, weighted_metrics=[metric], jit_compile=jit)
    # Keras' own mean of the losses drifts on large texts. Set without `Layer.__setattr__`, which would list it twice.
    object.__setattr__(model, "_loss_tracker", Mean("loss"))


def make_optimizer(train: TrainConfig, windows: int | None) -> ClippedOptimizer:
    """Make the optimizer of a configuration; `windows` is the number of steps per epoch, as in `compiled_model`."""
    windows = windows if train.rate_varies_within_epoch else None
    shared = train.learning_rate, train.clip_norm, train.weight_decay, windows, train.averages, train.accumulate
    if train.optimizer == "sgd":
        return ClippedSGD(*shared)
    return ClippedAdamW(*shared, beta_1=train.beta_1, beta_2=train.beta_2)


def _regularization(train: TrainConfig, shares: int) -> keras.layers.Layer | None:
    factors = train.activation_regularization, train.temporal_regularization
    if not any(factors):
        return None
    sums = not train.average_across_timesteps, not train.average_across_batch
    return ActivationRegularization(*factors, *sums, shares, name="activation_regularization")
