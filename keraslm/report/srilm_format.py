"""Scores as SRILM's program `ngram -ppl FILE -debug 0|1|2` prints them, so that what reads its output reads ours.

`--level summary` is `-debug 0`, `sentence` is `-debug 1`, `token` and `word` are `-debug 2`. With `--unk include` an
unknown word is the word `<unk>` with its probability (`-unk`); with `exclude` it is an OOV of probability 0, which
sums and counts leave out. The n of `[ngram]` counts the words since the line began, `<s>` and the word itself
included. Other than SRILM, which skips blank lines, each line has its block.

Reference: SRILM, `lm/src/LM.cc`, `lm/src/NgramLM.cc`, `lm/src/TextStats.cc`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from keraslm.report.numbers import srilm_number
from keraslm.report.options import ScoreOptions
from keraslm.scoring.measures import LineScore
from keraslm.scoring.words import WordScore, word_scores
from keraslm.text.tokenizer import UNK, Tokenizer

_LOG10 = 1.0 / math.log(10.0)
_PRECISION = 7  # digits of SRILM's log-probabilities


@dataclass
class _Stats:
    sentences: int = 0
    words: int = 0
    oovs: int = 0
    logprob: float = 0.0

    def add(self, other: _Stats) -> None:
        self.sentences += other.sentences
        self.words += other.words
        self.oovs += other.oovs
        self.logprob += other.logprob

    def rows(self) -> list[str]:
        rows = [f"{self.sentences} sentences, {self.words} words, {self.oovs} OOVs"]
        if self.words + self.sentences:
            known = self.words - self.oovs
            rows.append(
                f"0 zeroprobs, logprob= {_number(self.logprob)} ppl= {self._perplexity(known + self.sentences)} "
                f"ppl1= {self._perplexity(known)}"
            )
        return rows

    def _perplexity(self, count: int) -> str:
        if count <= 0:
            return "undefined"
        try:
            return _number(10.0 ** (-self.logprob / count))
        except OverflowError:
            return "inf"


def srilm_rows(
    lines: Iterable[LineScore], tokenizer: Tokenizer, options: ScoreOptions, name: str = ""
) -> Iterator[str]:
    """Lines of `ngram -ppl`'s output.

    Args:
        lines: scored.
        tokenizer: of the model.
        options: level, and what to do with OOVs.
        name: of the text, for the last block.
    """
    total = _Stats()
    for line in lines:
        words = word_scores(line, tokenizer)
        excluded = [word.oov and options.unk == "exclude" for word in words]
        logprob = math.fsum(_log10(w) for w, out in zip(words, excluded, strict=True) if not out)
        own = _Stats(1, len(words) - 1, sum(excluded), logprob)
        total.add(own)
        if options.level != "summary":
            yield " ".join(word.word for word in words[:-1])
            if options.level != "sentence":
                yield from _words(words, excluded)
            yield from (*own.rows(), "")
    first, *rest = total.rows()
    yield from (f"file {name}: {first}", *rest)


def _words(words: Sequence[WordScore], excluded: Sequence[bool]) -> Iterator[str]:
    before = "<s>"
    for place, (word, out) in enumerate(zip(words, excluded, strict=True)):
        name = "</s>" if place == len(words) - 1 else UNK if word.oov else word.word
        dots = "..." if place else ""
        logprob = _log10(word)
        cost = "[OOV] 0 [ -inf ]" if out else f"[{place + 2}gram] {_number(10.0**logprob)} [ {_number(logprob)} ]"
        yield f"\tp( {name} | {before} {dots}) \t= {cost}"
        before = name


def _log10(word: WordScore) -> float:
    return float(np.float32(word.logprob * _LOG10))


def _number(value: float) -> str:
    return srilm_number(value, _PRECISION)
