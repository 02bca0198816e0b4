"""What travels between the server and its workers: rows, which are texts at one position, and what was seen of them.

Rows and their results are values. So a piece of work can be repeated, on a different worker and with different
neighbours, and continues where the previous piece stopped.

Dimensions: `T` steps, `K` alternatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.scoring.sampler import Sampling
from keraslm.scoring.state import Floats32, State
from keraslm.text.encoders import Ids


@dataclass(frozen=True)
class Position:
    """A position in a text: the state after every token before `last`; None is the state of a new text.

    `before` is the token before `last`, on which the end of a paragraph depends.
    """

    last: int
    before: int
    state: State | None = None


@dataclass(frozen=True)
class Read:
    """A row that is read: the tokens `ids`, `(T,)`, from a position.

    Attributes:
        top: number of alternatives per token; None for log-probabilities only, which is faster.
        full: whether ranks and entropies are wanted too; needs `top`.
        carried: whether the position after the last token is wanted.
    """

    position: Position
    ids: Ids
    top: int | None = None
    full: bool = False
    carried: bool = False

    @property
    def kind(self) -> tuple[Any, ...]:
        """Rows of the same kind can share a piece."""
        return Read, self.top is not None, self.full


@dataclass(frozen=True)
class Seen:
    """Tokens that were read or drawn, `(T,)` each; `after` is the position after them, if it is known.

    `tops` are the ids and log-probabilities of alternatives, `(T, K)`, the most probable first. `measures` are ranks
    and entropies (nats), `(2, T)`.
    """

    ids: Ids
    logprobs: Floats32
    tops: tuple[Ids, Floats32] | None = None
    measures: NDArray[np.float64] | None = None
    after: Position | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Draw:
    """A row from which tokens are drawn.

    Attributes:
        stream: which stream of random numbers of the seed.
        count: number of tokens.
        drawn: how many numbers were taken from the stream.
        bias: ids and what is added to their log-probabilities.
        through: whether to continue after an end symbol.
        context: where the state is reset then.
    """

    position: Position
    stream: int
    sampling: Sampling
    count: int
    drawn: int = 0
    top: int | None = None
    bias: tuple[Ids, Floats32] | None = None
    through: bool = False
    context: str = "document"

    @property
    def kind(self) -> tuple[Any, ...]:
        return (Draw,)


@dataclass(frozen=True)
class Ahead:
    """A text whose `count` most probable next words are wanted, as in `keraslm.scoring.predict`."""

    position: Position
    begun: str
    lead: str
    count: int

    @property
    def kind(self) -> tuple[Any, ...]:
        return (Ahead,)


@dataclass(frozen=True)
class Facts:
    """What the server needs to know of the model. `rows` is the number of rows that a piece may have."""

    tokenizer: str
    vocab_size: int
    unk_id: int
    eos_id: int
    context: str
    rows: int
    meta: dict[str, Any]


Row = Read | Draw | Ahead
