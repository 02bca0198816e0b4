"""The stateful LSTM: truncated backpropagation through time on every Keras backend.

A language model reads one long stream of tokens. Backpropagation through the whole stream would need memory for every
token, so training cuts the stream into windows of `T` steps and updates the weights once per window. Here is one row
of a batch, with T = 3:

    stream     x0    x1    x2    x3    x4    x5    x6    x7    x8   ...
               |---- window 0 ---|---- window 1 ---|---- window 2 ---|

    forward    cell->cell->cell=>cell->cell->cell=>cell->cell->cell=>
    backward   cell<-cell<-cell| cell<-cell<-cell| cell<-cell<-cell|
                              cut               cut               cut

Forward, the state after the last step of a window (`=>`) is the state before the first step of the next window. With
fixed weights, the outputs are therefore those of one pass over the whole stream. Backward, the gradient stops at the
start of the window (the cut), because the carried state is treated as a constant. `StatefulRecurrent.call` does both.

Memory and time of a training step therefore depend on `T`, not on the length of the stream, and through the state the
network still sees everything since the last reset. But the loss at x3 has no gradient with respect to what the cells
did at x0, x1 and x2. Training can teach a window to use the state it receives, but not what to store in it for later
windows, and no dependency that is longer than `T` is learned directly.

The `B` rows of a batch are `B` independent streams. Row 3 of one batch continues row 3 of the previous batch, so the
batch size is fixed and batches must come in order, without shuffling.

Keras' own `LSTM(stateful=True)` carries its state on TensorFlow only: on JAX the compiled step drops the new state
without a warning, and on torch the backward pass fails (keras issues 20875 and 23462). Here `h` and `c` are
non-trainable weights of the layer, so they are compiled, saved and restored with the model.

Shapes: `B` rows, `T` steps, `D` inputs, `H` units.
"""

from __future__ import annotations

from typing import Any, ClassVar

import keras
from keras import ops

from keraslm.layers.kernels.dispatch import lstm, scan
from keraslm.layers.recurrent import State, StatefulRecurrent, forget_gate_bias, lstm_step, masked, with_tied_gate

INPUT_GATES = ("free", "capped", "tied")


@keras.saving.register_keras_serializable(package="keraslm")
class StatefulLSTM(StatefulRecurrent):
    """LSTM that carries `h` and `c` from one call to the next, in `fit`, `evaluate` and `predict`.

    One step, with the gates in Keras' order i, f, g, o and `*` element by element:

        z = x_t @ kernel + h @ recurrent_kernel + bias                  # [B, 4H]
        i, f, g, o = split(z)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)                       # [B, H]
        h = sigmoid(o) * tanh(c)                                        # [B, H]

    Each call starts from the state after the previous call and differentiates through its own steps only. The state is
    never reset automatically: call `reset_state()` at the start of an epoch or a text, or pass `resets`.

    `kernel`, `recurrent_kernel` and `bias` have the names, shapes and gate order of `keras.layers.LSTM`, so
    `stock.set_weights([w.numpy() for w in layer.trainable_weights])` and the reverse work.

    Args:
        units: Integer H, the size of `h` and `c`.
        forget_bias: Float, initial bias of the forget gate. 0 in Zaremba et al. 2014, 1 in stock Keras.
        input_gate: `"free"`; `"capped"`: `min(sigmoid(i), 1 - sigmoid(f))`, so that c stays between -1 and 1; or
            `"tied"`: `1 - sigmoid(f)`, so that the weights hold the gates f, g, o only, as `(D, 3H)`, `(H, 3H)` and
            `(3H,)` (Melis, Dyer and Blunsom 2018, arXiv:1707.05589). A capped gate runs in the backend's own loop, in
            float32, and is slower.
        product_dtype: `"float32"`, or `"bfloat16"` for the operands and results of the matrix products, which are added
            up in float32. Everything else, including the state, stays float32.
        recurrent_dropout: Float, rate of dropout on `h` inside the recurrence, with the same mask for all steps of a
            call; 0 by default (Gal and Ghahramani 2016, arXiv:1512.05287).
        dropconnect: Float, rate of dropout on the elements of `recurrent_kernel`, with one mask per call; 0 by default
            (Wan et al. 2013; Merity, Keskar and Socher 2018, arXiv:1708.02182, section 2).
        kernel_initializer: Initializer of `kernel`, `"glorot_uniform"` by default.
        recurrent_initializer: Initializer of `recurrent_kernel`, `"orthogonal"` by default.
        seed: Integer or None, seed of the dropout masks.

    Call arguments:
        inputs: Float tensor of shape `(B, T, D)`. B must be known and the same in every call; T may differ.
        resets: Boolean tensor of shape `(B, T)`, or None. True where a row starts a new text: its state is set to zero
            before that step.
        training: Boolean, whether to apply dropout.

    Output shape: `(B, T, H)`, `h` after each step.

    State: the variables `h` and `c` of shape `(B, H)`, zero after building. `state_variables` lists them;
    `reset_state()` sets them to zero for every row.

    Raises:
        ValueError: if `input_gate` is unknown, the batch size is unknown when the layer is built, or it differs in a
            later call.

    Example:

        >>> layer = StatefulLSTM(8)
        >>> x = np.random.rand(2, 6, 3)
        >>> at_once = layer(x)
        >>> layer.reset_state()
        >>> parts = ops.concatenate([layer(x[:, :4]), layer(x[:, 4:])], axis=1)   # equal to `at_once`

    Reference: Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000.
    """

    STATE: ClassVar = ("h", "c")
    ARGUMENTS: ClassVar = (*StatefulRecurrent.ARGUMENTS, "forget_bias", "product_dtype", "input_gate")

    def __init__(
        self,
        units: int,
        forget_bias: float = 0.0,
        product_dtype: str = "float32",
        recurrent_dropout: float = 0.0,
        dropconnect: float = 0.0,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        seed: int | None = None,
        input_gate: str = "free",
        **kwargs: Any,
    ):
        if input_gate not in INPUT_GATES:
            raise ValueError(f"`input_gate` is {input_gate!r}, but must be one of {', '.join(INPUT_GATES)}.")
        shared = recurrent_dropout, dropconnect, kernel_initializer, recurrent_initializer, seed
        super().__init__(units, *shared, **kwargs)
        self.forget_bias, self.product_dtype, self.input_gate = forget_bias, product_dtype, input_gate

    def _add_weights(self, input_dim: int) -> None:
        gates = 3 if self.input_gate == "tied" else 4
        self._add_matrices(input_dim, gates, (gates * self.units,), forget_gate_bias(self.forget_bias, gates))

    def _window(self, inputs: Any, state: State, recurrent_kernel: Any, mask: Any, keep: Any) -> tuple[Any, State]:
        if self.input_gate == "capped":
            bias = ops.convert_to_tensor(self.bias)

            def step(state: State, projected: Any) -> State:
                return lstm_step(projected + masked(state[0], mask) @ recurrent_kernel, state[1], capped=True)

            return scan(step, state, self._projected(inputs) + bias, keep)
        (h0, c0), (kernel, recurrent_kernel, bias) = state, self._of_four_gates(recurrent_kernel)
        outputs, h, c = lstm(inputs, h0, c0, kernel, recurrent_kernel, bias, mask, keep, self.product_dtype)
        return outputs, (h, c)

    def _of_four_gates(self, recurrent_kernel: Any) -> list[Any]:
        """Kernel, recurrent kernel and bias of the gates i, f, g, o."""
        weights = [ops.convert_to_tensor(weight) for weight in (self.kernel, recurrent_kernel, self.bias)]
        return list(map(with_tied_gate, weights)) if self.input_gate == "tied" else weights
