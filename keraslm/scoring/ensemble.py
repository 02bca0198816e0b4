"""Several model files as one: the mean of their probabilities.

    log p(w | text) = log (1/M * (p_1(w | text) + ... + p_M(w | text)))

Every member reads the whole text, and its state is its own; the mean is taken anew at each token, and so it is a
distribution over the vocabulary as each of them is. Its log-probability is at least the mean of theirs (Jensen): an
ensemble is never worse than the geometric mean of its members' perplexities. The cost is that of its members together.

Reference: Zaremba, Sutskever and Vinyals 2014, "Recurrent neural network regularization", table 1: one large LSTM 78.4,
the mean of ten 69.5, of thirty-eight 68.7 on PTB's test text.

Letters: `M` members, `N` rows, `T` steps, `V` vocabulary, `L` layers and `H` units of a member.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.errors import InputError, ModelFileError, UsageError
from keraslm.scoring.session import ModelSession
from keraslm.scoring.state import Floats, State


class EnsembleState(State):
    """The states of the members, row by row: a value as each of them is.

    Args:
        members: of as many rows each, in the order of the ensemble's members.

    Attributes:
        h, c: all numbers of a row side by side, float32 `(1, N, sum of L * H)`, copied when somebody looks at them.
    """

    def __init__(self, members: Sequence[State]):
        self.members = tuple(members)

    @cached_property
    def h(self) -> Floats:
        return _side_by_side([member.h for member in self.members])

    @cached_property
    def c(self) -> Floats:
        return _side_by_side([member.c for member in self.members])

    def __len__(self) -> int:
        return len(self.members[0])

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        of_h, of_c = zip(*(member.shapes for member in self.members), strict=True)
        units = [sum(layers * units for layers, _, units in shapes) for shapes in (of_h, of_c)]
        return (1, len(self), units[0]), (1, len(self), units[1])

    @property
    def kinds(self) -> tuple[str, str]:
        return "float32", "float32"

    def select(self, rows: Any) -> State:
        return EnsembleState([member.select(rows) for member in self.members])

    @staticmethod
    def join(states: Sequence[State]) -> State:
        of_each = zip(*map(_members, states), strict=True)
        return EnsembleState([own[0].join(own) for own in of_each])


class Ensemble(ModelSession):
    """Open model files that answer as one; wherever a `ModelSession` is taken, so is this.

    Args:
        members: one or more, of any sizes, softmaxes and precisions, but of one tokenizer.

    Attributes:
        members: as they were given.
        path: of the first.
        digest: SHA-256 of the members' digests in their order, a space between two; hexadecimal.
        info: what the members have in common, and one layer of all their units; it has no configuration.
        tokenizer: of all members.
        provider: `"cuda"` where every member runs there, or else `"cpu"`.

    Raises:
        UsageError: no member.
        ModelFileError: two members have different tokenizers.

    Example:
        >>> both = Ensemble([ModelSession("one.onnx"), ModelSession("other.onnx")])
        >>> log_probs, state = both.run([[0]], both.zero_state(1))     # (1, 1, V), the mean of two distributions
    """

    def __init__(self, members: Sequence[ModelSession]):
        if not members:
            raise UsageError("An ensemble needs at least one model file.")
        first = members[0]
        for other in members[1:]:
            if other.info.tokenizer_sha256 != first.info.tokenizer_sha256:
                raise ModelFileError(
                    f"{other.path}: another tokenizer than that of {first.path}: {_tokenizer(other)} instead of "
                    f"{_tokenizer(first)}. The members of an ensemble score the same tokens: train them with one "
                    "tokenizer, e.g. --tokenizer RUN/tokenizer.json."
                )
        self._members = tuple(members)
        self.path, self.tokenizer = first.path, first.tokenizer
        self.provider = "cuda" if all(member.provider == "cuda" for member in members) else "cpu"
        self.digest = hashlib.sha256(" ".join(member.digest for member in members).encode()).hexdigest()
        self.info = dataclasses.replace(
            first.info,
            num_layers=1,
            hidden_size=sum(member.info.num_layers * member.info.hidden_size for member in members),
            embedding_dim=sum(member.info.embedding_dim for member in members),
            valid_perplexity=math.nan,
            config="{}",
            # Where one member computes only the clusters that a target needs, all are asked for targets.
            softmax="adaptive" if any(member.info.softmax == "adaptive" for member in members) else "full",
            precision="int8" if any(member.info.precision == "int8" for member in members) else "float32",
        )

    @property
    def members(self) -> tuple[ModelSession, ...]:
        return self._members

    @cached_property
    def cells(self) -> int:
        """Numbers that a token of a call is reckoned to take in memory: those of all members, which are there at
        once."""
        return sum(member.cells for member in self._members)

    def zero_state(self, rows: int) -> State:
        return EnsembleState([member.zero_state(rows) for member in self._members])

    def run(self, ids: Any, state: State) -> tuple[Floats, State]:
        """`ModelSession.run`: the log of the mean of the members' distributions, float32 `(N, T, V)`."""
        states = self._checked(state)
        answers = [member.run(ids, own) for member, own in zip(self._members, states, strict=True)]
        return logmeanexp([found for found, _ in answers]), EnsembleState([after for _, after in answers])

    def target_logprobs(self, ids: Any, targets: Any, state: State) -> tuple[Floats, State]:
        """`ModelSession.target_logprobs`: the log of the mean of the targets' probabilities, float32 `(N, T)`."""
        states = self._checked(state)
        answers = [member.target_logprobs(ids, targets, own) for member, own in zip(self._members, states, strict=True)]
        return logmeanexp([found for found, _ in answers]), EnsembleState([after for _, after in answers])

    def _checked(self, state: State) -> tuple[State, ...]:
        states = _members(state)
        if len(states) != len(self._members):
            raise InputError(
                f"A state of {len(states)} models was given to an ensemble of {len(self._members)}; take it from the "
                "ensemble's zero_state or an earlier call."
            )
        return states


def open_models(paths: Sequence[str | Path], provider: str = "auto", threads: int = 0) -> ModelSession:
    """Open a model file, or several as one `Ensemble`.

    Args:
        paths: of the files; one that stands there twice counts twice.
        provider: `"cpu"`, `"cuda"` or `"auto"`.
        threads: that compute one operation; 0 takes one a core. Members compute one after the other.

    Raises:
        ModelFileError: a file is not a keraslm model, or has another tokenizer than the first.
        UsageError: no path, an unknown provider, or CUDA was asked for and is not there.
    """
    opened: dict[Path, ModelSession] = {}
    for path in map(Path, paths):
        if path not in opened:
            opened[path] = ModelSession(path, provider, threads)
    members = [opened[Path(path)] for path in paths]
    return members[0] if len(members) == 1 else Ensemble(members)


def logmeanexp(logprobs: Sequence[NDArray[np.float32]]) -> Floats:
    """`log(mean(exp(logprobs)))` over several arrays of one shape, number by number, without underflow.

    Example:
        >>> logmeanexp([np.log([0.5, 0.25]), np.log([0.5, 0.75])])          # log of 0.5 and 0.5
        array([-0.6931472, -0.6931472], dtype=float32)
    """
    top = logprobs[0]
    for other in logprobs[1:]:
        top = np.maximum(top, other)
    top = np.maximum(top, np.finfo(np.float32).min)  # where no member has any probability left
    total = np.zeros_like(top)
    for each in logprobs:
        total += np.exp(each - top)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(total / np.float32(len(logprobs))) + top, np.float32)


def _members(state: State) -> tuple[State, ...]:
    """The states of an ensemble's members; a state of one model stands for itself."""
    return state.members if isinstance(state, EnsembleState) else (state,)


def _side_by_side(arrays: Sequence[Floats]) -> Floats:
    """`(L, N, H)` each to `(1, N, sum of L * H)`."""
    rows = arrays[0].shape[1]
    return np.concatenate([a.transpose(1, 0, 2).reshape(rows, -1) for a in arrays], axis=1)[None]


def _tokenizer(session: ModelSession) -> str:
    return f"{session.info.vocab_size:,} tokens, SHA-256 {session.info.tokenizer_sha256[:12]}…"
