"""One stream of token ids -> contiguous rows -> windows of `num_steps`.

The alphabet as the text, `batch_size=4`:

    a b c d e f g h i j k l m n o p q r s t u v w x y z

The stream is cut into 4 rows of 26 // 4 = 6 tokens; `y z` are left over:

    row 0   a b c d e f
    row 1   g h i j k l
    row 2   m n o p q r
    row 3   s t u v w x

With `num_steps=2` a window holds 2 inputs of each row, and as targets the same tokens shifted by one:

                window 0           window 1
             inputs  targets    inputs  targets
    row 0     a b     b c        c d     d e
    row 1     g h     h i        i j     j k
    row 2     m n     n o        o p     p q
    row 3     s t     t u        u v     v w

Row r of window 1 goes on where row r of window 0 stopped, so the LSTM's state after window 0 is the right state to
start window 1 with. Read down a column: step t of a window is the vector of every row's t-th word, e.g. `a g m s` ->
`b h n t`, which the network computes at once. What is lost: g is never predicted from f (the cut between rows), the
gradient does not flow from window 1 back into window 0 (truncated backpropagation through time), and `f l r x`, `y z`
and each row's first token are never targets: there are (26 // 4 - 1) // 2 = 2 windows, 16 of 26 tokens are predicted.

Windows may be of varying length (`keraslm.text.window_lengths`): they are then cut at other places in each epoch, and
fill the rows to their last token.

Where the stream is made of documents that must not see each other, a window has a third part: which inputs start from
a state of zeros (`keraslm.text.context`). There is no padding between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.errors import TextError
from keraslm.text.context import ShuffledStream, ends_context
from keraslm.text.window_lengths import draw_lengths, window_count

Window = tuple[NDArray[Any], ...]  # inputs, targets; with context, resets too unless the context is the document


class Windows:
    """The windows of a stream, in order.

    Args:
        ids: integers of shape `(tokens,)`; may be a mapped file.
        batch_size: B, rows side by side.
        num_steps: T, tokens of a row in a window.
        name: what messages call the text.
        context: `"document"`, `"sentence"` or `"paragraph"`: how far the state is carried.
        eos_id: the end symbol, needed for sentences and paragraphs.
        shuffle_seed: of the order of sentences or paragraphs, which differs in each epoch; None keeps the text's order.
        length_seed: lengths of the windows around `num_steps`, others each epoch; None makes all of them `num_steps`.

    Attributes:
        predicted: tokens that are a target of some window.
        left_over: tokens that are not: the ends of rows, the remainder, and each row's first token.

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
    ):
        row_length = len(ids) // batch_size
        if row_length <= num_steps:
            raise TextError(_too_short(name, len(ids), batch_size, num_steps))
        self.num_steps, self._length_seed = num_steps, length_seed
        self._predicted = row_length - 1  # of a row
        if length_seed is None:
            self._count = self._predicted // num_steps
            self._predicted = self._count * num_steps
        else:
            self._count = window_count(self._predicted, num_steps)
            self._cut(0)
        self._rows = ids[: batch_size * row_length].reshape(batch_size, row_length)  # [B, row_length]
        self._shuffled = None
        if shuffle_seed is not None:
            self._shuffled = ShuffledStream(ids, eos_id, context, shuffle_seed)
        self.context, self._eos_id = context, eos_id
        self.predicted = batch_size * self._predicted
        self.left_over = len(ids) - self.predicted

    def __len__(self) -> int:
        return self._count

    @property
    def varies(self) -> bool:
        """Whether windows are of varying length."""
        return self._length_seed is not None

    @property
    def lengths(self) -> NDArray[np.int64]:
        """T of each window of the epoch, `(windows,)`."""
        return np.diff(self._edges) if self.varies else np.full(self._count, self.num_steps)

    def __getitem__(self, index: int) -> Window:
        """Inputs and targets of one window, int32 of shape `(B, T)` each; with documents also resets, bool `(B, T)`."""
        if not 0 <= index < self._count:
            raise IndexError(f"window {index} of {self._count}")
        start, stop = self._edge(index), self._edge(index + 1)
        rows = self._columns(start, stop + 1)  # [B, T + 1]
        inputs, targets = rows[:, :-1], rows[:, 1:]
        if self.context == "document":
            return inputs, targets
        first = self._columns(start - 1, start) if start else np.full((len(rows), 1), self._eos_id)
        before = np.concatenate([first, inputs[:, :-1]], axis=1)
        return inputs, targets, ends_context(inputs, before, self._eos_id, self.context)

    def __iter__(self) -> Iterator[Window]:
        return (self[index] for index in range(len(self)))

    def set_epoch(self, epoch: int) -> None:
        """Put the documents in the order of an epoch, counted from 0, and cut its windows, where these differ."""
        if self._shuffled:
            self._shuffled.set_epoch(epoch)
        if self.varies:
            self._cut(epoch)

    def _cut(self, epoch: int) -> None:
        assert self._length_seed is not None
        lengths = draw_lengths(self._predicted, self.num_steps, self._length_seed, epoch)
        self._edges = np.concatenate([[0], np.cumsum(lengths)])

    def _edge(self, index: int) -> int:
        """Where a window begins in its row."""
        return int(self._edges[index]) if self.varies else index * self.num_steps

    def _columns(self, start: int, stop: int) -> NDArray[np.int32]:
        if self._shuffled is None:
            return self._rows[:, start:stop].astype(np.int32)
        first = np.arange(len(self._rows))[:, None] * self._rows.shape[1]
        return self._shuffled.take(first + np.arange(start, stop))


class EveryToken:
    """A stream as one row in which every token is a target: the first is predicted from the end symbol.

    The last window may be shorter than `num_steps`.

    Args:
        ids: integers of shape `(tokens,)`, at least one token; may be a mapped file.
        eos_id: id that stands before the first token.
        num_steps: T, tokens of a window; any value gives the same result.
        name: what messages call the text.
        context: as for `Windows`.

    Example:
        >>> for inputs, targets in EveryToken(np.array([5, 6, 7]), eos_id=0, num_steps=2):
        ...     print(inputs, targets)
        [[0 5]] [[5 6]]
        [[6]] [[7]]
    """

    def __init__(self, ids: NDArray[Any], eos_id: int, num_steps: int, name: str = "text", context: str = "document"):
        if len(ids) == 0:
            raise TextError(f"{name}: 0 tokens; there is nothing to evaluate.")
        self._ids, self._eos_id, self.context = ids, eos_id, context
        self.num_steps = num_steps
        self.predicted = len(ids)
        self.left_over = 0

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
    if tokens == 0:
        return f"{name}: 0 tokens; a text with at least one line is needed."
    if tokens == 1:
        return f"{name}: 1 token, and no other to predict from it; a longer text is needed."
    fits = tokens // (num_steps + 1)
    asked = f"{name}: {tokens} tokens are too few for one window of batch_size {batch_size} x num_steps {num_steps}"
    needed = f"(at least {batch_size * (num_steps + 1)} are needed)"
    advice = (
        f"use --batch-size {fits} or less" if fits else f"use --batch-size 1 --num-steps {max(tokens - 1, 1)} or less"
    )
    return f"{asked} {needed}; {advice}, or a longer text."
