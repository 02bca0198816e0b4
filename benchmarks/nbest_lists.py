"""n-best lists similar to those of a speech recogniser, made from a text; the same seed makes the same lists.

A sentence becomes a confusion network. Most words have no alternative; at some positions, spread over the sentence, the
word has rivals, and a rival may be empty:

    it | was | {the, a} | best | {of, off, -} | times

Each rival has a cost, and the cost of a hypothesis is the sum. The list holds the hypotheses with the lowest cost, the
best first. Hypotheses thus differ in a few words, early and late, and share prefixes, as in the lists of a recogniser.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
from common import zipf

Hypothesis = tuple[float, str]  # score of the first pass, natural logarithm; text


def zipf_sentences(count: int, vocabulary: int, words: int = 20, seed: int = 0) -> list[str]:
    """Sentences of words `w0`, `w1`, ... drawn by Zipf's law.

    Args:
        count: number of sentences.
        vocabulary: number of different words.
        words: mean length of a sentence; lengths are between half and one and a half times the mean.
        seed: of the random generator.
    """
    rng = np.random.default_rng(seed)
    lengths = rng.integers(words // 2, words + words // 2 + 1, count)
    drawn = iter(rng.choice(vocabulary, int(lengths.sum()), p=zipf(vocabulary)).tolist())
    return [" ".join(f"w{number}" for number in itertools.islice(drawn, int(length))) for length in lengths]


def make_lists(lines: Iterable[str], size: int = 100, seed: int = 0) -> Iterator[list[Hypothesis]]:
    """One n-best list per sentence.

    Args:
        lines: the spoken sentences; rivals are drawn from the words of all of them.
        size: largest number of hypotheses per list; a short sentence may have fewer.
        seed: of the random generator.

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
    """For each word its alternatives with their costs; at 6 to 8 positions there are two or three."""
    places = set(rng.choice(len(sentence), min(len(sentence), int(rng.integers(6, 9))), replace=False).tolist())
    network = []
    for place, word in enumerate(sentence):
        rivals = [(0.0, word)]
        for _ in range(int(rng.integers(1, 3)) if place in places else 0):
            other = "" if rng.random() < 0.1 else words[int(rng.integers(len(words)))]
            rivals.append((float(rng.exponential(2.0)), other))
        network.append(rivals)
    return network
