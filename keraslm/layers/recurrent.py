"""The base of all recurrent layers: carried state, resets, and dropout inside the recurrence.

Shapes: `B` rows, `T` steps, `D` inputs, `H` units.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import keras
from keras import ops

from keraslm.layers import Configured
from keraslm.layers.dropout import mask_like

State = tuple[Any, ...]  # of tensors, (B, H) each
STATES = ("h", "c")  # names of the variables that carry it, in any cell


class StatefulRecurrent(Configured):
    """A recurrent layer that carries its state as `keraslm.layers.lstm` explains.

    Arguments, call arguments and shapes are those of `StatefulLSTM`. A subclass names its state in `STATE` and its
    arguments in `ARGUMENTS`, adds its weights in `_add_weights` and runs a window in `_window`.

    With `parts`, a window is computed in several calls, each with a part of its rows. The states of the parts wait in a
    queue, `(parts, B, H)`: a call takes the first one and appends the state after it.
    """

    STATE: ClassVar[tuple[str, ...]] = ("h",)  # names of the variables `(B, H)`; the first one is the layer's output
    ARGUMENTS: ClassVar[tuple[str, ...]] = (
        "units",
        "recurrent_dropout",
        "dropconnect",
        "kernel_initializer",
        "recurrent_initializer",
        "seed",
        "parts",
    )

    def __init__(
        self,
        units: int,
        recurrent_dropout: float = 0.0,
        dropconnect: float = 0.0,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        seed: int | None = None,
        parts: int = 1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units, self.parts = units, parts
        self.recurrent_dropout = recurrent_dropout
        self.dropconnect = dropconnect
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.seed = seed
        # Only if needed, because the generator adds a variable to the model.
        self.seed_generator = keras.random.SeedGenerator(seed) if recurrent_dropout or dropconnect else None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        batch_size, _, input_dim = input_shape
        if batch_size is None:
            raise ValueError(
                f"Layer {self.name!r} carries one state per row and needs a fixed batch size, but its input has shape "
                f"{tuple(input_shape)}. Set the batch size with keras.Input(batch_shape=(B, ...))."
            )
        self._add_weights(int(input_dim or 0))
        for name in self.STATE:
            shape = (batch_size, self.units) if self.parts == 1 else (self.parts, batch_size, self.units)
            setattr(self, name, self.add_weight(shape, "zeros", trainable=False, name=name))

    def call(self, inputs: Any, resets: Any = None, training: bool = False) -> Any:
        inputs = self._check_batch_size(inputs)
        # The cut: the carried state is a constant. A copy, because torch's backward pass needs it after the assignment.
        state = tuple(ops.stop_gradient(ops.copy(self._first(v))) for v in self.state_variables)  # [B, H] each
        kernel, mask = ops.convert_to_tensor(self.recurrent_kernel), None
        if training and self.recurrent_dropout:
            mask = mask_like(state[0], self.recurrent_dropout, self.seed_generator)  # [B, H], for all steps
        if training and self.dropconnect:
            kernel = kernel * mask_like(kernel, self.dropconnect, self.seed_generator, of_weights=True)
        keep = None if resets is None else 1.0 - ops.cast(resets, state[0].dtype)
        outputs, state = self._window(inputs, state, kernel, mask, keep)
        for variable, value in zip(self.state_variables, state, strict=True):
            value = ops.stop_gradient(value)
            variable.assign(value if self.parts == 1 else ops.concatenate([variable[1:], value[None]]))
        return outputs  # [B, T, H]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.units)

    @property
    def state_variables(self) -> list[keras.Variable]:
        """The variables that carry the state, in the order of `STATE`, `(B, H)` each."""
        return [getattr(self, name) for name in self.STATE]

    def reset_state(self) -> None:
        """Set the state of every row to zero, as at the start of a text."""
        for variable in self.state_variables:
            variable.assign(ops.zeros(variable.shape))

    def _first(self, variable: keras.Variable) -> Any:
        return variable if self.parts == 1 else variable[0]

    def _add_weights(self, input_dim: int) -> None:
        raise NotImplementedError

    def _window(self, inputs: Any, state: State, recurrent_kernel: Any, mask: Any, keep: Any) -> tuple[Any, State]:
        """The outputs of a window, `(B, T, H)`, and the state after it; `mask` and `keep` are as in `dispatch.lstm`."""
        raise NotImplementedError

    def _add_matrices(self, input_dim: int, gates: int, bias_shape: tuple[int, ...], bias: Any = "zeros") -> None:
        """Add `kernel`, `recurrent_kernel` and `bias` in the shapes of stock Keras."""
        width = gates * self.units
        self.kernel = self.add_weight(name="kernel", shape=(input_dim, width), initializer=self.kernel_initializer)
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel", shape=(self.units, width), initializer=_drawn_wide(self.recurrent_initializer)
        )
        self.bias = self.add_weight(name="bias", shape=bias_shape, initializer=bias)

    def _projected(self, inputs: Any) -> Any:
        """`inputs @ kernel` for all steps in one product, `(B, T, width of kernel)`."""
        kernel = ops.convert_to_tensor(self.kernel)
        rows = ops.reshape(inputs, (-1, kernel.shape[0])) @ kernel
        return ops.reshape(rows, (self.state_variables[0].shape[-2], -1, kernel.shape[1]))

    def _check_batch_size(self, inputs: Any) -> Any:
        found, expected = inputs.shape[0], self.state_variables[0].shape[-2]
        if found is not None and found != expected:
            raise ValueError(
                f"Layer {self.name!r} was built for a batch size of {expected} and carries one state per row, but was "
                f"called with a batch of {found}. Build the model again for that batch size."
            )
        if found is None and keras.backend.backend() == "tensorflow":
            # A traced graph does not know the size and would broadcast one row over all states.
            import tensorflow as tf

            return tf.ensure_shape(inputs, (expected, None, None), name=f"{self.name}_batch_size")
        return inputs


def _drawn_wide(initializer: Callable[..., Any]) -> Callable[..., Any]:
    """Draw 16-bit weights in float32, because no backend makes orthogonal matrices of 16 bits."""

    def draw(shape: Any, dtype: Any = None) -> Any:
        narrow = keras.backend.standardize_dtype(dtype) in ("bfloat16", "float16")
        return ops.cast(initializer(shape, dtype="float32"), dtype) if narrow else initializer(shape, dtype=dtype)

    return draw


def forget_gate_bias(value: float, gates: int = 4) -> Callable[..., Any]:
    """Initializer of an LSTM's bias `(gates * H,)`: `value` for the forget gate, 0 for the others.

    The gates are i, f, g, o, or f, g, o.
    """
    values = [0.0, value, 0.0, 0.0][4 - gates :]
    return lambda shape, dtype=None: ops.repeat(ops.convert_to_tensor(values, dtype), shape[0] // gates)


def with_tied_gate(weight: Any) -> Any:
    """Add the input gate to a kernel or bias of the gates f, g, o, `(..., 3H)`; the result is `(..., 4H)`.

    `i = 1 - f = 1 - sigmoid(z) = sigmoid(-z)`: its weights are those of the forget gate, negated.
    """
    return ops.concatenate([-weight[..., : weight.shape[-1] // 3], weight], axis=-1)


def lstm_step(z: Any, c: Any, capped: bool = False) -> State:
    """h and c after a step, `(B, H)` each, from the sums of its gates i, f, g, o, `(B, 4H)`.

    With `capped`, the input gate is `min(i, 1 - f)`, which is the sigmoid of the smaller of i and -f.
    """
    i, f, g, o = ops.split(z, 4, axis=1)
    c = ops.sigmoid(f) * c + ops.sigmoid(ops.minimum(i, -f) if capped else i) * ops.tanh(g)
    return ops.sigmoid(o) * ops.tanh(c), c


def masked(h: Any, mask: Any) -> Any:
    return h if mask is None else h * mask
