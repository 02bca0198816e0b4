"""A model file with random weights over a made vocabulary, minimal pairs for it, and its greedy text."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import keraslm
from keraslm.runs.run import Run
from keraslm.runs.weights import write_weights
from keraslm.scoring.scorer import Scorer
from tests.reference.language_model import language_model
from tests.support.made_run import make_run, random_weights

NOUNS = ("cat", "dog", "child", "bird", "horse", "zebra")  # the last one is not in the vocabulary
VERBS = ("sits", "runs", "sleeps", "sings", "yodels")
PLACES = ("", " on the mat", " in a house near here")
LINES = [
    f"the {noun}{s} {verb.removesuffix('s') if s else verb}{place} ."
    for noun, verb, place, s in itertools.product(NOUNS[:-1], VERBS[:-1], PLACES, ("", "s"))
]
SCALE = 2.0  # of the weights, so that tokens differ much
LONGEST = 12  # tokens of a greedy text


@dataclass(frozen=True)
class MadeModel:
    """A model file, the scorer that reads it, and the line that consists of the most probable tokens."""

    path: Path
    scorer: Scorer
    greedy: str

    def token_logprobs(self, text: str, context: str = "document") -> list[float]:
        """Of all tokens of a text and of its line ends; the end symbol of an unfinished line is left out."""
        found = np.concatenate(self.scorer.logprobs(text.removesuffix("\n").split("\n"), context)).tolist()
        return found if text.endswith("\n") else found[:-1]

    def is_greedy(self, text: str) -> bool:
        """Whether every token of a line is the most probable one."""
        (line,) = self.scorer.score_lines([text.removesuffix("\n")], distributions=True)
        ranks = line.ranks if text.endswith("\n") else line.ranks[:-1]
        return bool((ranks == 1).all())


def make_model(folder: Path, tokenizer: str) -> MadeModel:
    """A model for words or characters, whose greedy text ends after a few tokens."""
    run = make_run(folder, LINES, tokenizer=tokenizer, layer_units=(16,), embedding_dim=8)
    ids = _end_greedily(run)
    keraslm.export(run, folder / "made.onnx")
    return MadeModel(folder / "made.onnx", keraslm.load(folder / "made.onnx", "cpu"), run.tokenizer.decode(ids))


def _end_greedily(run: Run) -> list[int]:
    """Give a run the first random weights with which the greedy text has some tokens and an end; the tokens."""
    for seed in range(10_000):
        weights = random_weights(run.config.model, run.tokenizer.vocab_size, seed, SCALE)
        found = _greedy(weights, run.tokenizer.eos_id)
        text = run.tokenizer.decode(found[:-1])
        is_kept = run.tokenizer.encode_block(f"{text}\n").tolist() == found and run.tokenizer.unk_id not in found
        if 4 <= len(found) < LONGEST and is_kept and len(set(found)) > 3:
            write_weights(run.weights_path, weights)
            return found[:-1]
    raise AssertionError("no weights found")


def _greedy(weights: dict[str, np.ndarray], eos_id: int) -> list[int]:
    token, states, found = eos_id, None, []
    while len(found) < LONGEST and (not found or token != eos_id):
        logits, states = language_model(weights, np.array([[token]]), states)
        token = int(logits[0, 0].argmax())
        found.append(token)
    return found


def minimal_pairs(model: MadeModel) -> list[tuple[str, str]]:
    """60 pairs in which the good sentence agrees in number, and one whose good sentence is the greedy text."""
    choices = list(itertools.product(NOUNS, VERBS, PLACES, ("", "s")))
    order = np.random.default_rng(0).permutation(len(choices))
    pairs = [_agreement(*choices[number]) for number in order]
    pairs = [pair for pair in pairs if _differs(model, *pair)][:60]
    return [*pairs, (model.greedy, f"{model.greedy} the cat")]


def _agreement(noun: str, verb: str, place: str, s: str) -> tuple[str, str]:
    verbs = [verb, verb.removesuffix("s")]
    good, bad = reversed(verbs) if s else verbs
    return f"the {noun}{s} {good}{place} .", f"the {noun}{s} {bad}{place} ."


def _differs(model: MadeModel, good: str, bad: str) -> bool:
    """Whether the sentences of a pair have different tokens: otherwise they tie."""
    first, second = model.scorer.tokenizer.encode_lines([good, bad])
    return first.tolist() != second.tolist()
