"""LSTM over padded sequences, for encoders and decoders. Shapes: `B` rows, `S` steps, `D` inputs, `H` units."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keraslm.layers import Configured
from keraslm.layers.kernels.dispatch import lstm
from keraslm.layers.recurrent import forget_gate_bias

WALL = 1e4  # sigmoid(-WALL) is 0 and sigmoid(WALL) is 1 in float32


@keras.saving.register_keras_serializable(package="keraslm")
class PaddedLSTM(Configured):
    """LSTM over padded sequences that starts from a given state or from zeros, and carries nothing to the next call.

    A padded step changes nothing. Instead of a test in each step, the inputs get one more column, which is 1 where a
    sequence is padded, and the kernel gets one more row, which closes the input gate and opens the forget gate there:

        c = 1 * c + 0 * tanh(g)

    Args:
        units: Integer H.
        reverse: Boolean, whether to read from the last step to the first; outputs stay in the order of the inputs.
        forget_bias: Float, initial bias of the forget gate.
        kernel_initializer, recurrent_initializer: Initializers of `kernel` and `recurrent_kernel`, which have, as
            `bias`, the shapes and the order of gates of `keras.layers.LSTM`.

    Call arguments:
        inputs: Float tensor of shape `(B, S, D)`.
        padding: Float tensor of shape `(B, S)`, 1 after the end of a sequence and 0 before; None: no padding.
        state: `h` and `c` before the first step, `(B, H)` each; None: zeros. Not with `reverse` and padding.

    Returns:
        `h` after each step, `(B, S, H)`, 0 at padded steps; and `h` and `c` after the last step read, `(B, H)` each.

    Example:
        >>> outputs, h, c = PaddedLSTM(8)(np.random.rand(2, 5, 3), ops.array([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0.0]]))
        >>> bool(ops.all(h[0] == outputs[0, 2])), bool(ops.all(outputs[0, 3:] == 0))
        (True, True)
    """

    ARGUMENTS = ("units", "reverse", "forget_bias", "kernel_initializer", "recurrent_initializer")

    def __init__(
        self,
        units: int,
        reverse: bool = False,
        forget_bias: float = 1.0,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units, self.reverse, self.forget_bias = units, reverse, forget_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)

    def build(self, inputs_shape: Any, padding_shape: Any = None, state_shape: Any = None) -> None:
        width = 4 * self.units
        self.kernel = self.add_weight((inputs_shape[-1], width), self.kernel_initializer, name="kernel")
        self.recurrent_kernel = self.add_weight(
            (self.units, width), self.recurrent_initializer, name="recurrent_kernel"
        )
        self.bias = self.add_weight((width,), forget_gate_bias(self.forget_bias), name="bias")

    def call(self, inputs: Any, padding: Any = None, state: Any = None) -> Any:
        if self.reverse and padding is not None and state is not None:
            raise ValueError(
                "A reversed layer reads the padding first, which would change a given `state`; leave it out."
            )
        kernel, zeros = ops.convert_to_tensor(self.kernel), ops.zeros((ops.shape(inputs)[0], self.units))
        h, c = (zeros, zeros) if state is None else state
        if padding is not None:
            gates = [ops.full((1, self.units), value) for value in (-WALL, WALL, 0.0, 0.0)]
            kernel = ops.concatenate([kernel, ops.concatenate(gates, axis=1)])
            inputs = ops.concatenate([inputs, padding[:, :, None]], axis=2)
        if self.reverse:
            inputs = ops.flip(inputs, 1)
        outputs, h, c = lstm(inputs, h, c, kernel, self.recurrent_kernel, self.bias)
        if self.reverse:
            outputs = ops.flip(outputs, 1)
        if padding is None:
            return outputs, h, c
        real = 1.0 - padding
        if not self.reverse:  # h at the last token
            last = real - ops.concatenate([real[:, 1:], ops.zeros_like(real[:, :1])], axis=1)
            h = ops.sum(outputs * last[:, :, None], axis=1)
        return outputs * real[:, :, None], h, c

    def compute_output_spec(self, inputs: Any, padding: Any = None, state: Any = None) -> Any:
        batch, steps, _ = inputs.shape
        h, c = (keras.KerasTensor((batch, self.units)) for _ in range(2))
        return keras.KerasTensor((batch, steps, self.units)), h, c
