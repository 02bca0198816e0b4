"""Find translations with a model: greedy search, sampling and beam search, in NumPy only.

N sentences are searched at once. The model is a function over R rows, a vocabulary of V tokens and S source positions:

    step(tokens, memory, state) -> (log_probs, state, alignment)

    tokens     int64 (R,): the previous token of each row; at first the end symbol
    memory     tuple of arrays whose first axis is R: constant during the search; may be empty
    state      tuple of arrays whose first axis is R
    log_probs  float (R, V), in nats
    alignment  float (R, S): weights of the source positions; None for a model without attention

The functions take memory and state with one row per sentence; `eos`, the id of the end symbol; and `limits`, int (N,),
the maximum number of tokens per sentence, at least 1, end symbol included. R is constant, so a model is compiled once.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Arrays = tuple[np.ndarray, ...]
Step = Callable[[np.ndarray, Arrays, Arrays], tuple[np.ndarray, Arrays, np.ndarray | None]]
Seed = int | tuple[int, ...]


@dataclass(frozen=True)
class Hypothesis:
    """One translation."""

    tokens: list[int]  # without the end symbol
    score: float  # log_prob divided by the length penalty
    log_prob: float  # in nats, at temperature 1; includes the end symbol if finished
    positions: list[int]  # source position with the largest weight, for each token; empty without attention
    finished: bool  # True: ends with the end symbol; False: ends at its limit

    def extend(self, token: int, log_prob: float, position: list[int], eos: int, length_penalty: float) -> "Hypothesis":
        """Append one token. The penalty of n tokens, end symbol included, is ((5 + n) / 6) ** length_penalty."""
        total = self.log_prob + float(log_prob)
        if math.isnan(total):
            raise ValueError(f"The model returned NaN as a log-probability after {len(self.tokens)} tokens.")
        score = total / ((6 + len(self.tokens)) / 6) ** length_penalty  # Wu et al. 2016, arXiv:1609.08144, equation 14
        if token == eos:
            return Hypothesis(self.tokens, score, total, self.positions, True)
        return Hypothesis([*self.tokens, int(token)], score, total, self.positions + position, False)


START = Hypothesis([], 0.0, 0.0, [], False)


@dataclass(frozen=True)
class Search:
    """Settings of a search, checked when built."""

    beam: int = 1  # hypotheses per sentence; 1: greedy search
    length_penalty: float = 0.0  # alpha of Wu et al. 2016; 0: rank by log-probability; larger values favour length
    temperature: float = 0.0  # above 0: draw one sample per sentence at this temperature instead of searching
    seed: int = 0  # of the samples
    max_ratio: float = 2.0  # the limit is max_ratio * source tokens + 10; source of 2: NMT tutorial, nmt/model.py

    def __post_init__(self) -> None:
        if self.beam < 1 or min(self.length_penalty, self.temperature, self.seed, self.max_ratio) < 0:
            raise ValueError(f"`beam` must be at least 1, and no other setting may be negative: {self}")
        if self.temperature > 0 and self.beam > 1:
            raise ValueError(f"Samples are one per sentence: set `beam` to 1 or `temperature` to 0: {self}")

    def limits(self, source_lengths: np.ndarray) -> np.ndarray:
        """Return the limit of each sentence, int (N,), for its number of source tokens, int (N,)."""
        return np.ceil(self.max_ratio * np.asarray(source_lengths)).astype(int) + 10

    def run(
        self, step: Step, memory: Arrays, state: Arrays, eos: int, limits: np.ndarray, batch: int = 0
    ) -> list[list[Hypothesis]]:
        """Return hypotheses per sentence, best first. Samples depend on the seed and on the number of the batch."""
        if self.temperature > 0:
            seed = (self.seed, batch)
            return [[found] for found in sample(step, memory, state, eos, limits, self.temperature, seed)]
        return beam_search(step, memory, state, eos, limits, self.beam, self.length_penalty)


def search_batches(
    encode: Callable[[np.ndarray, np.ndarray], tuple[Arrays, Arrays]],
    step: Step,
    sentences: list[np.ndarray],
    eos: int,
    search: Search,
    size: int = 64,
    width: int = 1,
) -> list[list[Hypothesis]]:
    """Return the hypotheses of all sentences, which are ids with the end symbol, from batches of similar length.

    `encode` maps ids, int32 (size, S), and lengths, (size,), to memory and state. S is a multiple of `width`, and the
    last batch is filled up, so that a model is compiled for few shapes.
    """
    found: list[list[Hypothesis]] = [[] for _ in sentences]
    order = sorted(range(len(sentences)), key=lambda n: len(sentences[n]))
    for start in range(0, len(order), size):
        places = order[start : start + size]
        source, lengths = padded([sentences[n] for n in places], size, width)
        limits = np.where(lengths > 0, search.limits(lengths), 1)
        hypotheses = search.run(step, *encode(source, np.maximum(lengths, 1)), eos, limits, start // size)
        for n, best in zip(places, hypotheses, strict=False):
            found[n] = best
    return found


def padded(sentences: list[np.ndarray], rows: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids, int32 (rows, S), 0 where a row has none, and lengths, int32 (rows,); S is a multiple of `width`."""
    longest = max(map(len, sentences))
    ids, lengths = np.zeros((rows, -(-longest // width) * width), np.int32), np.zeros(rows, np.int32)
    for row, sentence in enumerate(sentences):
        ids[row, : len(sentence)], lengths[row] = sentence, len(sentence)
    return ids, lengths


def greedy(step: Step, memory: Arrays, state: Arrays, eos: int, limits: np.ndarray) -> list[Hypothesis]:
    """Return one hypothesis per sentence, with the most probable token in each step: beam search with a beam of 1."""
    return sample(step, memory, state, eos, limits, temperature=0.0)


def sample(
    step: Step, memory: Arrays, state: Arrays, eos: int, limits: np.ndarray, temperature: float = 1.0, seed: Seed = 0
) -> list[Hypothesis]:
    """Return one hypothesis per sentence, with tokens drawn from softmax(log_probs / temperature)."""
    generator = np.random.default_rng(seed)
    found, pending = [START] * len(limits), list(range(len(limits)))
    tokens = np.full(len(limits), eos, np.int64)
    while pending:
        log_probs, state, positions = _call(step, tokens, memory, state)
        # The largest sum of a log-probability and Gumbel noise is a draw from the softmax (Gumbel 1954).
        noise = temperature * generator.gumbel(size=log_probs.shape) if temperature else 0.0
        tokens = np.argmax(log_probs + noise, axis=1)
        for n in pending:
            found[n] = found[n].extend(tokens[n], log_probs[n, tokens[n]], positions[n], eos, 0.0)
        pending = [n for n in pending if not found[n].finished and len(found[n].tokens) < limits[n]]
    return found


def beam_search(
    step: Step, memory: Arrays, state: Arrays, eos: int, limits: np.ndarray, beam: int = 4, length_penalty: float = 0.0
) -> list[list[Hypothesis]]:
    """Return up to `beam` hypotheses per sentence, best score first. R is N * beam.

    Row n * beam + k is the active hypothesis k of sentence n. A sentence is done when `beam` hypotheses are finished or
    when it reaches its limit, where its active hypotheses count as well.
    """
    memory, state = (tuple(np.repeat(array, beam, axis=0) for array in arrays) for arrays in (memory, state))
    active, pending = [[START] for _ in limits], list(range(len(limits)))
    ended: list[list[Hypothesis]] = [[] for _ in limits]
    tokens, length = np.full(len(limits) * beam, eos, np.int64), 0
    while pending:
        log_probs, state, positions = _call(step, tokens, memory, state)
        tokens, parents, length = np.full_like(tokens, eos), np.arange(len(tokens)), length + 1
        for n in pending:
            first, last = n * beam, (n + 1) * beam
            children = _expand(active[n], log_probs[first:last], positions[first:last], eos, length_penalty)
            ended[n] += [child for _, child in children[:beam] if child.finished]
            children = [(parent, child) for parent, child in children if not child.finished][:beam]
            active[n] = [child for _, child in children]
            ended[n] += active[n] if length >= limits[n] else []
            for row, (parent, child) in enumerate(children, first):
                tokens[row], parents[row] = child.tokens[-1], first + parent
        pending = [n for n in pending if length < limits[n] and len(ended[n]) < beam and active[n]]
        state = tuple(array[parents] for array in state)
    return [sorted(hypotheses, key=lambda found: -found.score)[:beam] for hypotheses in ended]


def replace_unknown(tokens: list[str], positions: list[int], source: list[str], unknown: str) -> list[str]:
    """Replace each unknown token by the source token with the largest weight (Luong et al. 2015, arXiv:1410.8206).

    A token remains unknown without attention, or if its position is past the source, where the end symbol is.
    """
    if not positions:
        return list(tokens)
    pairs = zip(tokens, positions, strict=True)
    return [source[place] if token == unknown and place < len(source) else token for token, place in pairs]


def _call(step: Step, tokens: np.ndarray, memory: Arrays, state: Arrays) -> tuple[np.ndarray, Arrays, list[list[int]]]:
    """Call the model. The position of each row is a list: of one element with attention, empty without."""
    log_probs, state, alignment = step(tokens, memory, state)
    positions = [[] for _ in tokens] if alignment is None else np.argmax(alignment, axis=1)[:, None].tolist()
    return np.asarray(log_probs), state, positions


def _expand(
    active: list[Hypothesis], log_probs: np.ndarray, positions: list[list[int]], eos: int, length_penalty: float
) -> list[tuple[int, Hypothesis]]:
    """Return the 2 * beam best continuations of a sentence, best first, each with the number of its parent.

    At most `beam` of them end, one per parent, so `beam` others remain unless fewer exist.
    """
    beam, vocabulary = log_probs.shape
    totals = log_probs[: len(active)] + np.array([[parent.log_prob] for parent in active])  # float64
    places = (divmod(int(place), vocabulary) for place in _best(totals.ravel(), 2 * beam))
    return [(k, active[k].extend(v, log_probs[k, v], positions[k], eos, length_penalty)) for k, v in places]


def _best(scores: np.ndarray, count: int) -> np.ndarray:
    """Return the places of the `count` largest scores above -inf, largest first, ties in order. NaN is the largest."""
    count = min(count, len(scores))
    least = np.partition(scores, -count)[-count]
    places = np.flatnonzero(~(scores < least) & (scores != -math.inf))[::-1]
    return places[np.argsort(scores[places], kind="stable")][::-1][:count]
