"""A model file with the neural cache, which makes words that occurred recently in similar contexts more probable.

    p(w) = (1 - lambda) p_model(w) + lambda p_cache(w)

`keraslm.testtime.neural_cache` defines p_cache. The history holds the last tokens that were read, each with the hidden
state before it. It is part of the state of a text: empty in a state of zeros, and carried wherever the state is. So the
cache is a `Session` like any other, and a `Scorer` of it scores lines, predicts words and generates text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm import arguments
from keraslm.errors import InputTypeError, UsageError
from keraslm.scoring.ensemble import Models
from keraslm.scoring.scorer import Scorer, load
from keraslm.scoring.session import ModelSession, Session, id_array
from keraslm.scoring.state import Floats32, State
from keraslm.testtime.neural_cache import UNKNOWN, Floats, NeuralCache, mixed_nats
from keraslm.testtime.settings import HISTORY, CacheSettings


@dataclass(frozen=True, eq=False)
class CachedState(State):
    """The state of a model, and the history of each row. The token after the last hidden state is not known yet."""

    model: State
    histories: tuple[NeuralCache, ...]

    def __len__(self) -> int:
        return len(self.model)

    def select(self, rows: Any) -> State:
        model = self.model.select(rows)
        return CachedState(model, tuple(self.histories[n] for n in np.arange(len(self))[rows]))

    @staticmethod
    def join(states: Sequence[Any]) -> State:
        model = states[0].model.join([state.model for state in states])
        return CachedState(model, tuple(history for state in states for history in state.histories))

    def key(self) -> tuple[Any, ...]:
        return self.model.key(), tuple(history.key for history in self.histories)


class CachedSession(Session):
    """An open model file with the neural cache.

    Args:
        session: the model file.
        settings: without None.

    Raises:
        UsageError: several model files, or a parameter of None.
        ModelFileError: a file of version 3 or 4, which does not return hidden states.

    Example:
        >>> cached = CachedSession(ModelSession("model.onnx"), CacheSettings(cache_theta=0.4, cache_lambda=0.2))
        >>> log_probs, state = cached.run([[0]], cached.zero_state(1))     # (1, 1, V)
    """

    def __init__(self, session: Session, settings: CacheSettings):
        self._session, self.settings = cacheable(session), complete(settings)
        self._thetas: Sequence[float] | Floats = [float(settings.cache_theta or 0)]
        self.tokenizer, self.info = self._session.tokenizer, self._session.info
        self.adaptive, self.logits_per_token = self._session.adaptive, self._session.logits_per_token
        self.state_size = self._session.state_size + settings.cache_window * self._session.info.hidden_size

    def __repr__(self) -> str:
        return f"CachedSession({self._session!r}, {self.settings!r})"

    @property
    def members(self) -> tuple[ModelSession, ...]:
        return self._session.members

    def zero_state(self, rows: int) -> State:
        empty = NeuralCache(self.settings.cache_window, self._thetas)
        return CachedState(self._session.zero_state(rows), (empty,) * rows)

    def run(self, ids: Any, state: Any) -> tuple[Floats32, State]:
        ids = id_array(ids, "ids")
        log_probs, hidden, after = self._session.hidden_states(ids, None, self._checked(state).model)
        share = np.float64(self.settings.cache_lambda)
        histories = []
        with np.errstate(divide="ignore"):  # log(0) = -inf is the right value
            for row, own in enumerate(_histories(state, ids)):
                for steps, words, masses in own.distributions(hidden[row], _following(ids[row])):
                    found, places = log_probs[row], np.ix_(steps, words)  # found is a view, (T, V)
                    found[steps] += np.log1p(-share, dtype=np.float32)
                    found[places] = np.logaddexp(found[places], np.log(share) + np.log(masses))
                histories.append(own)
        return log_probs, CachedState(after, tuple(histories))

    def target_logprobs(self, ids: Any, targets: Any, state: Any) -> tuple[Floats32, State]:
        logprobs, masses, after = self.masses(ids, targets, state)
        nats = mixed_nats(-logprobs.astype(np.float64), masses[0], self.settings.cache_lambda)
        return (-nats).astype(np.float32), after

    def masses(self, ids: Any, targets: Any, state: Any) -> tuple[Floats32, Floats, State]:
        """Log-probabilities under the model `(N, T)` and probabilities under the cache `(G, N, T)` of targets."""
        ids, targets = id_array(ids, "ids"), id_array(targets, "targets")
        logprobs, hidden, after = self._session.hidden_states(ids, targets, self._checked(state).model)
        histories = _histories(state, ids)
        masses = [
            own.step(hidden[row], targets[row], following=_following(ids[row])) for row, own in enumerate(histories)
        ]
        return logprobs, np.stack(masses, axis=1), CachedState(after, histories)

    def _checked(self, state: Any) -> CachedState:
        if not isinstance(state, CachedState):
            raise InputTypeError(
                f"The state is {state!r}, but one with a history is expected; take it from the session's zero_state or "
                "a previous call."
            )
        return state


def complete(settings: CacheSettings) -> CacheSettings:
    """Settings without None; a `UsageError` if one is missing."""
    arguments.instance(settings, CacheSettings, "settings", "a CacheSettings")
    if settings.cache_theta is None or settings.cache_lambda is None:
        raise UsageError("A neural cache needs `cache_theta` and `cache_lambda`; tune_cache finds the best ones.")
    return settings


def parameters_of(session: Session) -> dict[str, str]:
    """The parameters of the neural cache of a session, for signatures; empty without a cache."""
    found = vars(session.settings) if isinstance(session, CachedSession) else {}
    return {name: f"{value:g}" for name, value in found.items()}


def cacheable(session: Session) -> ModelSession:
    """A session that can have a neural cache; a `UsageError` or `ModelFileError` if it cannot."""
    if len(session.members) != 1:
        raise UsageError(
            f"A neural cache compares the hidden states of one model, but there are {len(session.members)}. Leave out "
            "the others."
        )
    if not isinstance(session, ModelSession):
        (session,) = session.members
    session.check_hidden()
    return session


def with_cache(
    models: Scorer | Models,
    cache_theta: float,
    cache_lambda: float,
    cache_window: int = HISTORY,
    provider: str = "auto",
    threads: int | None = None,
) -> Scorer:
    """A scorer of a model with the neural cache: words that occurred recently in similar contexts are more probable.

    The cache is empty at the start of each text, and wherever the state starts from zeros: use the context
    `"document"`, or `"paragraph"`. Grave, Joulin and Usunier 2017, arXiv:1612.04426.

    Args:
        models: a `Scorer`, or path of one model file.
        cache_theta: how much more similar hidden states count, 0 or more; `tune_cache` finds the best one.
        cache_lambda: share of the cache in the mixture, at least 0 and below 1; likewise.
        cache_window: number of recent tokens in the cache.
        provider, threads: as for `ModelSession`.

    Raises:
        ConfigError: a parameter out of range.
        UsageError: several model files.
        ModelFileError: a file that does not return hidden states; export the run again.

    Example:
        >>> scorer = keraslm.with_cache("model.onnx", cache_theta=0.4, cache_lambda=0.2)
        >>> scorer.perplexity(open("text.txt"), context="document")
        96.05
    """
    settings = CacheSettings(cache_window, cache_theta, cache_lambda)
    scorer = models if isinstance(models, Scorer) else load(models, provider, threads)
    return Scorer(CachedSession(scorer.session, settings))


def _histories(state: CachedState, ids: NDArray[Any]) -> tuple[NeuralCache, ...]:
    """The histories of a state, with the token that is read first."""
    found = tuple(history.copy() for history in state.histories)
    for own, first in zip(found, ids[:, 0].tolist(), strict=True):
        own.read(first)
    return found


def _following(ids: NDArray[Any]) -> NDArray[np.int64]:
    """The token after each hidden state of a row, as far as it has been read."""
    return np.append(ids[1:].astype(np.int64), UNKNOWN)
