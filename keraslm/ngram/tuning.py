"""The weight of a mixture that makes a text most probable, found by EM.

With the probabilities n_i and l_i of the i-th word under the n-gram model and the LSTM, one step is

    weight' = mean over i of  weight * n_i / (weight * n_i + (1 - weight) * l_i)

It never lowers the probability of the text, whose logarithm is concave in the weight: there is one maximum.
Reference: Jelinek and Mercer 1980, "Interpolated estimation of Markov source parameters from sparse data"; SRILM's
`compute-best-mix` does the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keraslm.errors import TextError
from keraslm.ngram.mixed import DEFAULT_WEIGHT, MixedScorer, WordLogprobs, mix
from keraslm.ngram.model import Ngram
from keraslm.perplexity import perplexity
from keraslm.scoring.batching import Line
from keraslm.scoring.ensemble import Models
from keraslm.scoring.measures import Floats
from keraslm.scoring.scorer import Scorer
from keraslm.text.files import TextFile
from keraslm.text.paths import find_file

_ENOUGH = 1e-6  # change of the weight in the last step
_MOST = 1000  # steps


@dataclass(frozen=True)
class TunedMix:
    """The best weight on a text, and what the text costs; ends of lines count as words.

    Attributes:
        weight: share of the n-gram model.
        words: number of words of the text.
        steps: of EM.
        perplexity: per word, under the mixture with this weight.
        lstm_perplexity, ngram_perplexity: under each model alone. Words that it does not know count as `<unk>`, so the
            three are comparable only if both models know the same words of the text.
    """

    weight: float
    words: int
    steps: int
    perplexity: float
    lstm_perplexity: float
    ngram_perplexity: float


def tune_mix(
    models: Scorer | Models,
    ngram: Ngram | str | Path,
    lines: str | Path | Iterable[Line],
    context: str = "sentence",
    provider: str = "auto",
) -> TunedMix:
    """Find the weight of an n-gram model that gives a text the smallest perplexity.

    Args:
        models, ngram, provider: as for `mix`.
        lines: a text that neither model was trained on: a file, or lines, with None at the end of each file.
        context: as for `Scorer.score_lines`.

    Raises:
        TextError: a text without lines.

    Example:
        >>> keraslm.tune_mix("model.onnx", "trigrams.arpa.gz", "valid.txt").weight
        0.4312
    """
    mixed = mix(models, ngram, provider=provider)
    text = TextFile(find_file(lines)) if isinstance(lines, str | Path) else lines
    return tune(mixed, text, context)


def tune(mixed: MixedScorer, lines: Iterable[Line], context: str = "sentence") -> TunedMix:
    """`tune_mix` for an open mixture, whose own weight does not matter."""
    scored = mixed.scorer.score_lines(lines, context, boundary=mixed.boundary)
    parts = [mixed.word_logprobs(line) for line in scored]
    if not parts:
        raise TextError(f"{getattr(lines, 'name', 'the text')}: no lines, but the weight is tuned on them.")
    words = WordLogprobs(*map(np.concatenate, zip(*(vars(part).values() for part in parts), strict=True)))
    *steps, weight = [DEFAULT_WEIGHT, *em_weights(*words.shared())]
    costs = (-math.fsum(logprobs) for logprobs in (words.mixed(weight), words.lstm, words.ngram))
    count = len(words.lstm)
    return TunedMix(weight, count, len(steps), *(perplexity(cost, count) for cost in costs))


def em_weights(lstm: Floats, ngram: Floats, weight: float = DEFAULT_WEIGHT) -> Iterator[float]:
    """The weight after each step of EM, from log-probabilities `(words,)`; a word impossible in both is left out."""
    possible = np.maximum(lstm, ngram) > -np.inf
    with np.errstate(over="ignore"):
        ratios = np.exp(lstm[possible] - ngram[possible])  # inf for a word that only the LSTM has
    for _ in range(_MOST if len(ratios) else 0):
        before, weight = weight, float(np.mean(weight / (weight + (1 - weight) * ratios)))
        yield weight
        if abs(weight - before) < _ENOUGH:
            return
