"""Beginnings of texts that grow word by word, many side by side.

A history is fed to the network when a token is appended to it for the first time: its last token, with the state before
it. From then on the log-probabilities of all tokens that may follow are known, and the state after it. Histories that
grow in one call by words that begin with the same tokens share these steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from keraslm.rescoring.prefixes import MAX_LOGITS
from keraslm.scoring.session import Session
from keraslm.scoring.state import Floats32, State
from keraslm.scoring.words import Tokens

_ROWS = 512  # of one call


@dataclass(frozen=True, eq=False)
class _Fed:
    """States after `n` histories, and log-probabilities of the tokens that may follow, `(n, tokens)`."""

    state: State
    logprobs: Floats32


@dataclass(eq=False, slots=True)
class History:
    """The tokens of a text so far. Histories of the same tokens may be different objects."""

    token: int  # the last one
    before: tuple[_Fed, int] | None  # the row of the state before it; None is the start of a text
    after: tuple[_Fed, int] | None = None  # the row of the state after it, once it is fed


class Histories:
    """Histories under one model.

    Args:
        tokens: all that may be appended, besides the end symbol.

    Attributes:
        start: the start of a text.
        steps: number of tokens that were fed to the network.

    Example:
        >>> histories = Histories(session, [2, 3])
        >>> [(logprob, history)] = histories.extend([(histories.start, (2, 3))])
    """

    def __init__(self, session: Session, tokens: Iterable[int]):
        self._session = session
        self._end = session.info.eos_id
        self._tokens = np.array(sorted({*tokens, self._end}), np.int64)
        self._columns = {token: column for column, token in enumerate(self._tokens.tolist())}
        self.start = History(session.info.bos_id, None)
        self.steps = 0

    def extend(self, pairs: Sequence[tuple[History, Tokens]]) -> list[tuple[float, History]]:
        """Append tokens to each history: their log-probability, and the history after them.

        An end symbol starts a new text.
        """
        sums, histories = [0.0] * len(pairs), [history for history, _ in pairs]
        made: dict[tuple[History, int], History] = {}
        for step in range(max((len(tokens) for _, tokens in pairs), default=0)):
            active = [number for number, (_, tokens) in enumerate(pairs) if len(tokens) > step]
            self._feed({histories[number]: None for number in active})
            for number in active:
                history, token = histories[number], pairs[number][1][step]
                assert history.after
                fed, row = history.after
                sums[number] += float(fed.logprobs[row, self._columns[token]])
                if (history, token) not in made:
                    made[history, token] = self.start if token == self._end else History(token, history.after)
                histories[number] = made[history, token]
        return list(zip(sums, histories, strict=True))

    def _feed(self, histories: Iterable[History]) -> None:
        waiting = [history for history in histories if not history.after]
        size = max(self._session.logits_per_token, self._session.info.vocab_size)
        rows = max(1, min(_ROWS, MAX_LOGITS // size))
        for part in (waiting[first : first + rows] for first in range(0, len(waiting), rows)):
            inputs = np.array([[history.token] for history in part])
            log_probs, state = self._session.run(inputs, self._states(part))  # [n, 1, V]
            fed = _Fed(state, log_probs[:, 0, self._tokens])
            for row, history in enumerate(part):
                history.before, history.after = None, (fed, row)
            self.steps += len(part)

    def _states(self, histories: Sequence[History]) -> State:
        """The states before the last tokens of histories, in order."""
        groups: dict[_Fed | None, list[int]] = {}
        for number, history in enumerate(histories):
            groups.setdefault(history.before[0] if history.before else None, []).append(number)
        states = []
        for fed, numbers in groups.items():
            rows = [before[1] for before in (histories[number].before for number in numbers) if before]
            states.append(fed.state.select(rows) if fed else self._session.zero_state(len(numbers)))
        order = np.argsort([number for numbers in groups.values() for number in numbers])
        return states[0].join(states).select(order)
