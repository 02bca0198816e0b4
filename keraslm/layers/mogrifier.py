"""The stateful Mogrifier LSTM layer: input and h gate each other before each step of an LSTM."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
from keras import ops

from keraslm.config.shapes import mogrifier_shapes
from keraslm.layers.kernels.dispatch import scan
from keraslm.layers.recurrent import State, StatefulRecurrent, forget_gate_bias, masked


@keras.saving.register_keras_serializable(package="keraslm")
class StatefulMogrifierLSTM(StatefulRecurrent):
    """Mogrifier LSTM that carries `h` and `c` from one call to the next.

    Before each step, in rounds i = 1, 2, ..., with `*` element by element:

        i odd:   x = 2 sigmoid(h @ mogrifier_i) * x                     # [B, D]
        i even:  h = 2 sigmoid(x @ mogrifier_i) * h                     # [B, H]

    Then the step of `StatefulLSTM` with this x and this h; c is as usual. So each word's embedding depends on what has
    been read before. A gate is 1 where its matrix is 0, and the layer then a plain LSTM.

    A gate needs h, so `x @ kernel` cannot be computed for the whole window before the loop, as it is in the other
    cells: a step costs `rounds + 2` small products, one after the other.

    Args:
        units: H.
        rounds: gates; 0 is a plain LSTM, 5 the paper's choice.
        rank: of the matrices, each then the product of two: `(H, rank)` by `(rank, D)`; None means full matrices.
        forget_bias: start value of the forget gate's bias.
        mogrifier_initializers: of each matrix, by the weight's name; Glorot's where there is none.
        recurrent_dropout, dropconnect, kernel_initializer, recurrent_initializer, seed: as in `StatefulRecurrent`; the
            mask is on h before the first round, so that it holds in every product.

    Weights: those of `StatefulLSTM`, and after them `mogrifier_i`, `(H, D)` where i is odd and `(D, H)` where it is
    even, or, with a rank, `mogrifier_i_left` and `mogrifier_i_right`.

    Example:
        >>> layer = StatefulMogrifierLSTM(8, rounds=5, rank=2)
        >>> layer(np.random.rand(2, 6, 3)).shape
        (2, 6, 8)

    Reference: Melis, Kočiský and Blunsom 2020, "Mogrifier LSTM", arXiv:1909.01792, equations 1 and 2.
    """

    STATE: ClassVar = ("h", "c")

    def __init__(
        self,
        units: int,
        rounds: int = 5,
        rank: int | None = None,
        forget_bias: float = 0.0,
        mogrifier_initializers: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(units, **kwargs)
        self.rounds = rounds
        self.rank = rank
        self.forget_bias = forget_bias
        self.mogrifier_initializers = {
            name: keras.initializers.get(value) for name, value in (mogrifier_initializers or {}).items()
        }

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "rounds": self.rounds,
            "rank": self.rank,
            "forget_bias": self.forget_bias,
            "mogrifier_initializers": {
                name: keras.initializers.serialize(value) for name, value in self.mogrifier_initializers.items()
            },
        }

    def _add_weights(self, input_dim: int) -> None:
        self._add_matrices(input_dim, 4, (4 * self.units,), forget_gate_bias(self.forget_bias))
        factors = []
        for name, shape in mogrifier_shapes(input_dim, self.units, self.rounds, self.rank).items():
            initializer = self.mogrifier_initializers.get(name, "glorot_uniform")
            factors.append(self.add_weight(name=name, shape=shape, initializer=initializer))
        number = 2 if self.rank else 1
        self.gates = [factors[i : i + number] for i in range(0, len(factors), number)]  # round by round

    def _window(self, inputs: Any, state: State, recurrent_kernel: Any, mask: Any, keep: Any) -> tuple[Any, State]:
        kernel, bias = ops.convert_to_tensor(self.kernel), ops.convert_to_tensor(self.bias)
        gates = [[ops.convert_to_tensor(factor) for factor in gate] for gate in self.gates]

        def step(state: State, x: Any) -> State:
            h, c = state
            x, h = mogrified(x, masked(h, mask), gates)
            i, f, g, o = ops.split(x @ kernel + h @ recurrent_kernel + bias, 4, axis=1)
            c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
            return ops.sigmoid(o) * ops.tanh(c), c

        return scan(step, state, inputs, keep)


def mogrified(x: Any, h: Any, gates: list[list[Any]]) -> tuple[Any, Any]:
    """`x` and `h` after all rounds; a gate's matrix is the product of the factors in its list."""
    for number, factors in enumerate(gates, start=1):
        gate = h if number % 2 else x
        for factor in factors:
            gate = gate @ factor
        gate = 2.0 * ops.sigmoid(gate)
        x, h = (gate * x, h) if number % 2 else (x, gate * h)
    return x, h
