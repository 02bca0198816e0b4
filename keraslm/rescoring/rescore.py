"""First-pass scores combined with the score of a model, and the best hypothesis of each list.

    total = sum of scale * score + weight * LM score + word penalty * words

The LM score is the model's log-probability of the text and its end, after its prefix if it has one. It can be
interpolated with a score of the first pass, which is then left out of the sum:

    LM score = (1 - mix) * scale * score + mix * log-probability

`words` is the number of words between white space, or of characters without it. Larger is better; of equal totals, the
first hypothesis is the best.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np

from keraslm import arguments
from keraslm.config import CONTEXTS
from keraslm.errors import TextError, UsageError
from keraslm.perplexity import BASES, Base
from keraslm.rescoring.formats.kaldi import read_keyed
from keraslm.rescoring.hypothesis import Hypothesis, Utterance
from keraslm.rescoring.nbest import check_options, read_nbest
from keraslm.rescoring.prefixes import Model, opened, score_sets
from keraslm.rescoring.units import UNITS, units_of
from keraslm.scoring.conditional import SEPARATOR
from keraslm.scoring.measures import Floats, times
from keraslm.scoring.texts import Text, prefix_and_text
from keraslm.text.files import ERRORS, TextFile
from keraslm.text.paths import find_file

Lists = str | Path | TextFile | Iterable[Sequence[Text | Hypothesis]]


@dataclass(frozen=True)
class Weighting:
    """How scores are combined; see `rescore`."""

    weight: float = 1.0
    word_penalty: float = 0.0
    scales: tuple[float, ...] = ()
    interpolate: str | None = None
    mix: float = 0.5
    unit: str = "word"

    def __post_init__(self) -> None:
        for name in ("weight", "word_penalty", "mix"):
            arguments.number(getattr(self, name), name)
        scales = tuple(arguments.number(*scale) for scale in arguments.each(self.scales, "scales", "numbers"))
        object.__setattr__(self, "scales", scales)
        arguments.choice(self.unit, "unit", UNITS)
        if self.interpolate is not None:
            arguments.text(self.interpolate, "interpolate")
        if not all(map(math.isfinite, (self.weight, self.word_penalty, self.mix, *self.scales))):
            raise UsageError("Weights, scales and penalties must be finite numbers.")
        if not 0 <= self.mix <= 1:
            raise UsageError(f"`mix` is {self.mix:g}, but must be between 0 and 1.")


@dataclass(frozen=True)
class Parts:
    """The parts of the totals of `n` hypotheses, each `(n,)`.

    `rest` is `first_pass` without the interpolated score; `words` may count characters.
    """

    first_pass: Floats
    rest: Floats
    lm: Floats
    words: Floats

    def totals(self, weight: float, word_penalty: float) -> Floats:
        return self.rest + times(weight, self.lm) + word_penalty * self.words


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
            lm = (1 - weighting.mix) * scaled[:, column] + times(weighting.mix, lm)
        words = np.array([len(units_of(each.text, weighting.unit)) for each in self.hypotheses], float)
        return Parts(totals, rest, lm, words)

    def _column(self, wanted: str) -> int:
        first = self.hypotheses[0]
        numbers = [str(number) for number in range(1, len(first.scores) + 1)]
        for known in (first.names or (), numbers):
            if wanted in known:
                return known.index(wanted)
        own = f"{len(numbers)} scores{', named ' if first.names else ''}{', '.join(first.names or ())}"
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
    found = []
    for each, where in arguments.each(texts, place, "texts"):
        if isinstance(each, Hypothesis):
            found.append(each)
        else:
            prefix, text = prefix_and_text(each, where)
            found.append(Hypothesis(name, text, prefix=prefix))
    if not found:
        raise UsageError(f"`{place}` is empty, but must have at least one text.")
    if len(counts := {len(each.scores) for each in found}) > 1:
        raise UsageError(f"`{place}` has hypotheses with {min(counts)} and with {max(counts)} scores.")
    return found


def _after_prefixes(lists: Iterable[Utterance], file: TextFile, context: str) -> Iterator[Utterance]:
    """Give each utterance its prefix in a file. It ends its line if the state is carried to the next one."""
    prefixes, end = read_keyed(file), "" if context == "sentence" else "\n"
    for utterance in lists:
        first = utterance[0]
        if first.utterance not in prefixes:
            raise TextError(
                f"{first.where}: utterance {first.utterance!r} is not in {file.name}. If it has no prefix, add a row "
                "with its name alone."
            )
        if given := [each for each in utterance if each.prefix]:
            raise TextError(f"{given[0].where}: the row has a prefix, and {file.name} has one, too; leave out one.")
        prefix = prefixes[first.utterance]
        yield [replace(each, prefix=prefix and prefix + end) for each in utterance]


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
    unit: str = "word",
    base: Base = "e",
    prefixes: str | Path | TextFile | None = None,
    context: str = "sentence",
    separator: str = SEPARATOR,
    eos: bool = True,
    provider: str = "auto",
    errors: str = "strict",
    encoding: str = "utf-8",
) -> Iterator[Rescored]:
    """Score n-best lists; the common beginnings of hypotheses are computed once.

    Args:
        model: a model file, several with the same tokenizer (their probabilities are averaged), a `Scorer`, or a
            `MixedScorer`, whose log-probabilities are those of the mixture with an n-gram model.
        lists: a file, or non-empty lists of texts, of pairs of a prefix and a text, or of `Hypothesis`.
        format, score_columns, scores: of the file; see `read_nbest`.
        weight: factor of the LM score.
        word_penalty: added per word; below 0 it favours short hypotheses.
        scales: factor of each first-pass score; 1 if empty.
        interpolate: name, or number from 1, of the first-pass score to interpolate the LM score with.
        mix: share of the model in the interpolation, 0 to 1.
        unit: what the word penalty counts: `"word"`, or `"char"` for characters without white space.
        base: base of the model's log-probabilities: `"e"`, `"2"` or `"10"`.
        prefixes: file with one row per utterance: its name, and the text after which its hypotheses are scored. With
            `context="sentence"` this is the beginning of their line, otherwise the line before.
        context, separator, eos: as for `score_sets`.
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
    arguments.choice(context, "context", CONTEXTS)
    weighting = Weighting(weight, word_penalty, scales, interpolate, mix, unit)  # type: ignore[arg-type]  # makes a tuple
    in_files = isinstance(lists, str | Path | TextFile)
    check_options(format, score_columns, (scores or ()) if in_files else ())

    def opened_text(path: str | Path | TextFile) -> TextFile:
        return path if isinstance(path, TextFile) else TextFile(find_file(path), errors, encoding)

    if isinstance(lists, str | Path | TextFile):
        arguments.not_empty(lists=None if isinstance(lists, TextFile) else lists, scores=scores)
        paths = arguments.paths(() if scores is None else scores, "scores")
        utterances = read_nbest(opened_text(lists), format, score_columns, [*map(opened_text, paths)])
    else:
        if format != "tsv" or score_columns is not None or scores is not None:
            raise UsageError("`format`, `score_columns` and `scores` are those of a file, but `lists` are texts.")
        named = arguments.each(lists, "lists", "lists of texts")
        utterances = (_utterance(str(number), *own) for number, own in enumerate(named, 1))
    if prefixes is not None:
        arguments.not_empty(prefixes=None if isinstance(prefixes, TextFile) else arguments.path(prefixes, "prefixes"))
        utterances = _after_prefixes(utterances, opened_text(prefixes), context)
    kept, read = tee(utterances)
    texts = ([(each.prefix, each.text) for each in utterance] for utterance in read)
    scored = score_sets(opened(model, provider), texts, eos=eos, separator=separator, context=context)
    return (
        Rescored(
            utterance,
            [line.logprob / BASES[base] for line in lines],
            weighting,
            sum(len(line.ids) for line in lines),
        )
        for lines, utterance in zip(scored, kept, strict=True)
    )
