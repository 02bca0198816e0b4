"""What all recurrent layers share: the state that crosses windows while the gradient does not, resets, dropout on it.

Why the state is kept as it is, is told in `keraslm.layers.lstm`. The letters of all shapes: `B` rows, `T` steps, `D`
inputs, `H` units.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import keras
from keras import ops

from keraslm.layers.masks import drop_connections, recurrent_mask, seed_generator

State = tuple[Any, ...]  # of tensors, (B, H) each


class StatefulRecurrent(keras.layers.Layer):
    """A layer that carries its state from one call to the next, in `fit`, `evaluate` and `predict`.

    A cell names its state in `STATE`, adds its weights in `_add_weights` and runs a window in `_window`.

    Args:
        units: H, size of each tensor of the state.
        recurrent_dropout: rate of dropout on `h` inside the recurrence, with one mask a row for all steps of a call
            (Gal and Ghahramani 2016).
        dropconnect: rate of dropout on the elements of `recurrent_kernel`, one mask a call (Merity et al. 2018).
        kernel_initializer: for `kernel`.
        recurrent_initializer: for `recurrent_kernel`.
        seed: of the dropout masks.

    Args of a call:
        inputs: `(B, T, D)`; B must be known and never change, T may vary from call to call.
        resets: `(B, T)`, or None: True where a row starts a new text, so that its state is zero before that step.

    Output shape: `(B, T, H)`, h after each step.

    Raises:
        ValueError: when a call's batch size is not the one that the layer was built with.
    """

    STATE: ClassVar[tuple[str, ...]] = ("h",)  # names of variables `(B, H)`; what the layer puts out comes first

    def __init__(
        self,
        units: int,
        recurrent_dropout: float = 0.0,
        dropconnect: float = 0.0,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = units
        self.recurrent_dropout = recurrent_dropout
        self.dropconnect = dropconnect
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.seed = seed
        self.seed_generator = seed_generator(seed, recurrent_dropout, dropconnect)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        batch_size, _, input_dim = input_shape
        if batch_size is None:
            raise ValueError(
                f"Layer {self.name!r} carries a state for each row and needs a fixed batch size, "
                f"but its input has shape {tuple(input_shape)}. Give the batch size: keras.Input(batch_shape=(B, ...))."
            )
        self._add_weights(int(input_dim or 0))
        for name in self.STATE:
            shape = (batch_size, self.units)
            setattr(self, name, self.add_weight(name=name, shape=shape, initializer="zeros", trainable=False))

    def call(self, inputs: Any, resets: Any = None, training: bool = False) -> Any:
        inputs = self._check_batch_size(inputs)
        # A copy, because torch's backward pass still needs the old value when the variable below is overwritten.
        state = tuple(ops.stop_gradient(ops.copy(variable)) for variable in self.state_variables)  # [B, H] each
        mask = recurrent_mask(state[0], self.recurrent_dropout, self.seed_generator, training)
        recurrent_kernel = drop_connections(self.recurrent_kernel, self.dropconnect, self.seed_generator, training)
        keep = None if resets is None else 1.0 - ops.cast(resets, state[0].dtype)
        outputs, state = self._window(inputs, state, ops.convert_to_tensor(recurrent_kernel), mask, keep)
        for variable, value in zip(self.state_variables, state, strict=True):
            variable.assign(ops.stop_gradient(value))
        return outputs  # [B, T, H]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.units)

    @property
    def state_variables(self) -> list[keras.Variable]:
        """The variables that carry the state, in the order of `STATE`, `(B, H)` each."""
        return [getattr(self, name) for name in self.STATE]

    def reset_states(self) -> None:
        """Set the state of every row to zero, as at the start of a text."""
        for variable in self.state_variables:
            variable.assign(ops.zeros(variable.shape))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "recurrent_dropout": self.recurrent_dropout,
            "dropconnect": self.dropconnect,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "recurrent_initializer": keras.initializers.serialize(self.recurrent_initializer),
            "seed": self.seed,
        }

    def _add_weights(self, input_dim: int) -> None:
        raise NotImplementedError

    def _window(self, inputs: Any, state: State, recurrent_kernel: Any, mask: Any, keep: Any) -> tuple[Any, State]:
        """Run a window.

        Args:
            inputs: `(B, T, D)`.
            state: before the window.
            recurrent_kernel: as it is in this window, some of its elements perhaps dropped.
            mask: factor on h wherever it enters a product, `(B, H)`, or None.
            keep: `(B, T)`, 0 where a row's state is zero before that step; or None.

        Returns:
            outputs `(B, T, H)` and the state after the last step.
        """
        raise NotImplementedError

    def _add_matrices(self, input_dim: int, gates: int, bias_shape: tuple[int, ...], bias: Any = "zeros") -> None:
        """`kernel`, `recurrent_kernel` and `bias` in the shapes of stock Keras."""
        width = gates * self.units
        self.kernel = self.add_weight(name="kernel", shape=(input_dim, width), initializer=self.kernel_initializer)
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel", shape=(self.units, width), initializer=self.recurrent_initializer
        )
        self.bias = self.add_weight(name="bias", shape=bias_shape, initializer=bias)

    def _projected(self, inputs: Any) -> Any:
        """`inputs @ kernel` of the whole window at once, `(B, T, width of kernel)`: one product outside the loop."""
        kernel = ops.convert_to_tensor(self.kernel)
        rows = ops.reshape(inputs, (-1, kernel.shape[0])) @ kernel
        return ops.reshape(rows, (self.state_variables[0].shape[0], -1, kernel.shape[1]))

    def _check_batch_size(self, inputs: Any) -> Any:
        found, expected = inputs.shape[0], self.state_variables[0].shape[0]
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


def forget_gate_bias(value: float) -> Callable[..., Any]:
    """Initializer of an LSTM's bias `(4H,)`, gates i, f, g, o: `value` for the forget gate, 0 elsewhere."""

    def bias(shape: tuple[int, ...], dtype: Any = None) -> Any:
        zeros = ops.zeros((shape[0] // 4,), dtype)
        return ops.concatenate([zeros, zeros + value, zeros, zeros])

    return bias


def masked(h: Any, mask: Any) -> Any:
    """`h` as it enters a product."""
    return h if mask is None else h * mask
