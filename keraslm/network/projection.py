"""The choice of the layer `logits`, from hidden states to the vocabulary."""

from __future__ import annotations

import keras

from keraslm.config import ModelConfig
from keraslm.config.shapes import softmax_shapes
from keraslm.layers.adaptive import AdaptiveSoftmax
from keraslm.layers.mixture import MixtureOfSoftmaxes
from keraslm.layers.sampled import SampledSoftmax
from keraslm.layers.tied import TiedSoftmax
from keraslm.network.initializers import SeededUniform, seed_of


def projection_layer(
    config: ModelConfig, vocab_size: int, embedding: keras.layers.Embedding, seed: int = 0
) -> keras.layers.Layer:
    """The layer `logits` that a configuration asks for; its weights are those of `keraslm.runs.weights.weight_shapes`.

    Args:
        config: names the kind of softmax.
        vocab_size: V.
        embedding: the layer whose table a tied softmax uses.
        seed: of initial weights, of negatives and of masks.

    Example:
        >>> type(projection_layer(ModelConfig(softmax="adaptive", cutoffs="2000"), 10000, embedding)).__name__
        'AdaptiveSoftmax'
    """
    initializers = {
        name: SeededUniform(config.init_scale, seed, f"logits/{name}")
        for name, shape in softmax_shapes(config, vocab_size).items()
        if len(shape) > 1
    }
    own = seed_of(seed, "logits")
    if config.softmax == "adaptive":
        return AdaptiveSoftmax(vocab_size, config.cutoffs or (), initializers, name="logits")
    if config.softmax == "sampled":
        return SampledSoftmax(vocab_size, config.num_sampled, initializers["kernel"], seed=own, name="logits")
    if config.softmax == "mixture":
        return MixtureOfSoftmaxes(
            vocab_size,
            config.num_experts,
            config.embedding_size,
            embedding if config.tie_weights else None,
            dropout=config.expert_dropout,
            locked=config.locked_dropout,
            kernel_initializers=initializers,
            seed=own,
            name="logits",
        )
    if config.tie_weights:
        return TiedSoftmax(embedding, name="logits")
    return keras.layers.Dense(vocab_size, kernel_initializer=initializers["kernel"], name="logits")
