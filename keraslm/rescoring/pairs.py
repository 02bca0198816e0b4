"""Minimal pairs: is the good text more probable than the bad one?

Two sentences are compared, two words after the same prefix, or one word after two prefixes. By default the probability
of a sentence includes its end, and that of a word does not, as in BLiMP (Warstadt et al. 2020, "BLiMP: the benchmark of
linguistic minimal pairs for English").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np

from keraslm import arguments
from keraslm.errors import UsageError, shown
from keraslm.ngram.mixed import MixedScorer
from keraslm.rescoring.pair_files import METHODS, Pair, PairReader, pair_of
from keraslm.rescoring.prefixes import Model, opened, score_sets
from keraslm.scoring.conditional import SEPARATOR
from keraslm.scoring.measures import LineScore
from keraslm.scoring.scorer import Scorer
from keraslm.text.files import ERRORS, TextFile, TextFiles

HEADER = ("field", "term", "uid", "pair", "good_logprob", "bad_logprob", "difference", "result", "oovs", "good", "bad")


@dataclass(frozen=True)
class PairScore:
    """Log-probabilities (nats) of both texts of a pair after their prefixes, and the number of `<unk>` in the texts."""

    pair: Pair
    good: float
    bad: float
    difference: float  # good - bad; 0 if both have the same tokens
    oovs: int
    tokens: int  # that were scored
    texts: tuple[str, str]  # with their prefixes

    @property
    def result(self) -> str:
        """`"right"`, `"wrong"` or `"tie"`."""
        return "tie" if self.difference == 0 else "right" if self.difference > 0 else "wrong"

    def cells(self) -> list[str]:
        """The pair as a row of a table with the columns `HEADER`."""
        pair = self.pair
        numbers = (f"{number:.6f}" for number in (self.good, self.bad, self.difference))
        texts = (text.replace("\t", " ").replace("\n", " ") for text in self.texts)
        labels = (pair.field, pair.term, pair.uid, pair.number)
        return [*labels, *numbers, self.result, str(self.oovs), *texts]


@dataclass(frozen=True)
class PairResults:
    """The scores of several pairs. A tie counts as wrong. `left_out` is the number of pairs that have no score."""

    scores: list[PairScore]
    left_out: int = 0

    def count(self, result: str) -> int:
        """Number of pairs that are `"right"`, `"wrong"` or a `"tie"`."""
        return sum(score.result == result for score in self.scores)

    @property
    def accuracy(self) -> float:
        """Share of right pairs; NaN without pairs."""
        return self.count("right") / len(self.scores) if self.scores else float("nan")

    def by(self, name: str) -> dict[str, PairResults]:
        """The results per `"field"`, `"term"` or `"uid"`."""
        groups: dict[str, list[PairScore]] = {}
        for score in self.scores:
            groups.setdefault(getattr(score.pair, name), []).append(score)
        return {name: PairResults(scores) for name, scores in groups.items()}

    def cells(self) -> list[str]:
        """Number of pairs, right ones and ties, accuracy, OOV tokens and pairs with one, as cells of a table."""
        oovs = [score.oovs for score in self.scores]
        counts = [str(count) for count in (len(oovs), self.count("right"), self.count("tie"))]
        return [*counts, f"{self.accuracy:.4f}", str(sum(oovs)), str(sum(map(bool, oovs)))]


def pairs(
    model: Model,
    sentences: str | Path | TextFile | Iterable[Pair | Sequence[str]],
    *,
    method: str = "sentence",
    eos: bool | None = None,
    separator: str = SEPARATOR,
    provider: str = "auto",
    errors: str = "strict",
    encoding: str = "utf-8",
) -> PairResults:
    """Score minimal pairs: is the good text more probable than the bad one?

    Args:
        model: a model file, several with the same tokenizer (their probabilities are averaged), a `Scorer`, or a
            `MixedScorer`.
        sentences: a file, a folder or a pattern; or pairs: a good and a bad sentence, or as `method` says.
        method: `"sentence"` compares two sentences; `"one-prefix"` two words after the same prefix (prefix, good word,
            bad word); `"two-prefix"` one word after two prefixes (good prefix, bad prefix, word).
        eos: include the end symbol after each text. Default: after sentences only.
        separator: between prefix and word, unless white space is there already.
        provider: `"cpu"`, `"cuda"` or `"auto"`.
        errors: `"strict"` fails at invalid bytes; `"replace"` reads them as U+FFFD.
        encoding: of the file.

    Raises:
        TextError: a line that is not a pair, with file and line.

    Example:
        >>> keraslm.pairs("model.onnx", [("the cats sit", "the cats sits")]).accuracy
        1.0
        >>> keraslm.pairs("model.onnx", [("the cats", "sit", "sits")], method="one-prefix").accuracy
        1.0
        >>> keraslm.pairs("model.onnx", "blimp.jsonl").by("term")["binding"].accuracy
        0.74
    """
    arguments.choice(errors, "errors", ERRORS)
    arguments.choice(method, "method", METHODS)
    reader = None
    if isinstance(sentences, TextFile):
        sentences = reader = PairReader([sentences], method)
    elif isinstance(sentences, str | Path):
        arguments.not_empty(sentences=sentences)
        sentences = reader = PairReader(TextFiles([sentences], errors, encoding).files, method)
    scores = [*score_pairs(opened(model, provider), sentences, method, eos, separator)]
    return PairResults(scores, reader.left_out if reader else 0)


def _pair(pair: Any, place: str, method: str) -> Pair:
    if isinstance(pair, Pair):
        names = ("good", "bad", "prefix_good", "prefix_bad")
        return replace(pair, **{name: arguments.text(getattr(pair, name), f"{place}.{name}") for name in names})
    found = [*arguments.texts(pair, place)]
    if len(found) != len(METHODS[method]):
        expected = ", ".join(METHODS[method])
        raise UsageError(f"`{place}` is {shown(pair)}, but {len(METHODS[method])} strings are expected: {expected}.")
    return pair_of(found, method, place)


def score_pairs(
    scorer: Scorer | MixedScorer,
    pairs: Iterable[Pair | Sequence[str]],
    method: str = "sentence",
    eos: bool | None = None,
    separator: str = SEPARATOR,
) -> Iterator[PairScore]:
    """Score pairs as they are read; common beginnings of texts are computed once. Arguments: see `pairs`."""
    items = arguments.each(pairs, "sentences", "pairs of strings")
    kept, read = tee(_pair(pair, place, method) for pair, place in items)
    sets = (((pair.prefix_good, pair.good), (pair.prefix_bad, pair.bad)) for pair in read)
    ends = method == "sentence" if eos is None else eos
    for (good, bad), pair in zip(score_sets(scorer, sets, eos=ends, separator=separator), kept, strict=True):
        texts = good.given + good.text, bad.given + bad.text
        difference = 0.0 if _same(scorer, good, bad, texts) else good.logprob - bad.logprob
        oovs, tokens = int(good.oov.sum() + bad.oov.sum()), len(good.ids) + len(bad.ids)
        yield PairScore(pair, good.logprob, bad.logprob, difference, oovs, tokens, texts)


def _same(scorer: Scorer | MixedScorer, good: LineScore, bad: LineScore, texts: tuple[str, str]) -> bool:
    """Whether both texts have the same tokens, those of their prefixes included."""
    if good.by_words:
        return texts[0] == texts[1]
    if not np.array_equal(good.ids, bad.ids) or good.given == bad.given:
        return np.array_equal(good.ids, bad.ids)
    one, other = scorer.tokenizer.encode_lines(texts)
    return np.array_equal(one, other)
