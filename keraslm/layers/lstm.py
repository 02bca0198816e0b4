"""The stateful LSTM layer: truncated backpropagation through time on every Keras backend.

The letters of all shapes: `B` rows, `T` steps, `D` inputs, `H` units.

Truncated backpropagation in one picture, two windows of one row:

    window 0                          window 1
    x0 -> [cell] -> [cell] -> hT, cT  ==>  h0, c0 -> [cell] -> [cell] -> ...
          <- gradient flows <-         |         <- gradient flows <-
                                       cut

The value of the state crosses the border (`==>`): the forward pass is that of one endless sequence. The gradient does
not: each window starts from `stop_gradient` of what the one before left behind, so memory and time of a training step
depend on `T` alone, while the network still sees, through its state, everything since the last reset.

Keras' own `LSTM(stateful=True)` does this on TensorFlow only. It keeps its state in variables that no variable list
holds, so that JAX's compiled step drops the new state in silence, and torch fails in the backward pass because the
state is overwritten while the graph still needs it (keras issues 20875 and 23462). Here `h` and `c` are weights of the
layer, not trainable, but tracked: compiled, saved and counted like any other.
"""

from __future__ import annotations

from typing import Any, ClassVar

import keras

from keraslm.layers.kernels.dispatch import lstm
from keraslm.layers.recurrent import State, StatefulRecurrent, forget_gate_bias


@keras.saving.register_keras_serializable(package="keraslm")
class StatefulLSTM(StatefulRecurrent):
    """LSTM that carries `h` and `c` from one call to the next, in `fit`, `evaluate` and `predict`.

    A step, with the gates in Keras' order i, f, g, o and `*` element by element:

        z = x_t @ kernel + h @ recurrent_kernel + bias                  # [B, 4H]
        i, f, g, o = split(z)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)                       # [B, H]
        h = sigmoid(o) * tanh(c)                                        # [B, H]

    `kernel`, `recurrent_kernel` and `bias` have the names, shapes and gate order of `keras.layers.LSTM`, so
    `stock.set_weights([w.numpy() for w in layer.trainable_weights])` and its reverse work.

    Args:
        units: H, size of `h` and `c`.
        forget_bias: start value of the forget gate's bias; 0 in Zaremba et al. 2014, 1 in stock Keras.
        recurrent_dropout: rate of dropout on `h` inside the recurrence, with one mask a row for all steps of a call
            (Gal and Ghahramani 2016).
        dropconnect: rate of dropout on the elements of `recurrent_kernel`, one mask a call (Merity et al. 2018).
        kernel_initializer: for `kernel`.
        recurrent_initializer: for `recurrent_kernel`.
        seed: of the dropout masks.
        product_dtype: "float32", or "bfloat16" for the operands of the matrix products; everything else, the state
            included, stays float32.

    Args of a call:
        inputs: `(B, T, D)`; B must be known and never change, T may vary from call to call.
        resets: `(B, T)`, or None: True where a row starts a new text, so that its state is zero before that step.

    Output shape: `(B, T, H)`, h after each step.

    Raises:
        ValueError: when a call's batch size is not the one that the layer was built with.

    Example:
        >>> layer = StatefulLSTM(8)
        >>> x = np.random.rand(2, 6, 3)
        >>> whole = layer(x)
        >>> layer.reset_states()
        >>> parts = ops.concatenate([layer(x[:, :4]), layer(x[:, 4:])], axis=1)   # equal to `whole`

    Reference: Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000.
    """

    STATE: ClassVar = ("h", "c")

    def __init__(
        self,
        units: int,
        forget_bias: float = 0.0,
        recurrent_dropout: float = 0.0,
        dropconnect: float = 0.0,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        seed: int | None = None,
        product_dtype: str = "float32",
        **kwargs: Any,
    ):
        shared = recurrent_dropout, dropconnect, kernel_initializer, recurrent_initializer, seed
        super().__init__(units, *shared, **kwargs)
        self.forget_bias = forget_bias
        self.product_dtype = product_dtype

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "forget_bias": self.forget_bias, "product_dtype": self.product_dtype}

    def _add_weights(self, input_dim: int) -> None:
        self._add_matrices(input_dim, 4, (4 * self.units,), forget_gate_bias(self.forget_bias))

    def _window(self, inputs: Any, state: State, recurrent_kernel: Any, mask: Any, keep: Any) -> tuple[Any, State]:
        h0, c0 = state
        outputs, h, c = lstm(inputs, h0, c0, self.kernel, recurrent_kernel, self.bias, mask, keep, self.product_dtype)
        return outputs, (h, c)
