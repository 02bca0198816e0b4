"""Scores as KenLM's program `query` prints them, so that what reads its output reads ours.

    word=vocab_id ngram_length log10prob<tab>...</s>=...<tab>Total: log10prob OOV: count

Numbers are the shortest decimals that give the same float32 (words, and totals, which are added up in float32) or
float64 (perplexities) again. In
`vocab_id` 0 stands for an unknown word, as in KenLM; other words have the id of their first token, plus one.
`ngram_length` is the number of words since the line began, `<s>` and the word itself included: nothing is forgotten.
Reference: kpu/kenlm, `lm/ngram_query.hh`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from keraslm.report.numbers import shortest_float32, shortest_float64
from keraslm.report.options import ScoreOptions
from keraslm.scoring.measures import LineScore
from keraslm.scoring.words import WordScore, word_scores
from keraslm.text.tokenizer import EOS, Tokenizer

_LOG10 = 1.0 / math.log(10.0)


def kenlm_rows(lines: Iterable[LineScore], tokenizer: Tokenizer, options: ScoreOptions) -> Iterator[str]:
    """Lines of `query`'s output: words and totals, totals alone (`--level sentence`), and the summary at the end."""
    total = of_oovs = 0.0
    tokens = oovs = 0
    for line in lines:
        words = word_scores(line, tokenizer)
        logprobs = np.array([word.logprob * _LOG10 for word in words], np.float32)
        unknown = [float(p) for word, p in zip(words, logprobs, strict=True) if word.oov]
        own = float(np.add.accumulate(logprobs)[-1])
        shown = "" if options.level == "sentence" else "".join(_word(*word, line) for word in enumerate(words))
        if options.level != "summary":
            yield f"{shown}Total: {shortest_float32(own)} OOV: {len(unknown)}"
        total, of_oovs = total + own, of_oovs + math.fsum(unknown)
        tokens, oovs = tokens + len(words), oovs + len(unknown)
    yield f"Perplexity including OOVs:\t{shortest_float64(_perplexity(total, tokens))}"
    yield f"Perplexity excluding OOVs:\t{shortest_float64(_perplexity(total - of_oovs, tokens - oovs))}"
    yield f"OOVs:\t{oovs}"
    yield f"Tokens:\t{tokens}"


def _word(place: int, word: WordScore, line: LineScore) -> str:
    number = 0 if word.oov else int(line.ids[word.tokens[0]]) + 1
    surface = "</s>" if word.word == EOS and word.begin == word.end else word.word
    return f"{surface}={number} {place + 2} {shortest_float32(word.logprob * _LOG10)}\t"


def _perplexity(total: float, tokens: int) -> float:
    if not tokens:
        return math.nan
    try:
        return 10.0 ** -(total / tokens)
    except OverflowError:
        return math.inf
