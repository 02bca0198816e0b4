"""The stateful simple RNN layer: a cell without gates, on the stream and the carried state of `StatefulLSTM`."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keraslm.layers.kernels.dispatch import scan
from keraslm.layers.recurrent import State, StatefulRecurrent, masked


@keras.saving.register_keras_serializable(package="keraslm")
class StatefulRNN(StatefulRecurrent):
    """Simple RNN that carries `h` from one call to the next; arguments and shapes are those of `StatefulRecurrent`.

    A step:

        h = tanh(x_t @ kernel + h @ recurrent_kernel + bias)            # [B, H]; x @ kernel for the whole window before

    `kernel` `(D, H)`, `recurrent_kernel` `(H, H)` and `bias` `(H,)` are those of `keras.layers.SimpleRNN`.

    Example:
        >>> layer = StatefulRNN(8)
        >>> layer(np.random.rand(2, 6, 3)).shape
        (2, 6, 8)

    Reference: Elman 1990, "Finding structure in time"; as a language model, Mikolov et al. 2010.
    """

    def _add_weights(self, input_dim: int) -> None:
        self._add_matrices(input_dim, 1, (self.units,))

    def _window(self, inputs: Any, state: State, recurrent_kernel: Any, mask: Any, keep: Any) -> tuple[Any, State]:
        def step(state: State, projected: Any) -> State:
            return (ops.tanh(projected + masked(state[0], mask) @ recurrent_kernel),)

        return scan(step, state, self._projected(inputs) + ops.convert_to_tensor(self.bias), keep)
