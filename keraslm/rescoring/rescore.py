"""First-pass scores and the scores of a model together: which hypothesis is the best.

    total = first-pass total + weight * LM score + word penalty * words

`first-pass total` is the sum of `scale * score` over the scores of a hypothesis. `LM score` is the model's
log-probability of the text and its end; where it is interpolated with a score of the first pass, that one is taken out
of the first-pass total, and

    LM score = (1 - mix) * old + mix * log-probability,    old = scale * score

is linear in the logarithm. `words` are those of the text between white space. More is better; of equal totals the
hypothesis that stands first is the best.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keraslm.errors import TextError, UsageError
from keraslm.rescoring.nbest import Hypothesis, Utterance
from keraslm.rescoring.prefixes import score_sets
from keraslm.scoring.scorer import Scorer
from keraslm.text.pieces import split_words

BASES = {"e": 1.0, "2": math.log(2), "10": math.log(10)}
_AHEAD = 4096  # hypotheses that are read ahead

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Weighting:
    """How scores are put together.

    Attributes:
        weight: of the LM score.
        word_penalty: added for each word; below 0 it favours short hypotheses.
        scales: of the first-pass scores, one each; none takes 1 for each.
        interpolate: name, or number from 1, of the first-pass score that the LM score is interpolated with.
        mix: share of the new score in that, 0 to 1.
    """

    weight: float = 1.0
    word_penalty: float = 0.0
    scales: tuple[float, ...] = ()
    interpolate: str | None = None
    mix: float = 0.5

    def __post_init__(self) -> None:
        numbers = (self.weight, self.word_penalty, self.mix, *self.scales)
        if not all(map(math.isfinite, numbers)):
            raise UsageError("Weights, scales and penalties must be finite numbers.")
        if not 0 <= self.mix <= 1:
            raise UsageError(f"The share of the new score is {self.mix:g}, but must be from 0 to 1.")


@dataclass(frozen=True)
class Parts:
    """What the totals of an utterance's `n` hypotheses are made of.

    Attributes:
        first_pass: first-pass totals, `(n,)`.
        rest: the same without the interpolated score, `(n,)`.
        lm: LM scores, `(n,)`.
        words: `(n,)`.
    """

    first_pass: Floats
    rest: Floats
    lm: Floats
    words: Floats

    def totals(self, weight: float, word_penalty: float) -> Floats:
        """Of each hypothesis, `(n,)`."""
        return self.rest + weight * self.lm + word_penalty * self.words


def score_lists(
    scorer: Scorer, utterances: Iterable[Utterance], base: str = "e"
) -> Iterator[tuple[Utterance, list[float]]]:
    """The model's log-probability of each hypothesis, its end included.

    Args:
        scorer: with the model.
        utterances: as `nbest.read_nbest` gives them.
        base: of the logarithm: `"e"`, `"2"` or `"10"`.

    Yields:
        each utterance and its scores, in order.

    Raises:
        UsageError: another base.

    Example:
        >>> for utterance, scores in score_lists(scorer, read_nbest(TextFile("lists.tsv"))):
        ...     print(utterance[0].utterance, max(scores))
    """
    if base not in BASES:
        raise UsageError(f"Unknown base {base!r}. Known are: {', '.join(BASES)}.")
    waiting: list[Utterance] = []

    def texts() -> Iterator[list[str]]:
        for utterance in utterances:
            waiting.append(utterance)
            yield [hypothesis.text for hypothesis in utterance]

    for lines in score_sets(scorer, texts(), _AHEAD):
        yield waiting.pop(0), [line.logprob / BASES[base] for line in lines]


def parts(utterance: Utterance, scores: Sequence[float], weighting: Weighting) -> Parts:
    """What the totals of an utterance are made of.

    Raises:
        TextError: another number of scales than of scores, or no score to interpolate with.
    """
    first = utterance[0]
    count = len(first.scores)
    scales = weighting.scales or (1.0,) * count
    if len(scales) != count:
        raise TextError(f"{first.where}: {count} scores, but {len(scales)} scales were given; one each is needed.")
    scaled = np.array([hypothesis.scores for hypothesis in utterance]).reshape(len(utterance), count) * scales
    totals, lm = scaled.sum(axis=1), np.array(scores)
    rest = totals
    if weighting.interpolate is not None:
        column = _column(first, weighting.interpolate)
        rest = np.delete(scaled, column, axis=1).sum(axis=1)
        lm = (1 - weighting.mix) * scaled[:, column] + weighting.mix * lm
    words = np.array([len(split_words(hypothesis.text)) for hypothesis in utterance], float)
    return Parts(totals, rest, lm, words)


def _column(hypothesis: Hypothesis, wanted: str) -> int:
    count = len(hypothesis.scores)
    if wanted in hypothesis.names:
        return hypothesis.names.index(wanted)
    if wanted.isascii() and wanted.isdigit() and 1 <= int(wanted) <= count:
        return int(wanted) - 1
    known = f", and their names are {', '.join(hypothesis.names)}" if hypothesis.names else ""
    raise TextError(
        f"{hypothesis.where}: there is no score {wanted!r} to interpolate with. There are {count} scores{known}."
    )
