"""Random lattices, all paths of a lattice, and their scores text by text; an n-gram model as a session."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from keraslm.lattices.lattice import FILLERS, Arc, Header, Lattice, sorted_lattice
from keraslm.lattices.rescored import KnownWeights, RescoredLattice
from keraslm.scoring.session import Session
from keraslm.scoring.state import ModelState
from tests.support.fake_model import TOKENIZER, V, model_info

WORDS = ["the", "cat", "dog", "sat", "bird", ""]


def random_lattice(seed: int, nodes: int = 7, words: list[str] = WORDS, arcs: int = 5) -> Lattice:
    """A chain of nodes with random arcs between them, which skip nodes or are parallel; about a hundred paths."""
    rng = np.random.default_rng(seed)
    pairs = [(node, node + 1) for node in range(nodes - 1)]
    pairs += [tuple(sorted(rng.choice(nodes, 2, replace=False).tolist())) for _ in range(arcs)]

    def arc(start: int, end: int, word: str) -> Arc:
        return Arc(start, end, word, float(rng.normal(-5, 3)), float(rng.normal(-3, 2)), f"v={start}")

    found = [arc(start, end, str(rng.choice(words))) for start, end in pairs]
    ends = [arc(node, nodes, "") for node in {nodes - 1, int(rng.integers(nodes))}]
    return sorted_lattice(Header(f"u{seed}"), {node: f"x:{node}" for node in range(nodes + 1)}, found + ends)


def sausage(slots: list[list[str]], header: Header | None = None) -> Lattice:
    """A confusion network: one of the words of each slot."""
    arcs = [
        Arc(place, place + 1, word, -0.1 * number) for place, own in enumerate(slots) for number, word in enumerate(own)
    ]
    last = len(slots) + 1
    arcs.append(Arc(len(slots), last))
    return sorted_lattice(header or Header("u1"), {node: f"x:{node}" for node in range(last + 1)}, arcs)


def paths(lattice: Lattice, node: int = 0) -> Iterator[list[int]]:
    """Every path from a node to the end, as arcs."""
    if node == len(lattice) - 1:
        yield []
    for arc in lattice.arcs_of(node):
        yield from ([arc, *rest] for rest in paths(lattice, int(lattice.ends[arc])))


def text_of(lattice: Lattice, path: list[int], fillers: frozenset[str] = FILLERS) -> str:
    return " ".join(word for word in (lattice.words[arc] for arc in path) if word not in fillers)


def exhaustive(scorer: Any, lattice: Lattice, weights: KnownWeights, fillers=FILLERS) -> list[tuple[str, float]]:
    """Text and total of every path, each text scored alone, the largest total first."""
    logprobs: dict[str, float] = {}
    found = []
    for path in paths(lattice):
        text = text_of(lattice, path, fillers)
        lm = logprobs[text] if text in logprobs else logprobs.setdefault(text, scorer.score(text))
        mixed = weights.mix * lm + (1 - weights.mix) * sum(lattice.old[arc] for arc in path)
        acoustic = sum(lattice.acoustic[arc] for arc in path)
        total = weights.acoustic_scale * acoustic + weights.lm_scale * mixed + weights.word_penalty * len(text.split())
        found.append((text, total))
    return sorted(found, key=lambda item: (-item[1], item[0]))


def expanded_paths(rescored: RescoredLattice) -> list[tuple[str, float]]:
    """Text and total of every path of an expanded lattice, the largest total first."""
    found = [
        (" ".join(word for word in (rescored.spoken[arc] for arc in path) if word), float(rescored.totals[path].sum()))
        for path in paths(rescored.lattice)
    ]
    return sorted(found, key=lambda item: (-item[1], item[0]))


def best_of_each_text(found: list[tuple[str, float]]) -> list[tuple[str, float]]:
    best: dict[str, float] = {}
    for text, total in found:
        best[text] = max(total, best.get(text, -math.inf))
    return sorted(best.items(), key=lambda item: -item[1])


class TrigramSession(Session):
    """A model whose distributions depend on the last two tokens: `h` holds the token before the input."""

    tokenizer, info = TOKENIZER, model_info()
    adaptive, logits_per_token, state_size = False, V, 1
    table = np.log(np.random.default_rng(3).dirichlet(np.full(V, 0.3), (V, V))).astype(np.float32)

    @property
    def members(self):
        return ()

    def zero_state(self, rows):
        return ModelState(np.zeros((1, rows, 1), np.float32), np.zeros((1, rows, 1), np.float32))

    def run(self, ids, state):
        ids = np.asarray(ids)
        before = np.concatenate([state.h[0].astype(int), ids[:, :-1]], axis=1)
        return self.table[before, ids], ModelState(ids[None, :, -1:].astype(np.float32), state.c)

    def target_logprobs(self, ids, targets, state):
        log_probs, after = self.run(ids, state)
        return np.take_along_axis(log_probs, np.asarray(targets)[..., None], axis=2)[..., 0], after
