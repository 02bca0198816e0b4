"""What a worker process computes: pieces, which are lists of rows of the same kind.

A piece ends after about `SECONDS`, so that the rows that wait get their turn; its rows may then be unfinished.

Dimensions: `N` rows, `T` steps, `V` vocabulary, `K` alternatives.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.config.shapes import weight_shapes
from keraslm.scoring.batching import side_by_side
from keraslm.scoring.contract import Vocabulary
from keraslm.scoring.ensemble import open_models
from keraslm.scoring.measures import Wanted, largest, measure
from keraslm.scoring.predict import Prediction, predict_from
from keraslm.scoring.rows import MAX_ROWS, Context, steps_of
from keraslm.scoring.sampler import draw
from keraslm.scoring.session import ModelSession, Session
from keraslm.scoring.state import Floats32, State
from keraslm.server.rows import Ahead, Draw, Facts, Position, Read, Seen
from keraslm.text.context import ends_context
from keraslm.text.encoders import Ids

SECONDS = 0.03


class Engine:
    """Computes pieces, which are lists of rows of the same kind; or None, for the `Facts`."""

    def __init__(self, models: Any, provider: str, threads: int | None):
        self.session = open_models(models, provider, threads)

    def __call__(self, piece: Any) -> Any:
        if piece is None:
            return facts(self.session)
        if isinstance(piece[0], Ahead):
            return [look_ahead(self.session, row) for row in piece]
        return read(self.session, piece) if isinstance(piece[0], Read) else draw_rows(self.session, piece)


def look_ahead(session: Session, row: Ahead) -> list[Prediction]:
    """The most probable next words of a row."""
    context = Context(_joined(session, [row.position]), row.position.last)
    return predict_from(session, context, row.begun, row.lead, row.count)


def facts(session: Session) -> Facts:
    """The facts of an open model; an ensemble has those of its first member."""
    first = session.members[0]
    info, config = first.info, first.info.configuration(str(first.path))
    meta = {
        "vocab_size": info.vocab_size,
        "cell": config.model.cell,
        "layers": len(config.model.sizes),
        "units": list(config.model.sizes),
        "parameters": sum(map(_parameters, session.members)),
        "models": len(session.members),
        "softmax": info.softmax,
        "precision": info.precision,
        "tokenizer": config.data.tokenizer,
        "valid_perplexity": info.valid_perplexity if math.isfinite(info.valid_perplexity) else None,
    }
    # The graph of a mixture of softmaxes rounds a row differently beside others.
    alone = any(member.info.softmax == "mixture" for member in session.members)
    ids = info.vocab_size, info.unk_id, info.eos_id
    return Facts(info.tokenizer, *ids, config.data.context, 1 if alone else MAX_ROWS, meta)


def _parameters(member: ModelSession) -> int:
    model = member.info.configuration(str(member.path)).model
    return sum(math.prod(shape) for shape in weight_shapes(model, member.info.vocab_size).values())


def read(session: Session, rows: Sequence[Read]) -> list[Seen]:
    """Read the rows of a piece, or their beginnings. All rows have the same kind."""
    until = time.monotonic() + SECONDS
    order = sorted(range(len(rows)), key=lambda number: len(rows[number].ids), reverse=True)
    sorted_rows = [rows[number] for number in order]
    lasts = [row.position.last for row in sorted_rows]
    inputs, targets = side_by_side([row.ids for row in sorted_rows], lasts, session.info.eos_id)
    logits = session.logits_per_token if rows[0].top is None else session.info.vocab_size
    lengths = [len(row.ids) for row in sorted_rows]
    ends = sorted(set(lengths))  # no call goes beyond the end of a row: its state is taken there, and nothing is padded
    state, start, parts = _joined(session, [row.position for row in sorted_rows]), 0, []
    states: dict[int, State] = {}
    while start < lengths[0] and (start == 0 or time.monotonic() < until):
        alive = sum(length > start for length in lengths)
        end = next(end for end in ends if end > start)
        part = slice(start, min(end, start + steps_of(alive, logits)))
        found, state = _measured(
            session, inputs[:alive, part], targets[:alive, part], state.select(slice(alive)), sorted_rows
        )
        parts.append(found)
        start = part.stop
        for number in range(alive):
            if lengths[number] == start and sorted_rows[number].carried:
                states[number] = state.select([number])
    for number, length in enumerate(lengths):
        if length > start:
            states[number] = state.select([number])
    answers = [_seen(row, number, start, parts, states.get(number)) for number, row in enumerate(sorted_rows)]
    return [answer for _, answer in sorted(zip(order, answers, strict=True), key=lambda pair: pair[0])]


def _joined(session: Session, positions: Sequence[Position]) -> State:
    if all(position.state is None for position in positions):
        return session.zero_state(len(positions))
    zero = session.zero_state(1)
    return zero.join([zero if position.state is None else position.state for position in positions])


def _measured(
    session: Session, inputs: NDArray[np.int64], targets: NDArray[np.int64], state: State, rows: Sequence[Read]
) -> tuple[tuple[Any, ...], State]:
    """Log-probabilities `(N, T)`, alternatives `(N, T, K)`, ranks and entropies `(2, N, T)`, and the next state."""
    if rows[0].top is None:
        logprobs, state = session.target_logprobs(inputs, targets, state)
        return (logprobs, None, None), state
    found, state = session.run(inputs, state)  # [N, T, V]
    logprobs = np.take_along_axis(found, targets[..., None], axis=2)[..., 0]
    tops = _tops(found, max(row.top or 0 for row in rows))
    measures = measure(found, targets, Wanted(True), session.info.eos_id)[1:] if rows[0].full else None
    return (logprobs, tops, measures), state


def _tops(log_probs: Floats32, count: int) -> tuple[Ids, Floats32]:
    """The ids and log-probabilities of the most probable tokens, the most probable first: `(..., V)` to `(..., K)`."""
    if count == 1:
        ids = log_probs.argmax(-1)[..., None]  # of all distributions at once
    elif count:
        flat = log_probs.reshape(-1, log_probs.shape[-1])
        ids = np.stack([largest(own, count) for own in flat]).reshape(*log_probs.shape[:-1], -1)
    else:
        ids = np.zeros((*log_probs.shape[:-1], 0), np.int64)
    return ids.astype(np.int32), np.take_along_axis(log_probs, ids, -1)


def _seen(row: Read, number: int, read_to: int, parts: Sequence[tuple[Any, ...]], state: State | None) -> Seen:
    length = min(len(row.ids), read_to)
    own = [part for part in parts if number < len(part[0])]
    ids = row.ids[:length]
    logprobs = np.concatenate([part[0][number] for part in own])[:length]
    tops = measures = after = None
    if row.top is not None:
        top_ids, top_logprobs = (np.concatenate([part[1][i][number] for part in own])[:length] for i in (0, 1))
        tops = top_ids[:, : row.top], top_logprobs[:, : row.top]
    if row.full:
        measures = np.concatenate([part[2][:, number] for part in own], axis=1)[:, :length]
    if state is not None:
        before = int(ids[-2]) if length > 1 else row.position.last
        after = Position(int(ids[-1]), before, state)
    return Seen(ids, logprobs, tops, measures, after)


def draw_rows(session: Session, rows: Sequence[Draw]) -> list[Seen]:
    """Draw the tokens of the rows of a piece, or the first of them."""
    until = time.monotonic() + SECONDS
    drawing = [_Drawing(row) for row in rows]
    active, state, started = drawing, _joined(session, [row.position for row in rows]), False
    while active and (not started or time.monotonic() < until):
        started = True
        log_probs, state = session.run([[each.last] for each in active], state)
        for each, own in zip(active, log_probs[:, 0], strict=True):
            each.step(own, session.info)
        if any(each.done or each.reset for each in active):
            _part(active, state)
            active = [each for each in active if not each.done]
            state = _joined(session, [each.position for each in active]) if active else state
    _part([each for each in active if not each.done], state)
    return [each.seen() for each in drawing]


def _part(active: Sequence[_Drawing], state: State) -> None:
    """Give each row its own state."""
    for number, each in enumerate(active):
        each.state = None if each.reset else state.select([number])
        each.reset = False


class _Drawing:
    """A row while its tokens are drawn."""

    def __init__(self, row: Draw):
        self.row, self.last, self.before, self.state = row, row.position.last, row.position.before, row.position.state
        # Stream 0 is that of `keraslm generate`; each token takes one number.
        source = np.random.PCG64([row.sampling.seed or 0, row.stream])
        source.advance(row.drawn)
        self._rng = np.random.Generator(source)
        self._tokens: list[int] = []
        self._logprobs: list[Any] = []
        self._tops: list[tuple[Ids, Floats32]] = []
        self.done = self.reset = False

    @property
    def position(self) -> Position:
        return Position(self.last, self.before, self.state)

    def step(self, log_probs: Floats32, info: Vocabulary) -> None:
        """Draw a token from the distribution `(V,)`."""
        row = self.row
        scores = log_probs.copy()
        if row.bias is not None:
            np.add.at(scores, row.bias[0], row.bias[1])
        if info.unk_id >= 0:
            scores[info.unk_id] = -np.inf
        token = draw(scores, row.sampling, self._rng)
        self._tokens.append(token)
        self._logprobs.append(log_probs[token])
        if row.top is not None:
            self._tops.append(_tops(log_probs, row.top))
        self.before, self.last = self.last, token
        ids, before = np.array([token]), np.array([self.before])
        self.reset = bool(ends_context(ids, before, info.eos_id, row.context))
        self.done = len(self._tokens) == row.count or (token == info.eos_id and not row.through)

    def seen(self) -> Seen:
        tops = tuple(np.stack([top[part] for top in self._tops]) for part in (0, 1)) if self._tops else None
        ids, logprobs = np.array(self._tokens, np.int32), np.array(self._logprobs, np.float32)
        return Seen(ids, logprobs, tops, None, self.position)  # type: ignore[arg-type]
