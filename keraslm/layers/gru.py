"""The stateful GRU layer: the cell with two gates and no c, on the stream and the carried state of `StatefulLSTM`."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keraslm.layers.kernels.dispatch import scan
from keraslm.layers.recurrent import State, StatefulRecurrent, masked


@keras.saving.register_keras_serializable(package="keraslm")
class StatefulGRU(StatefulRecurrent):
    """GRU that carries `h` from one call to the next; arguments and shapes are those of `StatefulRecurrent`.

    A step, with the gates in Keras' order z, r, h and `*` element by element:

        x_z, x_r, x_h = split(x_t @ kernel + bias[0])                   # [B, H] each, for the whole window before it
        h_z, h_r, h_h = split(h @ recurrent_kernel + bias[1])           # [B, H] each
        z, r = sigmoid(x_z + h_z), sigmoid(x_r + h_r)
        h = z * h + (1 - z) * tanh(x_h + r * h_h)

    The reset gate acts after the product, as in cuDNN, in `keras.layers.GRU(reset_after=True)` and in ONNX'
    `linear_before_reset`. `kernel` `(D, 3H)`, `recurrent_kernel` `(H, 3H)` and `bias` `(2, 3H)` are those of stock
    Keras. Recurrent dropout acts on h in the product alone, not in `z * h`.

    Example:
        >>> layer = StatefulGRU(8)
        >>> x = np.random.rand(2, 6, 3)
        >>> whole = layer(x)
        >>> layer.reset_states()
        >>> parts = ops.concatenate([layer(x[:, :4]), layer(x[:, 4:])], axis=1)   # equal to `whole`

    Reference: Cho et al. 2014, arXiv:1406.1078; the form with one product a step, Chung et al. 2014, arXiv:1412.3555.
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
