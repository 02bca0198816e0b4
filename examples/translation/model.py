"""The network: a model that is trained, and the two models that translate, which share its layers.

Shapes: `B` sentences, `S` source tokens, `T` target tokens, `E` embeddings, `H` units, `V` target vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from examples.translation.config import TranslationConfig, TranslationModel
from keraslm.layers.attention import CLOSED, AttentionDecoder, attention_shapes
from keraslm.layers.dropout import Dropout
from keraslm.layers.embedding import Embedding
from keraslm.layers.label_smoothing import LabelSmoothing
from keraslm.layers.padded import PaddedLSTM
from keraslm.layers.projection import ProjectionCrossEntropy, TiedSoftmax
from keraslm.network.parts import SeededUniform, seed_of


@dataclass(frozen=True)
class Network:
    """Three models on the same layers.

    Attributes:
        training: from `[source (B, S), lengths (B,), targets (B, T), weights (B, T)]` to nats, `(B, T)`.
        encoder: from `[source, lengths]` to the list of memory and state: keys and memory `(B, S, H)` and closed
            `(B, S)` with attention; then the state of the decoder, `(B, H)` each.
        step: from `[token (B,), *memory, *state]` to `[log_probs (B, V), *state, weights (B, S)]`; no weights without
            attention.
    """

    training: keras.Model
    encoder: keras.Model
    step: keras.Model


class Parts:
    """The layers of a network. Without attention, the decoder is a stack of LSTMs from the encoder's state on."""

    def __init__(self, config: TranslationModel, source_size: int, target_size: int, eos: int, seed: int = 0):
        self.config, self.eos, self.seed = config, eos, seed
        self.source = self._embedding("source_embedding", source_size)
        self.target = self._embedding("target_embedding", target_size)
        encoders = {"forward": False, "backward": True} if config.bidirectional else {"forward": False}
        units, layers = config.units // len(encoders), range(config.num_layers)
        self.encoder = [
            [self._lstm(f"encoder_{number}_{name}", units, reverse) for name, reverse in encoders.items()]
            for number in layers
        ]
        self.lstms = [self._lstm(f"decoder_{number}", config.units) for number in layers]
        if config.attention != "none":
            kernel = self._uniform("keys/kernel")
            self.keys = keras.layers.Dense(config.units, use_bias=False, kernel_initializer=kernel, name="keys")
            self.decoder = self._attention_decoder()
        kernel = self._uniform("logits/kernel")
        self.logits: keras.layers.Layer = keras.layers.Dense(target_size, kernel_initializer=kernel, name="logits")
        if config.tie_weights:
            self.logits = TiedSoftmax(self.target, name="logits")

    def _uniform(self, name: str) -> SeededUniform:
        return SeededUniform(self.config.init_scale, self.seed, name)

    def _attention_decoder(self) -> AttentionDecoder:
        config, seed = self.config, seed_of(self.seed, "decoder")
        sizes = config.units, config.embeddings, config.num_layers, config.attention
        matrices = {name for name, shape in attention_shapes(*sizes).items() if len(shape) > 1} | {"energy"}
        uniforms = {name: self._uniform(f"decoder/{name}") for name in matrices}
        rest = config.num_layers, config.attention, config.decoder_dropout, config.forget_bias, uniforms, seed
        return AttentionDecoder(config.units, *rest, name="decoder")

    def _embedding(self, name: str, size: int) -> Embedding:
        return Embedding(size, self.config.embeddings, self._uniform(f"{name}/embeddings"), name=name)

    def _lstm(self, name: str, units: int, reverse: bool = False) -> PaddedLSTM:
        uniforms = (self._uniform(f"{name}/{weight}") for weight in ("kernel", "recurrent_kernel"))
        return PaddedLSTM(units, reverse, self.config.forget_bias, *uniforms, name=name)

    def _dropout(self, x: Any, rate: float, name: str) -> Any:
        return Dropout(rate, seed=seed_of(self.seed, name), name=name)(x) if rate else x

    def encode(self, source: Any, lengths: Any) -> tuple[list[Any], list[Any]]:
        """The memory, empty without attention, and the first state of the decoder."""
        config, states = self.config, []
        padding = Padding(name="padding")([source, lengths])  # [B, S]
        x = self._dropout(self.source(source), config.embedding_dropout, "source_dropout")
        for number, directions in enumerate(self.encoder):
            outputs, *last = zip(*(layer(x, padding) for layer in directions), strict=True)
            x, *state = (parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1) for parts in (outputs, *last))
            x = self._dropout(x, config.encoder_dropout, f"encoder_dropout_{number}")
            states += state
        if config.attention == "none":
            return [], states
        closed, nothing = padding * CLOSED, ops.zeros_like(states[0])
        return [self.keys(x), x, closed], [nothing, *states]

    def decode(self, inputs: Any, memory: list[Any], state: list[Any]) -> tuple[Any, list[Any], list[Any]]:
        """Hidden states before the softmax, `(B, T, H)`, the next state, and the weights of the last step, if any."""
        x = self._dropout(self.target(inputs), self.config.embedding_dropout, "target_dropout")
        if self.config.attention != "none":
            x, state, weights = self.decoder(x, memory, state)
            return self._dropout(x, self.config.decoder_dropout, "decoder_dropout"), state, [weights]
        found = []
        for number, layer in enumerate(self.lstms):
            x, *last = layer(x, None, state[2 * number : 2 * number + 2])
            x = self._dropout(x, self.config.decoder_dropout, f"decoder_dropout_{number}")
            found += last
        return x, found, []


@keras.saving.register_keras_serializable(package="keraslm")
class Padding(keras.layers.Layer):
    """From `[source (B, S), lengths (B,)]` to float `(B, S)`, 1 after the end of a sentence."""

    def call(self, inputs: Any) -> Any:
        source, lengths = inputs
        return ops.cast(ops.arange(ops.shape(source)[1])[None] >= lengths[:, None], "float32")

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor(inputs[0].shape)


def build_network(config: TranslationConfig, source_size: int, target_size: int, eos: int) -> Network:
    """Build the models of a configuration; `eos` is the end symbol of the target, which also begins a sentence."""
    parts = Parts(config.model, source_size, target_size, eos, config.train.seed)
    source = keras.Input((None,), dtype="int32", name="source")
    lengths = keras.Input((), dtype="int32", name="lengths")
    memory, state = parts.encode(source, lengths)
    encoder = keras.Model([source, lengths], [*memory, *state], name="encoder")

    targets = keras.Input((None,), dtype="int32", name="targets")
    weights = keras.Input((None,), name="weights")
    first = ops.full_like(targets[:, :1], eos)
    hidden, _, _ = parts.decode(ops.concatenate([first, targets[:, :-1]], axis=1), memory, state)
    parts.logits(hidden)  # builds it
    if config.model.label_smoothing:
        smoothing = LabelSmoothing(config.model.label_smoothing, parts.logits, name="label_smoothing")
        hidden = smoothing([hidden, targets, weights])
    nats = ProjectionCrossEntropy(parts.logits, config.train.dtype, name="cross_entropy")([hidden, targets])
    training = keras.Model([source, lengths, targets, weights], nats, name="translation")

    token = keras.Input((), dtype="int32", name="token")
    memory, state = ([keras.Input(x.shape[1:], name=f"{name}_{number}") for number, x in enumerate(tensors)]
                     for name, tensors in (("memory", memory), ("state", state)))  # fmt: skip
    hidden, after, seen = parts.decode(token[:, None], memory, state)
    log_probs = ops.log_softmax(parts.logits(hidden)[:, 0])
    step = keras.Model([token, *memory, *state], [log_probs, *after, *seen], name="step")
    return Network(training, encoder, step)
