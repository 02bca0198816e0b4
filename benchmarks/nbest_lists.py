"""n-best lists as a speech recogniser leaves them, made from a text: the same lists for the same seed.

A sentence becomes a confusion network, "sausages" in a row. Most words stand alone; at some places, spread over the
sentence, the word has rivals, and now and then a rival says nothing:

    it | was | {the, a} | best | {of, off, -} | times

Each rival costs something, and a hypothesis costs the sum; the list holds the hypotheses that cost least, the best
first. So hypotheses differ in a few words early and late, and share their beginnings, as in the lists of a recogniser.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator

import numpy as np

Hypothesis = tuple[float, str]  # score of the first pass, natural logarithm; text


def zipf_sentences(count: int, vocabulary: int, words: int = 20, seed: int = 0) -> list[str]:
    """Sentences of words `w0`, `w1`, ... drawn by Zipf's law.

    Args:
        count: of sentences.
        vocabulary: number of words.
        words: of a sentence, on average; from a half more to a half less.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    share = 1.0 / np.arange(2.7, vocabulary + 2.7)
    lengths = rng.integers(words // 2, words + words // 2 + 1, count)
    drawn = iter(rng.choice(vocabulary, int(lengths.sum()), p=share / share.sum()).tolist())
    return [" ".join(f"w{number}" for number in itertools.islice(drawn, int(length))) for length in lengths]


def make_lists(lines: Iterable[str], size: int = 100, seed: int = 0) -> Iterator[list[Hypothesis]]:
    """An n-best list for each sentence.

    Args:
        lines: the sentences that were said; a word's rivals are drawn from the words of all of them.
        size: of a list, at most: a short sentence may not have so many hypotheses.
        seed: of the draw.

    Example:
        >>> for score, text in next(make_lists(["it was the best of times"], size=3)):
        ...     print(f"{score:.2f} {text}")
    """
    lines = list(lines)
    words = list(itertools.chain.from_iterable(line.split() for line in lines))
    rng = np.random.default_rng(seed)
    for line in lines:
        network = _network(line.split(), words, rng)
        combined = ((sum(cost for cost, _ in path), path) for path in itertools.product(*network))
        best = heapq.nsmallest(size, combined, key=lambda found: found[0])
        yield [(-cost, " ".join(word for _, word in path if word)) for cost, path in best]


def _network(sentence: list[str], words: list[str], rng: np.random.Generator) -> list[list[tuple[float, str]]]:
    """For each word what may stand in its place, and what that costs; at 6 to 8 places two or three of them."""
    places = set(rng.choice(len(sentence), min(len(sentence), int(rng.integers(6, 9))), replace=False).tolist())
    network = []
    for place, word in enumerate(sentence):
        rivals = [(0.0, word)]
        for _ in range(int(rng.integers(1, 3)) if place in places else 0):
            other = "" if rng.random() < 0.1 else words[int(rng.integers(len(words)))]
            rivals.append((float(rng.exponential(2.0)), other))
        network.append(rivals)
    return network
