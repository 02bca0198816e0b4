"""Stateful simple RNN, GRU and Mogrifier LSTM.

`keraslm.layers.lstm` explains how they carry their state. Arguments, call arguments and shapes are those of
`StatefulLSTM`. Shapes: `B` rows, `T` steps, `D` inputs, `H` units.
"""

from __future__ import annotations

from typing import Any, ClassVar

import keras
from keras import ops

from keraslm.config.shapes import by_round, mogrifier_shapes
from keraslm.layers.kernels.dispatch import scan
from keraslm.layers.lstm import StatefulLSTM
from keraslm.layers.recurrent import State, StatefulRecurrent, lstm_step, masked


@keras.saving.register_keras_serializable(package="keraslm")
class StatefulRNN(StatefulRecurrent):
    """Simple RNN that carries `h` from one call to the next.

    One step:

        h = tanh(x_t @ kernel + h @ recurrent_kernel + bias)            # [B, H]

    `kernel` `(D, H)`, `recurrent_kernel` `(H, H)` and `bias` `(H,)` are those of `keras.layers.SimpleRNN`.

    Example:
        >>> StatefulRNN(8)(np.random.rand(2, 6, 3)).shape
        (2, 6, 8)

    Reference: Elman 1990, "Finding structure in time"; as a language model, Mikolov et al. 2010.
    """

    def _add_weights(self, input_dim: int) -> None:
        self._add_matrices(input_dim, 1, (self.units,))

    def _window(self, inputs: Any, state: State, recurrent_kernel: Any, mask: Any, keep: Any) -> tuple[Any, State]:
        def step(state: State, projected: Any) -> State:
            return (ops.tanh(projected + masked(state[0], mask) @ recurrent_kernel),)

        return scan(step, state, self._projected(inputs) + ops.convert_to_tensor(self.bias), keep)


@keras.saving.register_keras_serializable(package="keraslm")
class StatefulGRU(StatefulRecurrent):
    """GRU that carries `h` from one call to the next.

    One step, with the gates in Keras' order z, r, h and `*` element by element:

        x_z, x_r, x_h = split(x_t @ kernel + bias[0])                   # [B, H] each
        h_z, h_r, h_h = split(h @ recurrent_kernel + bias[1])           # [B, H] each
        z, r = sigmoid(x_z + h_z), sigmoid(x_r + h_r)
        h = z * h + (1 - z) * tanh(x_h + r * h_h)

    The reset gate acts after the product, as in cuDNN, in `keras.layers.GRU(reset_after=True)` and in ONNX's
    `linear_before_reset`. `kernel` `(D, 3H)`, `recurrent_kernel` `(H, 3H)` and `bias` `(2, 3H)` are those of stock
    Keras. Recurrent dropout acts on h in the product, not in `z * h`.

    Example:
        >>> StatefulGRU(8)(np.random.rand(2, 6, 3)).shape
        (2, 6, 8)

    Reference: Cho et al. 2014, arXiv:1406.1078; with one product per step, Chung et al. 2014, arXiv:1412.3555.
    """

    def _add_weights(self, input_dim: int) -> None:
        self._add_matrices(input_dim, 3, (2, 3 * self.units))

    def _window(self, inputs: Any, state: State, recurrent_kernel: Any, mask: Any, keep: Any) -> tuple[Any, State]:
        bias = ops.convert_to_tensor(self.bias)

        def step(state: State, projected: Any) -> State:
            (h,) = state
            x_z, x_r, x_h = ops.split(projected, 3, axis=1)
            h_z, h_r, h_h = ops.split(masked(h, mask) @ recurrent_kernel + bias[1], 3, axis=1)
            z, r = ops.sigmoid(x_z + h_z), ops.sigmoid(x_r + h_r)
            return (z * h + (1.0 - z) * ops.tanh(x_h + r * h_h),)

        return scan(step, state, self._projected(inputs) + bias[0], keep)


@keras.saving.register_keras_serializable(package="keraslm")
class StatefulMogrifierLSTM(StatefulLSTM):
    """Mogrifier LSTM that carries `h` and `c` from one call to the next.

    Before each step, the input and h gate each other in rounds i = 1, 2, ..., with `*` element by element:

        i odd:   x = 2 sigmoid(h @ mogrifier_i) * x                     # [B, D]
        i even:  h = 2 sigmoid(x @ mogrifier_i) * h                     # [B, H]

    The step of `StatefulLSTM` then uses this x and this h, and the unchanged c. If all matrices are 0, all gates are 1
    and the layer is a plain LSTM. Each step takes `rounds + 2` small products in sequence.

    Args:
        rounds: number of gates; 0 is a plain LSTM, 5 the paper's choice.
        rank: rank of the matrices, each then the product of two factors; None means full matrices.
        mogrifier_initializers: initializer of each matrix by the name of the weight; Glorot's by default.
        **kwargs: other arguments of `StatefulLSTM`; `product_dtype` has no effect. Recurrent dropout acts on h before
            the first round, and so in every product.

    Weights: those of `StatefulLSTM`, then `mogrifier_i`, `(H, D)` for odd i and `(D, H)` for even i, or, with a rank,
    its factors `mogrifier_i_left` and `mogrifier_i_right`.

    Example:
        >>> StatefulMogrifierLSTM(8, rounds=5, rank=2)(np.random.rand(2, 6, 3)).shape
        (2, 6, 8)

    Reference: Melis, Kočiský and Blunsom 2020, "Mogrifier LSTM", arXiv:1909.01792, equations 1 and 2.
    """

    ARGUMENTS: ClassVar = (*StatefulLSTM.ARGUMENTS, "rounds", "rank", "mogrifier_initializers")

    def __init__(
        self,
        units: int,
        rounds: int = 5,
        rank: int | None = None,
        forget_bias: float = 0.0,
        mogrifier_initializers: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(units, forget_bias, **kwargs)
        self.rounds, self.rank = rounds, rank
        self.mogrifier_initializers = mogrifier_initializers or {}

    def _add_weights(self, input_dim: int) -> None:
        super()._add_weights(input_dim)
        factors = []
        for name, shape in mogrifier_shapes(input_dim, self.units, self.rounds, self.rank).items():
            initializer = self.mogrifier_initializers.get(name, "glorot_uniform")
            factors.append(self.add_weight(name=name, shape=shape, initializer=initializer))
        self.gates = by_round(factors, self.rank)

    def _window(self, inputs: Any, state: State, recurrent_kernel: Any, mask: Any, keep: Any) -> tuple[Any, State]:
        kernel, recurrent_kernel, bias = self._of_four_gates(recurrent_kernel)
        capped = self.input_gate == "capped"
        gates = [[ops.convert_to_tensor(factor) for factor in gate] for gate in self.gates]

        def step(state: State, x: Any) -> State:
            h, c = masked(state[0], mask), state[1]
            for number, factors in enumerate(gates, start=1):
                gate = h if number % 2 else x
                for factor in factors:
                    gate = gate @ factor
                gate = 2.0 * ops.sigmoid(gate)
                x, h = (gate * x, h) if number % 2 else (x, gate * h)
            return lstm_step(x @ kernel + h @ recurrent_kernel + bias, c, capped)

        return scan(step, state, inputs, keep)
