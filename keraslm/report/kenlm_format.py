"""Scores in the format of KenLM's program `query`.

    word=vocab_id ngram_length log10prob<tab>...</s>=...<tab>Total: log10prob OOV: count

Numbers are the shortest decimals that round to the same float32 (words, and totals, which are added up in float32) or
float64 (perplexities). `vocab_id` is 0 for an unknown word, otherwise the id of the word's first token plus one.
`ngram_length` is the number of words since the start of the line, including `<s>` and the word itself.
Reference: kpu/kenlm, `lm/ngram_query.hh`, `util/float_to_string.cc`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from keraslm.perplexity import BASES, perplexity
from keraslm.report.options import ScoreOptions
from keraslm.scoring.measures import LineScore
from keraslm.scoring.words import word_scores
from keraslm.text.tokenizer import EOS, Tokenizer


def kenlm_rows(lines: Iterable[LineScore], tokenizer: Tokenizer, options: ScoreOptions) -> Iterator[str]:
    """Lines of output: words and totals, totals alone with `level="sentence"`, and the summary at the end."""
    total = oov_total = 0.0
    tokens = oovs = 0
    for line in lines:
        words = word_scores(line, tokenizer)
        logprobs = np.array([word.logprob * (1.0 / BASES["10"]) for word in words], np.float32)
        unknown = [float(p) for word, p in zip(words, logprobs, strict=True) if word.oov]
        own = np.add.accumulate(logprobs)[-1]
        cells = []
        for place, (word, logprob) in enumerate(zip(words, logprobs, strict=True), 2):
            number = 0 if word.oov else line.ids[word.tokens[0]] + 1
            surface = "</s>" if word.word == EOS and word.begin == word.end else word.word
            cells.append(f"{surface}={number} {place} {shortest(logprob)}\t")
        if options.level != "summary":
            yield f"{'' if options.level == 'sentence' else ''.join(cells)}Total: {shortest(own)} OOV: {len(unknown)}"
        total, tokens = total + float(own), tokens + len(words)
        oov_total, oovs = oov_total + math.fsum(unknown), oovs + len(unknown)
    yield f"Perplexity including OOVs:\t{shortest(np.float64(perplexity(-total, tokens, '10')))}"
    yield f"Perplexity excluding OOVs:\t{shortest(np.float64(perplexity(oov_total - total, tokens - oovs, '10')))}"
    yield f"OOVs:\t{oovs}"
    yield f"Tokens:\t{tokens}"


def shortest(value: np.float32 | np.float64) -> str:
    """The shortest decimal that rounds to the same float, as Google's double-conversion writes it: `1e-7`, `NaN`."""
    if np.isnan(value):
        return "NaN"
    if value == 0 or 1e-6 <= np.abs(value) < 1e21:
        return np.format_float_positional(value, trim="-")
    return np.format_float_scientific(value, trim="-", exp_digits=1).replace("e+", "e")
