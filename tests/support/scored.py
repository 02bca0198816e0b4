"""Scored lines without a model: numbers that a seed makes up."""

from __future__ import annotations

import numpy as np

from keraslm.scoring.measures import LineScore


def scored(lines, tokenizer, seed: int = 0, distributions: bool = True) -> list[LineScore]:
    rng = np.random.default_rng(seed)
    found = []
    for line, ids in zip(lines, tokenizer.encode_lines(list(lines)), strict=True):
        size = len(ids)
        more = (rng.integers(1, 100, size), rng.uniform(0, 9, size), np.zeros(size)) if distributions else ()
        found.append(LineScore(line, ids, -rng.gamma(2.0, 2.0, size), ids == tokenizer.unk_id, *more))
    return found
