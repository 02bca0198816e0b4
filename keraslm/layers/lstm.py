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

from typing import Any

import keras
from keras import ops

from keraslm.layers.kernels.dispatch import lstm
from keraslm.layers.masks import drop_connections, recurrent_mask, seed_generator


@keras.saving.register_keras_serializable(package="keraslm")
class StatefulLSTM(keras.layers.Layer):
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
        super().__init__(**kwargs)
        self.units = units
        self.forget_bias = forget_bias
        self.recurrent_dropout = recurrent_dropout
        self.dropconnect = dropconnect
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.seed = seed
        self.product_dtype = product_dtype
        self.seed_generator = seed_generator(seed, recurrent_dropout, dropconnect)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        batch_size, _, input_dim = input_shape
        if batch_size is None:
            raise ValueError(
                f"Layer {self.name!r} carries a state for each row and needs a fixed batch size, "
                f"but its input has shape {tuple(input_shape)}. Give the batch size: keras.Input(batch_shape=(B, ...))."
            )
        self.kernel = self.add_weight(
            name="kernel", shape=(input_dim, 4 * self.units), initializer=self.kernel_initializer
        )
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel", shape=(self.units, 4 * self.units), initializer=self.recurrent_initializer
        )
        self.bias = self.add_weight(name="bias", shape=(4 * self.units,), initializer=self._initial_bias)
        self.h = self.add_weight(name="h", shape=(batch_size, self.units), initializer="zeros", trainable=False)
        self.c = self.add_weight(name="c", shape=(batch_size, self.units), initializer="zeros", trainable=False)

    def call(self, inputs: Any, resets: Any = None, training: bool = False) -> Any:
        inputs = self._check_batch_size(inputs)
        # A copy, because torch's backward pass still needs the old value when the variable below is overwritten.
        h0, c0 = ops.stop_gradient(ops.copy(self.h)), ops.stop_gradient(ops.copy(self.c))  # [B, H]
        mask = recurrent_mask(h0, self.recurrent_dropout, self.seed_generator, training)
        recurrent_kernel = drop_connections(self.recurrent_kernel, self.dropconnect, self.seed_generator, training)
        keep = None if resets is None else 1.0 - ops.cast(resets, h0.dtype)
        outputs, h, c = lstm(inputs, h0, c0, self.kernel, recurrent_kernel, self.bias, mask, keep, self.product_dtype)
        self.h.assign(ops.stop_gradient(h))
        self.c.assign(ops.stop_gradient(c))
        return outputs  # [B, T, H]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.units)

    def reset_states(self) -> None:
        """Set `h` and `c` of every row to zero, as at the start of a text."""
        self.h.assign(ops.zeros(self.h.shape))
        self.c.assign(ops.zeros(self.c.shape))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "forget_bias": self.forget_bias,
            "recurrent_dropout": self.recurrent_dropout,
            "dropconnect": self.dropconnect,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "recurrent_initializer": keras.initializers.serialize(self.recurrent_initializer),
            "seed": self.seed,
            "product_dtype": self.product_dtype,
        }

    def _initial_bias(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        zeros = ops.zeros((self.units,), dtype)
        return ops.concatenate([zeros, zeros + self.forget_bias, zeros, zeros])  # i, f, g, o

    def _check_batch_size(self, inputs: Any) -> Any:
        found, expected = inputs.shape[0], self.h.shape[0]
        if found is not None and found != expected:
            raise ValueError(
                f"Layer {self.name!r} was built for batch_size={expected} and carries one state for each of these "
                f"rows, but was called with a batch of {found}. Build the model again for that batch size."
            )
        if found is None and keras.backend.backend() == "tensorflow":
            # TensorFlow traces without knowing the size, and would broadcast one row over all states.
            import tensorflow as tf

            return tf.ensure_shape(inputs, (expected, None, None), name=f"{self.name}_batch_size")
        return inputs
