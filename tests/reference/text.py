"""A random text with something to learn: after each word, some words are more frequent than others."""

from __future__ import annotations

import random
from pathlib import Path

WORDS = [f"word{number}" for number in range(12)]


def made_up_lines(lines: int, seed: int) -> list[str]:
    generator = random.Random(seed)
    made = []
    for _ in range(lines):
        number, line = generator.randrange(12), []
        for _ in range(generator.randint(3, 8)):
            line.append(WORDS[number])
            number = (number * 5 + generator.choice((1, 1, 1, 2, 7))) % 12
        made.append(" ".join(line))
    return made


def write_text(path: Path, lines: int, seed: int) -> Path:
    path.write_text("".join(line + "\n" for line in made_up_lines(lines, seed)), encoding="utf-8")
    return path
