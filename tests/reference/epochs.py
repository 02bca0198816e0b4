"""What is held out of a text and what an epoch reads, in plain Python: lists of lines and of tokens."""

from __future__ import annotations

import hashlib
import math
from fractions import Fraction


def held_units(count: int, share: str) -> list[int]:
    """The numbers of the units that are held out of `count` units: one of each group of `1 / share`."""
    size, found, group = 1 / Fraction(share), [], 0
    while math.ceil(size * group) < count:
        members = list(range(math.ceil(size * group), math.ceil(size * (group + 1))))
        number = int(hashlib.sha256(str(group).encode()).hexdigest()[:16], 16)
        found.append(members[number % len(members)])
        group += 1
    return [unit for unit in found if unit < count]


def paragraphs(lines: list[str], words: bool) -> list[list[str]]:
    """Lines up to the last blank one before the next text."""
    found: list[list[str]] = []
    ended = True
    for line in lines:
        blank = not line or (words and not line.strip(" \t"))
        if not found or (ended and not blank):
            found.append([])
        found[-1].append(line)
        ended = blank
    return found


def split_lines(lines: list[str], share: str, context: str, words: bool = True) -> tuple[list[str], list[str]]:
    """The lines that are trained on, and those that are held out."""
    if context == "document":
        first = len(lines) - math.ceil(len(lines) * Fraction(share))
        return lines[:first], lines[first:]
    units = [[line] for line in lines] if context == "sentence" else paragraphs(lines, words)
    held = set(held_units(len(units), share))
    kept = [line for number, unit in enumerate(units) if number not in held for line in unit]
    return kept, [line for number in sorted(held) for line in units[number]]


def epoch_tokens(texts: list[list[list[int]]], weights: list[Fraction], epoch: int) -> list[int]:
    """The tokens of an epoch without shuffling: each text is a list of units, which are read in a circle."""
    read: list[int] = []
    for units, weight in zip(texts, weights, strict=True):
        size, p, q = sum(map(len, units)), weight.numerator, weight.denominator
        pieces: list[list[int]] = [[] for _ in range(q)]
        piece = position = 0
        for unit in units:
            while position >= size * (piece + 1) // q:  # the piece has reached its end
                piece += 1
            pieces[piece] += unit
            position += len(unit)
        for turn in range(epoch * p, (epoch + 1) * p):
            read += pieces[turn % q]
    return read
