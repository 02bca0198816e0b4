"""Two tasks without data: sequences of words to reverse, and numbers to write in words."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np

ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
ONES += ["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def in_words(number: int) -> str:
    """A number below a million in English words.

    Example:
        >>> in_words(90_017)
        'ninety thousand seventeen'
    """
    if number < 20:
        return ONES[number]
    for size, name in ((1000, "thousand"), (100, "hundred")):
        if number >= size:
            rest = number % size
            return f"{in_words(number // size)} {name}{' ' + in_words(rest) if rest else ''}"
    return TENS[number // 10 - 2] + (f" {ONES[number % 10]}" if number % 10 else "")


def write_toy(folder: Path, task: str, pairs: int = 10_000, seed: int = 0) -> None:
    """Write train, valid and test texts with the suffixes .in and .out; no pair is in two of them."""
    generator = np.random.default_rng(seed)
    if task == "numbers":
        numbers = generator.permutation(1_000_000)[: pairs + 1000]
        found = [(" ".join(str(number)), in_words(int(number))) for number in numbers]
    else:
        letters = ["".join(pair) for pair in product("bdgk", "aeiou")]
        rows = {tuple(generator.choice(letters, generator.integers(2, 9))) for _ in range(2 * pairs + 2000)}
        order = generator.permutation(len(rows))  # of the sorted rows: the order of a set differs between processes
        ranked = sorted(rows)
        found = [(" ".join(ranked[n]), " ".join(ranked[n][::-1])) for n in order]
    folder.mkdir(parents=True, exist_ok=True)
    splits = {"valid": found[:500], "test": found[500:1000], "train": found[1000 : pairs + 1000]}
    for name, part in splits.items():
        for suffix, lines in zip(("in", "out"), zip(*part, strict=True), strict=True):
            (folder / f"{name}.{suffix}").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
