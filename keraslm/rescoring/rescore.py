"""First-pass scores combined with the score of a model, and the best hypothesis of each list.

    total = sum of scale * score + weight * LM score + word penalty * words

The LM score is the model's log-probability of the text and its end. It can be interpolated with a score of the first
pass, which is then left out of the sum:

    LM score = (1 - mix) * scale * score + mix * log-probability

`words` is the number of words between white space. Larger is better; of equal totals, the first hypothesis is the best.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np

from keraslm import arguments
from keraslm.errors import TextError, UsageError
from keraslm.perplexity import BASES, Base
from keraslm.rescoring.nbest import Hypothesis, Utterance, check_options, read_nbest
from keraslm.rescoring.prefixes import Model, opened, score_sets
from keraslm.scoring.measures import Floats
from keraslm.text.files import ERRORS, TextFile
from keraslm.text.paths import find_file
from keraslm.text.pieces import split_words

Lists = str | Path | TextFile | Iterable[Sequence[str | Hypothesis]]


@dataclass(frozen=True)
class Weighting:
    """How scores are combined; see `rescore`."""

    weight: float = 1.0
    word_penalty: float = 0.0
    scales: tuple[float, ...] = ()
    interpolate: str | None = None
    mix: float = 0.5

    def __post_init__(self) -> None:
        for name in ("weight", "word_penalty", "mix"):
            arguments.number(getattr(self, name), name)
        scales = tuple(arguments.number(*scale) for scale in arguments.each(self.scales, "scales", "numbers"))
        object.__setattr__(self, "scales", scales)
        if self.interpolate is not None:
            arguments.text(self.interpolate, "interpolate")
        if not all(map(math.isfinite, (self.weight, self.word_penalty, self.mix, *self.scales))):
            raise UsageError("Weights, scales and penalties must be finite numbers.")
        if not 0 <= self.mix <= 1:
            raise UsageError(f"`mix` is {self.mix:g}, but must be between 0 and 1.")


@dataclass(frozen=True)
class Parts:
    """The parts of the totals of `n` hypotheses, each `(n,)`; `rest` is `first_pass` without the interpolated score."""

    first_pass: Floats
    rest: Floats
    lm: Floats
    words: Floats

    def totals(self, weight: float, word_penalty: float) -> Floats:
        return self.rest + weight * self.lm + word_penalty * self.words


@dataclass(frozen=True)
class Rescored:
    """The hypotheses of one utterance, in the order of the list, and the model's log-probability of each.

    `tokens` is the number of tokens of all hypotheses, with their ends.
    """

    hypotheses: Utterance
    logprobs: list[float]
    weighting: Weighting = Weighting()
    tokens: int = 0

    @cached_property
    def parts(self) -> Parts:
        """The parts of the totals; raises a `TextError` if `scales` or `interpolate` do not match the scores."""
        first, weighting = self.hypotheses[0], self.weighting
        count = len(first.scores)
        scales = weighting.scales or (1.0,) * count
        if len(scales) != count:
            raise TextError(f"{first.where}: {count} scores, but `scales` has {len(scales)}; one per score is needed.")
        scaled = np.array([each.scores for each in self.hypotheses]) * scales
        totals, lm = scaled.sum(axis=1), np.array(self.logprobs)
        rest = totals
        if weighting.interpolate is not None:
            column = self._column(weighting.interpolate)
            rest = np.delete(scaled, column, axis=1).sum(axis=1)
            lm = (1 - weighting.mix) * scaled[:, column] + weighting.mix * lm
        words = np.array([len(split_words(hypothesis.text)) for hypothesis in self.hypotheses], float)
        return Parts(totals, rest, lm, words)

    def _column(self, wanted: str) -> int:
        first = self.hypotheses[0]
        numbers = [str(number) for number in range(1, len(first.scores) + 1)]
        for known in (first.names, numbers):
            if wanted in known:
                return known.index(wanted)
        own = f"{len(numbers)} scores{', named ' if first.names else ''}{', '.join(first.names)}"
        raise TextError(f"{first.where}: no score {wanted!r} to interpolate with. A hypothesis has {own}.")

    @property
    def totals(self) -> Floats:
        """Total of each hypothesis, `(n,)`."""
        return self.parts.totals(self.weighting.weight, self.weighting.word_penalty)

    @property
    def best(self) -> Hypothesis:
        """The hypothesis with the largest total, the first of equal ones."""
        return self.hypotheses[int(self.totals.argmax())]


def _utterance(name: str, texts: Any, place: str) -> Utterance:
    found = [
        text if isinstance(text, Hypothesis) else Hypothesis(name, arguments.text(text, where))
        for text, where in arguments.each(texts, place, "texts")
    ]
    if not found:
        raise UsageError(f"`{place}` is empty, but must have at least one text.")
    return found


def rescore(
    model: Model,
    lists: Lists,
    *,
    format: str = "tsv",
    score_columns: int | None = None,
    scores: Sequence[str | Path] | None = None,
    weight: float = 1.0,
    word_penalty: float = 0.0,
    scales: Sequence[float] = (),
    interpolate: str | None = None,
    mix: float = 0.5,
    base: Base = "e",
    provider: str = "auto",
    errors: str = "strict",
    encoding: str = "utf-8",
) -> Iterator[Rescored]:
    """Score n-best lists; the common beginnings of hypotheses are computed once.

    Args:
        model: a model file, several with the same tokenizer (their probabilities are averaged), or a `Scorer`.
        lists: a file, or non-empty lists of texts or of `Hypothesis`.
        format, score_columns, scores: of the file; see `read_nbest`.
        weight: factor of the LM score.
        word_penalty: added per word; below 0 it favours short hypotheses.
        scales: factor of each first-pass score; 1 if empty.
        interpolate: name, or number from 1, of the first-pass score to interpolate the LM score with.
        mix: share of the model in the interpolation, 0 to 1.
        base: base of the model's log-probabilities: `"e"`, `"2"` or `"10"`.
        provider: `"cpu"`, `"cuda"` or `"auto"`.
        errors: `"strict"` fails at invalid bytes; `"replace"` reads them as U+FFFD.
        encoding: of the files.

    Yields:
        One `Rescored` per list, in order.

    Raises:
        UsageError: an argument is out of range, or belongs to a different format.
        TextError: a malformed row, with file and line.

    Example:
        >>> (found,) = keraslm.rescore("model.onnx", [["the cat sat", "the cat sad"]])
        >>> found.best.text, found.logprobs
        ('the cat sat', [-21.7, -25.2])
    """
    arguments.choice(base, "base", BASES)
    arguments.choice(errors, "errors", ERRORS)
    weighting = Weighting(weight, word_penalty, scales, interpolate, mix)  # type: ignore[arg-type]  # makes a tuple
    in_files = isinstance(lists, str | Path | TextFile)
    check_options(format, score_columns, (scores or ()) if in_files else ())
    if isinstance(lists, str | Path | TextFile):
        arguments.not_empty(lists=None if isinstance(lists, TextFile) else lists, scores=scores)
        paths = arguments.paths(() if scores is None else scores, "scores")
        file = lists if isinstance(lists, TextFile) else TextFile(find_file(lists), errors, encoding)
        costs = [TextFile(find_file(path), errors, encoding) for path in paths]
        utterances = read_nbest(file, format, score_columns, costs)
    else:
        named = arguments.each(lists, "lists", "lists of texts")
        utterances = (_utterance(str(number), *own) for number, own in enumerate(named, 1))
    kept, read = tee(utterances)
    scored = score_sets(opened(model, provider), ([each.text for each in utterance] for utterance in read))
    return (
        Rescored(
            utterance,
            [line.logprob / BASES[base] for line in lines],
            weighting,
            sum(len(line.ids) for line in lines),
        )
        for lines, utterance in zip(scored, kept, strict=True)
    )
