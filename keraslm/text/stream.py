"""One stream of token ids -> contiguous rows -> windows of `num_steps`.

The alphabet as the text, `batch_size=4`:

    a b c d e f g h i j k l m n o p q r s t u v w x y z

The stream is cut into 4 rows of 26 // 4 = 6 tokens; `y z` are left over:

    row 0   a b c d e f
    row 1   g h i j k l
    row 2   m n o p q r
    row 3   s t u v w x

With `num_steps=2` a window holds 2 inputs per row. Its targets are the same tokens shifted by one:

                window 0           window 1
             inputs  targets    inputs  targets
    row 0     a b     b c        c d     d e
    row 1     g h     h i        i j     j k
    row 2     m n     n o        o p     p q
    row 3     s t     t u        u v     v w

Row r of window 1 continues where row r of window 0 ended, so the LSTM's state after window 0 is the right state to
start window 1 with. Step t of a window is one token of every row, such as `a g m s`; from it the network predicts
`b h n t`.

Three things are lost. g is never predicted from f, because the cut between rows separates them. The gradient does not
flow from window 1 back into window 0 (truncated backpropagation through time). Some tokens are never targets: each
row's first token, `f l r x` and `y z`. There are (26 // 4 - 1) // 2 = 2 windows, which predict 16 of the 26 tokens.
Windows of varying length (`keraslm.text.window_lengths`) fill the rows to their last token.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.errors import TextError
from keraslm.text.context import ends_context
from keraslm.text.epochs import EpochStream
from keraslm.text.weights import WeightedTexts
from keraslm.text.window_lengths import draw_lengths, window_count

LEAST_TOKENS = 1000  # of a text for which sizes are suggested; fewer teach a network nothing
FEW_WINDOWS = 10  # in an epoch with the suggested sizes

# Inputs and targets; unless the context is the document also which inputs start from a state of zeros.
Window = tuple[NDArray[Any], ...]


class Windows:
    """The windows of a stream, in order.

    Args:
        ids: integers of shape `(tokens,)`; may be a mapped file.
        batch_size: B, rows side by side.
        num_steps: T, tokens per row in a window.
        context: `"document"`, `"sentence"` or `"paragraph"`: how far the state is carried.
        eos_id: the end symbol, needed for sentences and paragraphs.
        shuffle_seed: a new order of sentences or paragraphs in each epoch. Default: the order of the text.
        length_seed: new window lengths around `num_steps` in each epoch. Default: every window has `num_steps`.
        texts: the weighted texts of the stream. Default: each epoch reads the whole stream.

    Raises:
        TextError: the text is too short for one window.

    Attributes:
        predicted: number of tokens that are the target of a window.
        left_over: number of the other tokens; with weighted texts, of the shortest epoch.

    Example:
        >>> windows = Windows(np.arange(26), batch_size=4, num_steps=2)
        >>> len(windows), windows.predicted, windows.left_over
        (2, 16, 10)
        >>> inputs, targets = windows[1]
        >>> inputs[0], targets[0]
        (array([2, 3], dtype=int32), array([3, 4], dtype=int32))
    """

    def __init__(
        self,
        ids: NDArray[Any],
        batch_size: int,
        num_steps: int,
        name: str = "text",
        context: str = "document",
        eos_id: int = 0,
        shuffle_seed: int | None = None,
        length_seed: int | None = None,
        texts: WeightedTexts | None = None,
    ):
        tokens = texts.tokens if texts else len(ids)
        row_length = tokens // batch_size
        if row_length <= num_steps:
            raise TextError(_too_short(name, tokens, batch_size, num_steps))
        self.num_steps, self._length_seed = num_steps, length_seed
        self.context, self._eos_id = context, eos_id
        self._row_predicted = row_length - 1
        if length_seed is None:
            self._count = self._row_predicted // num_steps
            self._row_predicted = self._count * num_steps
        else:
            self._count = window_count(self._row_predicted, num_steps)
        self._batch_size, self._row_length, self._ids = batch_size, row_length, ids
        self._epochs: EpochStream | None = None
        if shuffle_seed is not None or texts:
            self._epochs = EpochStream(ids, eos_id, context, shuffle_seed, texts)
        self.predicted = batch_size * self._row_predicted
        self.left_over = tokens - self.predicted
        self.set_epoch(0)

    def __len__(self) -> int:
        return self._count

    @property
    def varies(self) -> bool:
        """Whether windows have different lengths."""
        return self._length_seed is not None

    @property
    def lengths(self) -> NDArray[np.int64]:
        """T of each window of the epoch, `(windows,)`."""
        return np.diff(self._edges)

    def __getitem__(self, index: int) -> Window:
        """Inputs and targets of a window, int32 `(B, T)`; unless the context is the document also resets, bool."""
        if not 0 <= index < self._count:
            raise IndexError(f"window {index} of {self._count}")
        start, stop = int(self._edges[index]), int(self._edges[index + 1])
        rows = self._columns(start, stop + 1)  # [B, T + 1]
        inputs, targets = rows[:, :-1], rows[:, 1:]
        if self.context == "document":
            return inputs, targets
        first = self._columns(start - 1, start) if start else np.full((self._batch_size, 1), self._eos_id)
        before = np.concatenate([first, inputs[:, :-1]], axis=1)
        return inputs, targets, ends_context(inputs, before, self._eos_id, self.context)

    def __iter__(self) -> Iterator[Window]:
        return (self[index] for index in range(len(self)))

    def example(self, index: int) -> tuple[Window, NDArray[np.int32]]:
        """The inputs and targets of a training step: `((ids, targets), targets)`, or with resets a third input."""
        window = self[index]
        return window, window[1]

    def set_epoch(self, epoch: int) -> None:
        """Use the order and the window lengths of an epoch, counted from 0."""
        if self._epochs:
            self._epochs.set_epoch(epoch)
        if self._length_seed is None:
            self._edges = np.arange(self._count + 1) * self.num_steps
        else:
            lengths = draw_lengths(self._row_predicted, self.num_steps, self._length_seed, epoch)
            self._edges = np.concatenate([[0], np.cumsum(lengths)])

    def _columns(self, start: int, stop: int) -> NDArray[np.int32]:
        """Columns of the rows of the epoch, `(B, stop - start)`."""
        size, length = self._batch_size, self._row_length
        if self._epochs is None:
            rows = self._ids[: size * length].reshape(size, length)
            return rows[:, start:stop].astype(np.int32)
        first = np.arange(size)[:, None] * length
        return self._epochs.take(first + np.arange(start, stop))


class EveryToken:
    """A stream as one row in which every token is a target; the first is predicted from the end symbol.

    The arguments are those of `Windows`. The last window may be shorter than `num_steps`.

    Example:
        >>> for inputs, targets in EveryToken(np.array([5, 6, 7]), eos_id=0, num_steps=2):
        ...     print(inputs, targets)
        [[0 5]] [[5 6]]
        [[6]] [[7]]
    """

    def __init__(self, ids: NDArray[Any], eos_id: int, num_steps: int, name: str = "text", context: str = "document"):
        if len(ids) == 0:
            raise TextError(f"{name}: 0 tokens; there is nothing to evaluate.")
        self._ids, self._eos_id, self.context, self.num_steps = ids, eos_id, context, num_steps
        self.predicted = len(ids)

    def __len__(self) -> int:
        return -(-self.predicted // self.num_steps)

    def __iter__(self) -> Iterator[Window]:
        edge = np.full(2, self._eos_id, np.int32)
        for start in range(0, self.predicted, self.num_steps):
            row = self._ids[max(start - 2, 0) : start + self.num_steps]
            row = np.concatenate([edge[min(start, 2) :], row]).astype(np.int32)[None]  # [1, T + 2]
            before, inputs, targets = row[:, :-2], row[:, 1:-1], row[:, 2:]
            if self.context == "document":
                yield inputs, targets
            else:
                yield inputs, targets, ends_context(inputs, before, self._eos_id, self.context)


def _too_short(name: str, tokens: int, batch_size: int, num_steps: int) -> str:
    if tokens < 2:
        return f"{name}: {'1 token' if tokens else '0 tokens'}; at least 2 are needed. Use a longer text."
    found = (
        f"{name}: {tokens:,} tokens are too few for one window of batch_size {batch_size} x num_steps {num_steps} (at "
        f"least {batch_size * (num_steps + 1):,} are needed)."
    )
    if tokens < LEAST_TOKENS:
        return f"{found} No sizes make a model of so short a text useful. Use a longer text."
    steps = min(num_steps, tokens // FEW_WINDOWS - 1)
    advice = f"`batch_size={(tokens // (FEW_WINDOWS * steps + 1))}`"
    advice += "" if steps == num_steps else f" and `num_steps={steps}`"
    return f"{found} Use {advice} or less, or a longer text."
