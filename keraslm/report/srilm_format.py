"""Scores in the format of SRILM's program `ngram -ppl FILE -debug 0|1|2`.

`level="summary"` is `-debug 0`, `"sentence"` is `-debug 1`, `"token"` and `"word"` are `-debug 2`. With
`unk="include"`, an unknown word is the word `<unk>` with its probability (`-unk`); with `"exclude"`, it is an OOV of
probability 0 that sums and counts leave out. The n of `[ngram]` is the number of words since the start of the line,
including `<s>` and the word itself. SRILM skips blank lines; here they are scored.
Reference: SRILM, `lm/src/LM.cc`, `lm/src/NgramLM.cc`, `lm/src/TextStats.cc`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from operator import add
from typing import NamedTuple

import numpy as np

from keraslm.perplexity import BASES, perplexity
from keraslm.report.options import ScoreOptions
from keraslm.scoring.measures import LineScore
from keraslm.scoring.words import WordScore, word_scores
from keraslm.text.tokenizer import UNK, Tokenizer


class _Stats(NamedTuple):
    sentences: int = 0
    words: int = 0
    oovs: int = 0
    logprob: float = 0.0

    def rows(self) -> list[str]:
        rows = [f"{self.sentences} sentences, {self.words} words, {self.oovs} OOVs"]
        if self.words + self.sentences:
            known = self.words - self.oovs
            ppl, ppl1 = (
                number(perplexity(-self.logprob, count, "10")) if count > 0 else "undefined"
                for count in (known + self.sentences, known)
            )
            rows.append(f"0 zeroprobs, logprob= {number(self.logprob)} ppl= {ppl} ppl1= {ppl1}")
        return rows


def srilm_rows(
    lines: Iterable[LineScore], tokenizer: Tokenizer, options: ScoreOptions, name: str = ""
) -> Iterator[str]:
    """Lines of output; `name` is the name of the text in the last block."""
    total = _Stats()
    for line in lines:
        words = word_scores(line, tokenizer)
        excluded = [word.oov and options.unk == "exclude" for word in words]
        logprob = math.fsum(_log10(w) for w, out in zip(words, excluded, strict=True) if not out)
        own = _Stats(1, len(words) - 1, sum(excluded), logprob)
        total = _Stats(*map(add, total, own))
        if options.level != "summary":
            yield " ".join(word.word for word in words[:-1])
            if options.level != "sentence":
                yield from _words(words, excluded)
            yield from (*own.rows(), "")
    first, *rest = total.rows()
    yield from (f"file {name}: {first}", *rest)


def number(value: float) -> str:
    """A number with seven significant digits, as SRILM's C++ streams write it: `1e-05`, `4.664625e+09`, `-inf`."""
    return f"{value:.7g}"


def _words(words: Sequence[WordScore], excluded: Sequence[bool]) -> Iterator[str]:
    before = "<s>"
    for place, (word, out) in enumerate(zip(words, excluded, strict=True)):
        name = "</s>" if place == len(words) - 1 else UNK if word.oov else word.word
        dots = "..." if place else ""
        logprob = _log10(word)
        cost = "[OOV] 0 [ -inf ]" if out else f"[{place + 2}gram] {number(10.0**logprob)} [ {number(logprob)} ]"
        yield f"\tp( {name} | {before} {dots}) \t= {cost}"
        before = name


def _log10(word: WordScore) -> float:
    return float(np.float32(word.logprob * (1.0 / BASES["10"])))
