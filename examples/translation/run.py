"""The run folder of a translation system, and translations by its Keras models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import sacrebleu

from examples.translation.config import TranslationConfig
from examples.translation.data import Lines, Vocabularies, read_pairs
from examples.translation.model import Network, build_network
from examples.translation.search import Arrays, Hypothesis, Search, replace_unknown, search_batches
from keraslm.runs.folder import RunFolder
from keraslm.system.outputs import output_file
from keraslm.text.tokenizer import NO_ID, UNK

BATCH = 64  # sentences that are translated at a time


@dataclass(frozen=True, repr=False)
class TranslationRun(RunFolder):
    """The run folder of a translation system. Its best weights are those with the highest BLEU in validation."""

    KINDS = (TranslationConfig, Vocabularies)
    COMMAND = "python -m examples.translation train"

    config: TranslationConfig
    tokenizer: Vocabularies

    def validation_cost(self, row: Mapping[str, Any]) -> float:
        return -row["val_bleu"] if "val_bleu" in row else math.inf

    def build(self) -> Network:
        """The network with its initial weights."""
        languages = self.tokenizer.source, self.tokenizer.target
        return build_network(self.config, *(each.vocab_size for each in languages), self.tokenizer.target.eos_id)

    @cached_property
    def network(self) -> Network:
        """The network with the weights of the run."""
        network, weights = self.build(), self.read_weights()
        for variable in network.training.trainable_variables:
            variable.assign(weights[variable.path])
        return network

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {v.path: tuple(v.shape) for v in self.build().training.trainable_variables}

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self._shapes


def translate(
    network: Network,
    config: TranslationConfig,
    tokenizer: Vocabularies,
    lines: Lines,
    search: Search,
    weights: list[np.ndarray] | None = None,
) -> list[list[Hypothesis]]:
    """Search the translations of lines, best first, with the Keras models of a network.

    The attention of the first row in each step, `(S,)`, is appended to `weights`.
    """
    first_state = 0 if config.model.attention == "none" else 3  # after keys, memory and closed

    def encode(source: np.ndarray, lengths: np.ndarray) -> tuple[Arrays, Arrays]:
        found = tuple(network.encoder.predict_on_batch([source, lengths]))
        return found[:first_state], found[first_state:]

    def step(tokens: np.ndarray, memory: Arrays, state: Arrays) -> tuple[np.ndarray, Arrays, np.ndarray | None]:
        found = network.step.predict_on_batch([tokens.astype(np.int32), *memory, *state])
        if weights is not None:
            weights.append(found[-1][0])
        return found[0], tuple(found[1 : len(state) + 1]), found[-1] if first_state else None

    sentences = tokenizer.encode_source(lines, config.data.reverse_source)
    eos, width = tokenizer.target.eos_id, config.data.bucket_width
    return search_batches(encode, step, sentences, eos, search, BATCH, width)


def texts_of(
    hypotheses: Sequence[Hypothesis], lines: Lines, config: TranslationConfig, tokenizer: Vocabularies
) -> list[str]:
    """The text of one hypothesis per line; unknown words are replaced by the source word attended to most."""
    found = []
    for hypothesis, line in zip(hypotheses, lines, strict=True):
        if tokenizer.target.unk_id == NO_ID:
            found.append(tokenizer.target.decode(hypothesis.tokens))
            continue
        given = [line[start:end] for start, end in tokenizer.source.offsets(line)[:-1]]
        given = given[::-1] if config.data.reverse_source else given
        words = tokenizer.target.tokens(hypothesis.tokens)
        found.append(" ".join(replace_unknown(words, hypothesis.positions, given, UNK)))
    return found


class ValidationBleu(keras.callbacks.Callback):
    """Add `val_bleu`, of greedy translations of the validation text, to the logs of an epoch."""

    def __init__(self, run: TranslationRun, network: Network, lines: tuple[Lines, Lines]):
        super().__init__()
        self.run, self.network, self.lines = run, network, lines

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        config, tokenizer = self.run.config, self.run.tokenizer
        found = translate(self.network, config, tokenizer, self.lines[0], Search())
        texts = texts_of([best for best, *_ in found], self.lines[0], config, tokenizer)
        if logs is not None:
            logs["val_bleu"] = bleu(texts, self.lines[1], config.data.bleu)[0]


def bleu(translations: Lines, references: Lines, tokenize: str) -> tuple[float, str]:
    """BLEU of a text by sacrebleu, and its signature."""
    metric = sacrebleu.BLEU(tokenize=tokenize, force=True)  # even if the text looks tokenised
    score = metric.corpus_score(translations, [references]).score
    return score, str(metric.get_signature())


def evaluate_run(
    run: TranslationRun, prefix: Path, beam: int, length_penalty: float, output: Path | None = None
) -> tuple[float, float]:
    """Translate the source text of a prefix; print and return BLEU and the share of exact matches with its target text.

    Translations are also written to `output`, one per line.
    """
    config, tokenizer = run.config, run.tokenizer
    source, references = read_pairs(config.data, prefix)
    found = translate(run.network, config, tokenizer, source, Search(beam, length_penalty))
    texts = texts_of([best for best, *_ in found], source, config, tokenizer)
    score, signature = bleu(texts, references, config.data.bleu)
    exact = sum(map(str.__eq__, texts, references)) / len(texts)
    print(f"BLEU      {score:.2f} {signature}")
    print(f"exact     {100 * exact:.1f} % of {len(texts):,} sentences; beam {beam}, length penalty {length_penalty:g}")
    if output is not None:
        with output_file(output) as temporary:
            temporary.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return score, exact
