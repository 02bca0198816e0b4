"""A trigram model of two words that can be computed by hand, and its changes."""

from __future__ import annotations

import math

PROBABILITIES = {
    1: {"<s>": (0, 0.5), "</s>": (0.2, 1), "<unk>": (0.1, 1), "a": (0.4, 0.25), "b": (0.3, 1)},
    2: {"<s> a": (0.6, 0.8), "a b": (0.7, 0.5)},
    3: {"<s> a b": (0.9, 1)},
}


def rows(grams: dict[str, tuple[float, float]]) -> list[str]:
    """Lines of an ARPA file; a back-off weight of 1 is left out."""
    return [
        f"{math.log10(p) if p else -99!r}\t{gram}" + (f"\t{math.log10(weight)!r}" if weight != 1 else "")
        for gram, (p, weight) in grams.items()
    ]


def arpa_of(tables: dict[int, dict[str, tuple[float, float]]]) -> str:
    """The ARPA file of n-grams with their probabilities and back-off weights."""
    counts = [f"ngram {size}={len(grams)}" for size, grams in tables.items()]
    sections = ["\n".join([f"\\{size}-grams:", *rows(grams)]) for size, grams in tables.items()]
    return "\n\n".join(["\n".join(["\\data\\", *counts]), *sections, "\\end\\"]) + "\n"


TOY = arpa_of(PROBABILITIES)
