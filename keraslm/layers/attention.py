"""Decoder with attention to a memory. Shapes: `B` rows, `S` positions, `T` steps, `E` inputs, `H` units, `L` layers."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keraslm.layers import Configured
from keraslm.layers.dropout import mask_like
from keraslm.layers.kernels.dispatch import scan
from keraslm.layers.recurrent import forget_gate_bias, lstm_step

CLOSED = -1e9  # added to the score of a padded position, whose weight is then 0
ATTENTIONS = ("luong", "scaled_luong", "bahdanau")


@keras.saving.register_keras_serializable(package="keraslm")
class AttentionDecoder(Configured):
    """Stacked LSTMs with attention and input feeding; one step, with `[x; y]` for concatenation:

        h_0 = LSTM_0([x; a])                                 # a: attentional vector of the previous step, (B, H)
        h_l = LSTM_l(h_(l-1))                                # (B, H)
        score = h . keys                                     # luong: keys = memory @ W
                scale * h . keys                             # scaled_luong
                energy . tanh(h @ query + keys)              # bahdanau
        weights = softmax(score + closed)                    # (B, S); closed is -1e9 at padded positions
        a = tanh([weights . memory; h] @ combine)            # (B, H)

    Args:
        units: H, also of the memory.
        num_layers: L.
        attention: "luong", "scaled_luong" or "bahdanau".
        dropout: rate on the output of each LSTM below the last, with one mask for all steps of a call.
        forget_bias: initial bias of the forget gates.
        kernel_initializers: initializer of each matrix by the name of the weight; Glorot's by default.
        seed: of the dropout masks.

    Call arguments:
        inputs: `(B, T, E)`.
        memory: list of keys `(B, S, H)`, memory `(B, S, H)` and closed `(B, S)`.
        state: list of a, then h and c of each layer, `(B, H)` each.

    Returns:
        a after each step, `(B, T, H)`; the state after the last step; and its weights `(B, S)`.

    Weights: those of `attention_shapes`.

    Example:
        >>> memory = [ops.ones((2, 7, 8)), ops.ones((2, 7, 8)), ops.zeros((2, 7))]
        >>> outputs, state, weights = AttentionDecoder(8)(ops.ones((2, 5, 3)), memory, [ops.zeros((2, 8))] * 3)
        >>> outputs.shape, weights.shape
        ((2, 5, 8), (2, 7))

    References: Luong, Pham and Manning 2015, arXiv:1508.04025; Bahdanau, Cho and Bengio 2015, arXiv:1409.0473.
    """

    ARGUMENTS = ("units", "num_layers", "attention", "dropout", "forget_bias", "kernel_initializers", "seed")

    def __init__(
        self,
        units: int,
        num_layers: int = 1,
        attention: str = "scaled_luong",
        dropout: float = 0.0,
        forget_bias: float = 1.0,
        kernel_initializers: dict[str, Any] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if attention not in ATTENTIONS:
            raise ValueError(f"`attention` is {attention!r}, but must be one of {', '.join(ATTENTIONS)}.")
        self.units, self.num_layers, self.attention, self.dropout = units, num_layers, attention, dropout
        self.forget_bias, self.kernel_initializers, self.seed = forget_bias, kernel_initializers or {}, seed
        self.seed_generator = keras.random.SeedGenerator(seed) if dropout and num_layers > 1 else None

    def build(self, inputs_shape: Any, memory_shape: Any = None, state_shape: Any = None) -> None:
        shapes = attention_shapes(self.units, inputs_shape[-1], self.num_layers, self.attention)
        added = {name: self._add(name, shape) for name, shape in shapes.items()}
        self.cells = [
            [added[f"{part}_{number}"] for part in ("kernel", "recurrent_kernel", "bias")]
            for number in range(self.num_layers)
        ]
        self.combine = added["combine"]
        self.scale, self.query, self.energy = (added.get(name) for name in ("scale", "query", "energy"))

    def _add(self, name: str, shape: tuple[int, ...]) -> keras.Variable:
        default = {"bias": forget_gate_bias(self.forget_bias), "scale": "ones"}.get(
            name.split("_")[0], "glorot_uniform"
        )
        return self.add_weight(shape, self.kernel_initializers.get(name, default), name=name)

    def call(self, inputs: Any, memory: Any, state: Any, training: bool = False) -> Any:
        keys, values, closed = memory
        masks = [None] * self.num_layers
        if training and self.seed_generator is not None:
            masks = [mask_like(state[0], self.dropout, self.seed_generator) for _ in masks]  # the last one is unused
        cells = [tuple(map(ops.convert_to_tensor, cell)) for cell in self.cells]
        size = inputs.shape[-1]
        (kernel, recurrent, bias), *upper = cells
        projected = ops.matmul(inputs, kernel[:size]) + bias  # for all steps in one product
        lowest = ops.concatenate([kernel[size:], recurrent])

        def step(state: Any, x: Any) -> Any:
            attentional, states, found = state[0], state[1:-1], list[Any]()
            z = x + ops.concatenate([attentional, states[0]], axis=1) @ lowest
            for number in range(self.num_layers):
                if number:
                    below = found[-2] if masks[number - 1] is None else found[-2] * masks[number - 1]
                    kernel, recurrent, bias = upper[number - 1]
                    z = below @ kernel + states[2 * number] @ recurrent + bias
                found += lstm_step(z, states[2 * number + 1])
            h = found[-2]
            weights = ops.softmax(self.score(h, keys) + closed)
            context = ops.einsum("bs,bsh->bh", weights, values)
            return ops.tanh(ops.concatenate([context, h], axis=1) @ self.combine), *found, weights

        outputs, (*state, weights) = scan(step, (*state, ops.zeros_like(closed)), projected)
        return outputs, state, weights

    def score(self, h: Any, keys: Any) -> Any:
        """The score of each source position, `(B, S)`, for the output h of the highest LSTM, `(B, H)`."""
        if self.attention == "bahdanau":
            return ops.einsum("bsh,h->bs", ops.tanh((h @ self.query)[:, None] + keys), self.energy)
        scores = ops.einsum("bh,bsh->bs", h, keys)
        return scores * self.scale if self.attention == "scaled_luong" else scores

    def compute_output_spec(self, inputs: Any, memory: Any, state: Any, training: bool = False) -> Any:
        batch, steps, _ = inputs.shape
        outputs = keras.KerasTensor((batch, steps, self.units))
        return outputs, [keras.KerasTensor((batch, self.units)) for _ in state], keras.KerasTensor(memory[2].shape)


def attention_shapes(units: int, inputs: int, num_layers: int, attention: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights of an `AttentionDecoder`, by name."""
    shapes: dict[str, tuple[int, ...]] = {}
    for number in range(num_layers):
        below = units if number else inputs + units
        shapes |= {f"kernel_{number}": (below, 4 * units), f"recurrent_kernel_{number}": (units, 4 * units)}
        shapes[f"bias_{number}"] = (4 * units,)
    shapes["combine"] = (2 * units, units)
    if attention == "scaled_luong":
        shapes["scale"] = (1,)
    elif attention == "bahdanau":
        shapes |= {"query": (units, units), "energy": (units,)}
    return shapes
