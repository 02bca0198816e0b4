"""Text drawn from a model: temperature, top-k, top-p, min-p."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from keraslm import arguments
from keraslm.errors import UsageError
from keraslm.scoring.measures import largest
from keraslm.scoring.scorer import Scorer
from keraslm.scoring.session import Session
from keraslm.text.decoding import Detokenizer
from keraslm.text.encoders import Ids

_SMALLEST = np.finfo(np.float64).tiny  # processors may treat smaller numbers as 0, which cannot divide


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn: first the temperature, then top-k, top-p and min-p on the remaining tokens.

    Attributes:
        temperature: divisor of the log-probabilities: sharper below 1, flatter above; 0 for the most likely token only.
        top_k: keep the k most likely tokens; None keeps all.
        top_p: keep the most likely tokens that together reach this probability (nucleus sampling, Holtzman et al.
            2020, arXiv:1904.09751); 1 keeps all.
        min_p: keep tokens with at least this share of the probability of the most likely one (Nguyen et al. 2024,
            arXiv:2407.01082); 0 keeps all.
        seed: of the random numbers; None for different tokens each time.

    Raises:
        UsageError: a value out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int | None = None
    min_p: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= arguments.number(self.temperature, "temperature") < float("inf"):
            raise UsageError(f"`temperature` is {self.temperature}, but must be 0 or more and finite.")
        if self.top_k is not None:
            arguments.integer(self.top_k, "top_k", 1)
        if not 0.0 < arguments.number(self.top_p, "top_p") <= 1.0:
            raise UsageError(f"`top_p` is {self.top_p}, but must be above 0 and at most 1.")
        if not 0.0 <= arguments.number(self.min_p, "min_p") <= 1.0:
            raise UsageError(f"`min_p` is {self.min_p}, but must be from 0 to 1.")
        if self.seed is not None:
            arguments.integer(self.seed, "seed", 0)


def probabilities(log_probs: NDArray[np.floating], sampling: Sampling) -> NDArray[np.float64]:
    """The distribution that the next token is drawn from, float64 `(V,)`; a log-probability of -inf forbids a token."""
    tokens, kept = _support(log_probs, sampling)
    result = np.zeros(len(log_probs))
    result[tokens] = kept
    return result


def draw(log_probs: NDArray[np.floating], sampling: Sampling, rng: np.random.Generator) -> int:
    """Draw one token. Takes one number from the generator, whatever the settings."""
    tokens, kept = _support(log_probs, sampling)
    reached = np.cumsum(kept)
    return int(tokens[np.searchsorted(reached / reached[-1], rng.random(), side="right")])


def _support(log_probs: NDArray[np.floating], sampling: Sampling) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The tokens that can be drawn, by id, and their probabilities."""
    scores = log_probs.astype(np.float64)
    if sampling.temperature < _SMALLEST:
        return np.array([scores.argmax()]), np.ones(1)
    with np.errstate(over="ignore"):  # of a tiny temperature: -inf, a probability of 0
        scores = (scores - scores.max()) / sampling.temperature
    tokens = np.arange(len(scores)) if sampling.top_k is None else np.sort(largest(scores, sampling.top_k))
    kept = np.exp(scores[tokens])
    kept /= kept.sum()
    if sampling.top_p < 1.0:
        tokens, kept = _nucleus(tokens, kept, sampling.top_p)
    if sampling.min_p > 0.0:
        chosen = kept >= sampling.min_p * kept.max()
        tokens, kept = tokens[chosen], kept[chosen]
    return tokens, kept / kept.sum()


def _nucleus(
    tokens: NDArray[np.int64], kept: NDArray[np.float64], top_p: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The most probable tokens that together reach `top_p`: the first always, and each that follows less than it."""
    count = 64
    while True:
        best = largest(kept, count)
        before = np.cumsum(kept[best]) - kept[best]
        if count >= len(kept) or before[-1] >= top_p:
            best = np.sort(best[before < top_p])
            return tokens[best], kept[best]
        count *= 8


def generate(
    session: Session | Scorer,
    prompt: str = "",
    max_tokens: int = 100,
    sampling: Sampling | None = None,
    stop_at_eos: bool = True,
    allow_unk: bool = False,
    as_text: bool = False,
) -> Iterator[str]:
    """Draw tokens after a prompt, one at a time.

    Args:
        prompt: beginning of a line, without a line end inside; an empty prompt starts a text.
        sampling: None draws from the model's own distribution.
        stop_at_eos: stop after the end symbol of a line.
        allow_unk: allow `<unk>` to be drawn.
        as_text: yield pieces of text, with LF at the end of a line, instead of names of tokens. A character is yielded
            when all of its bytes have been drawn.

    Raises:
        UsageError: `max_tokens` is negative.
    """
    scorer = session if isinstance(session, Scorer) else Scorer(session)
    session = scorer.session
    arguments.integer(max_tokens, "max_tokens", 0)
    sampling = Sampling() if sampling is None else arguments.instance(sampling, Sampling, "sampling", "a Sampling")
    for name, value in (("stop_at_eos", stop_at_eos), ("allow_unk", allow_unk), ("as_text", as_text)):
        arguments.switch(value, name)
    ids = session.tokenizer.encode_prompt(arguments.text(prompt, "prompt"))
    drawn = islice(_draw(scorer, ids, sampling, stop_at_eos, allow_unk), min(max_tokens, sys.maxsize))
    if as_text:
        return _as_text(session, ids.tolist(), drawn)
    return (session.tokenizer.tokens([token])[0] for token in drawn)


def _draw(scorer: Scorer, prompt: Ids, sampling: Sampling, stop_at_eos: bool, allow_unk: bool) -> Iterator[int]:
    rng = np.random.default_rng(sampling.seed)
    session, info = scorer.session, scorer.session.info
    _, context = scorer.advance_all(scorer.begin(), prompt)  # in pieces, and without distributions
    token, state = context.last, context.state
    while True:
        log_probs, state = session.run([[token]], state)
        scores = log_probs[0, -1].copy()
        if not allow_unk and info.unk_id >= 0:
            scores[info.unk_id] = -np.inf
        token = draw(scores, sampling, rng)
        yield token
        if stop_at_eos and token == info.eos_id:
            return


def _as_text(session: Session, line: list[int], drawn: Iterator[int]) -> Iterator[str]:
    detokenizer = Detokenizer(session.tokenizer, line)
    for token in drawn:
        if text := detokenizer.add(token):
            yield text
    if text := detokenizer.rest():
        yield text
