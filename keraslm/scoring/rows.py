"""Rows of tokens through the network: texts side by side from a zero state, or one text from a position in it.

Dimensions are those of `keraslm.scoring.measures`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.scoring.batching import Line, Row, blocks, cut, side_by_side
from keraslm.scoring.measures import LineScore, Measures, Wanted, line_score, measure, with_reductions
from keraslm.scoring.session import Session
from keraslm.scoring.state import State
from keraslm.text.encoders import Ids
from keraslm.text.pieces import one_line

MAX_LOGITS = 1 << 22  # largest rows x steps x vocabulary of one call: 16 MiB of log-probabilities
MAX_STEPS = 1024  # tokens per row of one call
MAX_ROWS = 64  # rows side by side


@dataclass(frozen=True)
class Context:
    """A position in a text, as a value."""

    state: State  # of one row, after every token before `last`
    last: int  # the last token so far; the end symbol at the start of a text
    entropy: float = field(default=math.nan, compare=False)  # of the distribution of `last`, nats; NaN if unknown


@dataclass(frozen=True)
class Reading:
    """How lines are scored.

    Attributes:
        context: how far the state is carried.
        wanted: the measures.
        lines_ahead: largest number of lines scored together.
        bos: whether the first token of each text is predicted.
        first_lines: number of lines in the first block; more are read ahead later.
        side_by_side: score several texts in one call. False: a call has the tokens of one text, and no others.
    """

    context: str
    wanted: Wanted
    lines_ahead: int
    bos: bool = True
    first_lines: int = 1
    side_by_side: bool = True


class Rows:
    """Scores tokens with a session."""

    def __init__(self, session: Session):
        self.session = session

    def begin(self) -> Context:
        return Context(self.session.zero_state(1), self.session.info.bos_id)

    def score(self, lines: Iterable[Line], how: Reading) -> Iterator[LineScore]:
        """Score lines in blocks as they are read; None marks the end of a file."""
        carried: Context | None = None
        for block in blocks(lines, how.lines_ahead, 2, lambda line: [line or ""], how.first_lines):
            texts = [one_line(line) for line in block if line is not None]
            found = iter(self.session.tokenizer.encode_lines(texts))
            ids = [None if line is None else next(found) for line in block]
            rows, inside = cut(ids, how.context, self.session.info.eos_id, carried.last if carried else None)
            scores: dict[int, Measures] = {}
            for row in rows:
                if row.continues or row.open:
                    own, start = row.ids, carried
                    if start is None or not row.continues:
                        own, last = self._predicted(row, how.bos)
                        start = Context(self.session.zero_state(1), last)
                    scores[id(row)], carried = self.alone(own, start, how.wanted)
            complete = sorted((row for row in rows if not (row.continues or row.open)), key=len, reverse=True)
            size = MAX_ROWS if how.side_by_side else 1
            for first in range(0, len(complete), size):
                group = complete[first : first + size]
                measures = self._group([self._predicted(row, how.bos) for row in group], how.wanted)
                scores |= {id(row): part for row, part in zip(group, measures, strict=True)}
            if not inside:
                carried = None
            lines_ids = [line for line in ids if line is not None]
            yield from self._line_scores(
                texts, lines_ids, [_filled(scores[id(row)], len(row)) for row in rows], how.bos
            )

    def _predicted(self, row: Row, bos: bool) -> tuple[Ids, int]:
        """The tokens of a text that are predicted from its start, and the token before them."""
        return (row.ids, self.session.info.bos_id) if bos else (row.ids[1:], int(row.ids[0]))

    def alone(self, ids: NDArray[Any], context: Context, wanted: Wanted) -> tuple[Measures, Context]:
        """Measures of the tokens of one row, `(M, tokens)`, and the position after them."""
        if not len(ids):
            return with_reductions(np.zeros((wanted.count, 0)), context.entropy), context
        targets = ids.astype(np.int64)
        inputs = np.concatenate([[context.last], targets[:-1]])
        parts, state, steps = [], context.state, self._steps(1)
        for start in range(0, len(ids), steps):
            part = slice(start, start + steps)
            found, state = self._call(inputs[None, part], targets[None, part], state, wanted)
            parts.append(found[:, 0])
        measures = with_reductions(np.concatenate(parts, axis=1), context.entropy)
        return measures, Context(state, int(ids[-1]), float(measures[2, -1]) if wanted.everything else math.nan)

    def _group(self, texts: Sequence[tuple[Ids, int]], wanted: Wanted) -> list[Measures]:
        """Measures of texts side by side, the longest first, each after a token and a zero state; `(M, tokens)`."""
        rows, lasts = zip(*texts, strict=True)
        length = len(rows[0])
        inputs, targets = side_by_side(rows, lasts, self.session.info.eos_id)  # [N, T]
        state, parts, start = self.session.zero_state(len(rows)), [], 0
        while start < length:
            alive = sum(len(ids) > start for ids in rows)
            part = slice(start, start + self._steps(alive))
            found, state = self._call(inputs[:alive, part], targets[:alive, part], state.select(slice(alive)), wanted)
            parts.append(found)
            start = part.stop
        measures = []
        for number, ids in enumerate(rows):
            own = [part[:, number] for part in parts if number < part.shape[1]]
            found = np.concatenate(own, axis=1) if own else np.zeros((wanted.count, 0))
            measures.append(with_reductions(found[:, : len(ids)], math.nan))
        return measures

    def _steps(self, rows: int) -> int:
        return steps_of(rows, self.session.logits_per_token)

    def _call(
        self, inputs: NDArray[np.int64], targets: NDArray[np.int64], state: State, wanted: Wanted
    ) -> tuple[Measures, State]:
        if not wanted.everything:
            found, state = self.session.target_logprobs(inputs, targets, state)  # [N, T]
            return found[None].astype(np.float64), state
        log_probs, state = self.session.run(inputs, state)  # [N, T, V]
        return measure(log_probs, targets, wanted, self.session.info.eos_id), state

    def _line_scores(
        self, texts: Sequence[str], lines: Sequence[Ids], scores: Sequence[Measures], bos: bool
    ) -> Iterator[LineScore]:
        if not texts:
            return
        whole, unk_id, start = np.concatenate(scores, axis=1), self.session.info.unk_id, 0
        for text, ids in zip(texts, lines, strict=True):
            end = start + len(ids)
            yield line_score(text, ids, ids == unk_id, whole[:, start:end], bos)
            start = end


def steps_of(rows: int, logits_per_token: int) -> int:
    """Number of tokens per row in one call of the network."""
    return max(1, min(MAX_STEPS, MAX_LOGITS // (rows * logits_per_token)))


def _filled(measures: Measures, tokens: int) -> Measures:
    """Measures `(M, tokens)`, with NaN for a first token that was not predicted."""
    missing = tokens - measures.shape[1]
    return np.pad(measures, ((0, 0), (missing, 0)), constant_values=math.nan) if missing else measures
