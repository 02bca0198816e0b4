"""Text drawn from a model: temperature, top-k, top-p."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keraslm.errors import UsageError
from keraslm_onnx.session import ModelSession


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn.

    Attributes:
        temperature: divides the log-probabilities; below 1 sharper, above 1 flatter, 0 always the most likely token.
        top_k: keep the k most likely tokens; 0 keeps all.
        top_p: keep the most likely tokens that together reach this probability (nucleus sampling, Holtzman et al.
            2020, arXiv:1904.09751); 1 keeps all.
        seed: of the draws; None draws afresh each time.

    Top-k is applied first, then top-p on what is left, both after the temperature.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature is {self.temperature}, but must be 0 or more and finite.")
        if self.top_k < 0:
            raise UsageError(f"top_k is {self.top_k}, but must be 0 (all tokens) or more.")
        if not 0.0 < self.top_p <= 1.0:
            raise UsageError(f"top_p is {self.top_p}, but must be above 0 and at most 1.")
        if self.seed is not None and self.seed < 0:
            raise UsageError(f"seed is {self.seed}, but must be 0 or more.")


def probabilities(log_probs: NDArray[np.floating], sampling: Sampling) -> NDArray[np.float64]:
    """The distribution that the next token is drawn from.

    Args:
        log_probs: natural logarithms, `(V,)`; -inf forbids a token.
        sampling: temperature, top-k and top-p.

    Returns:
        probabilities that sum to 1, float64 `(V,)`.

    Example:
        >>> probabilities(np.log([0.5, 0.3, 0.2]), Sampling(top_k=2)).round(3)
        array([0.625, 0.375, 0.   ])
    """
    scores = log_probs.astype(np.float64)
    order = np.argsort(-scores, kind="stable")  # most likely first, ties by id
    if sampling.temperature == 0.0:
        order, scores = order[:1], np.zeros_like(scores)
    else:
        scores = (scores - scores[order[0]]) / sampling.temperature
    if sampling.top_k:
        order = order[: sampling.top_k]
    kept = np.exp(scores[order])
    kept /= kept.sum()
    if sampling.top_p < 1.0:
        # A token stays while those before it have not reached top_p: the first one always does.
        kept = kept[np.cumsum(kept) - kept < sampling.top_p]
    result = np.zeros(len(scores))
    result[order[: len(kept)]] = kept / kept.sum()
    return result


def generate(
    session: ModelSession,
    prompt: str = "",
    max_tokens: int = 100,
    sampling: Sampling | None = None,
    stop_at_eos: bool = True,
    allow_unk: bool = False,
) -> Iterator[str]:
    """Draw tokens after a prompt, one at a time.

    Args:
        session: an open model file.
        prompt: begin of a line; empty starts a text.
        max_tokens: stop after so many tokens.
        sampling: temperature, top-k, top-p and seed; None draws from the model's own distribution.
        stop_at_eos: stop at the end of a line. `<eos>` itself is yielded too.
        allow_unk: let `<unk>` be drawn.

    Returns:
        an iterator over the tokens as text, `<eos>` at the end of a line.

    Raises:
        UsageError: at once, when `max_tokens` is negative.
    """
    if max_tokens < 0:
        raise UsageError(f"max_tokens is {max_tokens}, but must be 0 or more.")
    return _draw(session, prompt, max_tokens, sampling or Sampling(), stop_at_eos, allow_unk)


def _draw(
    session: ModelSession, prompt: str, max_tokens: int, sampling: Sampling, stop_at_eos: bool, allow_unk: bool
) -> Iterator[str]:
    rng = np.random.default_rng(sampling.seed)
    info = session.info
    ids = [info.bos_id, *session.tokenizer.encode_prompt(prompt)]
    log_probs, state = session.run([ids], session.zero_state(1))
    for _ in range(max_tokens):
        scores = log_probs[0, -1].copy()
        if not allow_unk:
            scores[info.unk_id] = -np.inf
        token = int(rng.choice(len(scores), p=probabilities(scores, sampling)))
        yield session.tokenizer.tokens([token])[0]
        if stop_at_eos and token == info.eos_id:
            return
        log_probs, state = session.run([[token]], state)
