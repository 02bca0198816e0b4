"""Several model files as one: the mean of their probabilities.

    log p(w | text) = log (1/M * (p_1(w | text) + ... + p_M(w | text)))

Every member has its own state. The perplexity is at most the geometric mean of the members' (Jensen's inequality).
Reference: Zaremba, Sutskever and Vinyals 2014, "Recurrent neural network regularization", table 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm import arguments
from keraslm.errors import InputTypeError, ModelFileError, UsageError
from keraslm.scoring.contract import Vocabulary
from keraslm.scoring.session import ModelSession, Session
from keraslm.scoring.state import Floats32, State

Models = str | Path | Sequence[str | Path]


@dataclass(frozen=True, eq=False)
class EnsembleState(State):
    """One state per member of an ensemble, all with the same number of rows."""

    members: tuple[State, ...]

    def __len__(self) -> int:
        return len(self.members[0])

    def select(self, rows: Any) -> State:
        return EnsembleState(tuple(member.select(rows) for member in self.members))

    @staticmethod
    def join(states: Sequence[Any]) -> State:
        of_each = zip(*(state.members for state in states), strict=True)
        return EnsembleState(tuple(own[0].join(own) for own in of_each))

    def key(self) -> tuple[Any, ...]:
        return tuple(member.key() for member in self.members)


class Ensemble(Session):
    """Open model files used as one model: at least one, with the same tokenizer.

    Raises:
        UsageError: no member.
        ModelFileError: two members have different tokenizers.

    Example:
        >>> both = Ensemble([ModelSession("one.onnx"), ModelSession("other.onnx")])
        >>> log_probs, state = both.run([[0]], both.zero_state(1))     # (1, 1, V), the mean of two distributions
    """

    def __init__(self, members: Sequence[ModelSession]):
        members = [
            arguments.instance(member, ModelSession, place, "a ModelSession")
            for member, place in arguments.each(members, "members", "ModelSessions")
        ]
        if not members:
            raise UsageError("An ensemble needs at least one model file.")
        first = members[0]
        for other in members[1:]:
            if other.info.tokenizer_sha256 != first.info.tokenizer_sha256:
                raise ModelFileError(
                    f"{other.path}: a different tokenizer than that of {first.path}: {_describe_tokenizer(other)} "
                    f"instead of {_describe_tokenizer(first)}. Train the members of an ensemble with the same "
                    'tokenizer, e.g. `tokenizer="RUN/tokenizer.json"`.'
                )
        self._members = tuple(members)
        self.tokenizer = first.tokenizer
        self.info = Vocabulary(*(getattr(first.info, field.name) for field in dataclasses.fields(Vocabulary)))
        self.adaptive = any(member.adaptive for member in members)
        self.logits_per_token = sum(member.logits_per_token for member in members)
        self.state_size = sum(member.state_size for member in members)

    def __repr__(self) -> str:
        return f"Ensemble([{', '.join(map(repr, self._members))}])"

    def __reduce__(self) -> tuple[Any, ...]:
        return Ensemble, (self._members,)

    @property
    def members(self) -> tuple[ModelSession, ...]:
        return self._members

    def zero_state(self, rows: int) -> State:
        return EnsembleState(tuple(member.zero_state(rows) for member in self._members))

    def run(self, ids: Any, state: Any) -> tuple[Floats32, State]:
        return _mean([member.run(ids, own) for member, own in self._pairs(state)])

    def target_logprobs(self, ids: Any, targets: Any, state: Any) -> tuple[Floats32, State]:
        return _mean([member.target_logprobs(ids, targets, own) for member, own in self._pairs(state)])

    def _pairs(self, state: Any) -> list[tuple[ModelSession, State]]:
        if not isinstance(state, EnsembleState) or len(state.members) != len(self.members):
            raise InputTypeError(
                f"The state is {state!r}, but one of {len(self.members)} models is expected; take it from the "
                "ensemble's zero_state or a previous call."
            )
        return list(zip(self.members, state.members, strict=True))


def open_models(models: Models, provider: str = "auto", threads: int | None = None) -> Session:
    """Open a model file, or several as one `Ensemble`; a path that occurs twice counts twice."""
    paths = [Path(path) for path in arguments.paths(models, "models")]
    opened = {path: ModelSession(path, provider, threads) for path in dict.fromkeys(paths)}
    members = [opened[path] for path in paths]
    return members[0] if len(members) == 1 else Ensemble(members)


def logmeanexp(logprobs: Sequence[NDArray[np.float32]]) -> Floats32:
    """`log(mean(exp(logprobs)))` over several arrays of the same shape, element by element, without underflow."""
    top = logprobs[0]
    for other in logprobs[1:]:
        top = np.maximum(top, other)
    top = np.maximum(top, np.finfo(np.float32).min)  # for tokens that have no probability in any member
    total = np.zeros_like(top)
    for each in logprobs:
        total += np.exp(each - top)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(total / np.float32(len(logprobs))) + top, np.float32)


def _mean(answers: list[tuple[Floats32, State]]) -> tuple[Floats32, State]:
    return logmeanexp([found for found, _ in answers]), EnsembleState(tuple(state for _, state in answers))


def _describe_tokenizer(session: ModelSession) -> str:
    return f"{session.info.vocab_size:,} tokens, SHA-256 {session.info.tokenizer_sha256[:12]}…"
