"""Back-off models, as their definition states it: one word at a time, with dictionaries, in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence


class Backoff:
    """An ARPA file without blank words; probabilities and back-off weights by tuples of words."""

    def __init__(self, text: str):
        self.probability: dict[tuple[str, ...], float] = {}
        self.weight: dict[tuple[str, ...], float] = {}
        order = 0
        for line in text.split("\\data\\", 1)[1].splitlines():
            if line.strip().endswith("-grams:"):
                order = int(line.strip()[1:].removesuffix("-grams:"))
            elif order and line.split() and not line.startswith("\\"):
                first, *rest = line.split()
                gram = tuple(rest[:order])
                self.probability[gram] = 0.0 if float(first) == -99 else 10 ** float(first)
                self.weight[gram] = 10 ** float(rest[order]) if len(rest) > order else 1.0
        self.order = order

    def knows(self, word: str) -> bool:
        return (word,) in self.probability and word not in ("<s>", "</s>", "<unk>")

    def p(self, word: str, context: tuple[str, ...]) -> float:
        """Probability of a word after a context of any length."""
        gram = (*context, word)
        if gram in self.probability:
            return self.probability[gram]
        return self.weight.get(context, 1.0) * self.p(word, context[1:]) if context else 0.0

    def sentence(self, words: Sequence[str]) -> list[float]:
        """Log-probability of each word and of the end, nats."""
        history, found = ["<s>"], []
        for word in [*(word if self.knows(word) else "<unk>" for word in words), "</s>"]:
            p = self.p(word, tuple(history[max(0, len(history) - self.order + 1) :] if self.order > 1 else ()))
            found.append(math.log(p) if p else -math.inf)
            history.append(word)
        return found
