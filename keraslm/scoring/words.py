"""From the scores of tokens to the scores of words, which are separated by white space.

A word's log-probability is the sum over its tokens. White space before a word belongs to it, as tokenizers write it
(`" the"`), so a subword model pays for the end of a word in the score of the next word. `spaces="after"` moves that
cost to the word that ends (Pimentel and Meister 2024, "How to Compute the Probability of a Word", arXiv:2406.14561).
Let B be the event that the next token begins with white space or ends the line:

    log p(word) = sum of its tokens + log p(B | text up to the word's end) - log p(B | text before the word)

The first word of a line has no space before it; there p(B) is the probability of the tokens that can begin a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from keraslm.scoring.conditional import token_spans
from keraslm.scoring.measures import LineScore
from keraslm.text.pieces import word_spans
from keraslm.text.tokenizer import EOS, Tokenizer

_BEFORE = "a"  # any word, so that the next word is inside a line

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class WordScore:
    """The score of one word, or of the end of a line, `<eos>`: natural logarithm.

    `begin` and `end` count characters. `tokens` is the begin and end of its tokens, including white space before it;
    `oov` if one of them is `<unk>`.
    """

    word: str
    begin: int
    end: int
    tokens: tuple[int, int]
    logprob: float
    oov: bool


def boundary(tokenizer: Tokenizer) -> NDArray[np.bool_] | None:
    """Which tokens can follow a complete word, bool `(V,)`; None if the tokenizer does not write white space."""
    marks = tokenizer.space_marks
    if marks is None:
        return None
    ends = marks.copy()
    ends[tokenizer.eos_id] = True
    return ends


def word_scores(line: LineScore, tokenizer: Tokenizer) -> list[WordScore]:
    """The words of a line and its end, in order; corrected if the line's scores have `boundaries`.

    Log-probabilities add up to that of the line. A word whose first token was not predicted has NaN.

    Example:
        >>> (line,) = scorer.score_lines(["the cat"])
        >>> [(word.word, round(word.logprob, 2)) for word in keraslm.word_scores(line, scorer.tokenizer)]
        [('the', -2.83), ('cat', -7.91), ('<eos>', -3.42)]
    """
    return span_scores(line, tokenizer, word_spans(line.text))


def span_scores(line: LineScore, tokenizer: Tokenizer, spans: Sequence[tuple[int, int]]) -> list[WordScore]:
    """The same for other parts of the line than words: `spans` of characters, in order, with white space in between.

    A token belongs to the part in which its first character that is no white space lies.
    """
    spans = [*spans, *[(len(line.text), len(line.text))] * line.eos]
    edges = _edges(line, tokenizer, [end for _, end in spans])
    bounds = [*edges, len(line.ids)]
    sums = np.add.reduceat(np.append(line.logprobs, 0.0), edges) if edges else np.zeros(0)
    sums[np.diff(bounds) == 0] = 0.0
    if line.boundaries is not None and edges:
        sums += _corrections(line, tokenizer, edges)
    scores = []
    for (begin, end), first, last, logprob in zip(spans, edges, bounds[1:], sums, strict=True):
        word = line.text[begin:end] if begin < end else EOS
        scores.append(WordScore(word, begin, end, (first, last), float(logprob), bool(line.oov[first:last].any())))
    return scores


def _edges(line: LineScore, tokenizer: Tokenizer, ends: Sequence[int]) -> list[int]:
    """The first token of each word, and of the end: the end symbol or white space before it."""
    text, word, tokens = line.text, 0, len(line.ids) - line.eos
    edges = [0] * bool(ends)
    for number, (begin, end) in enumerate(token_spans(line, tokenizer)[:tokens].tolist()):
        place = next((i for i in range(begin, end) if not text[i].isspace()), None)
        while word < len(ends) - 1 and (begin if place is None else place) >= ends[word]:
            word += 1
            edges.append(number)
    edges += [tokens] * (len(ends) - len(edges))
    return edges


def _corrections(line: LineScore, tokenizer: Tokenizer, edges: list[int]) -> NDArray[np.float64]:
    assert line.boundaries is not None
    over, begins = line.boundaries
    marks = tokenizer.space_marks
    before = over[edges]
    if edges[0] == 0 and not line.given and (marks is None or not marks[line.ids[0]]):
        before[0] = begins[0]
    # Nothing follows the end of a line; after a word without it, what would follow is in the column after the last.
    after = np.append(over[edges[1:]], 0.0 if line.eos else over[-1])
    return np.asarray(after - before)


class WordEncoder:
    """The tokens of a word at the start of a text, or after a different word and a blank.

    They are the tokens of that part of the text whenever a tokenizer splits a text at white space before anything else,
    as those of keraslm do. With a tokenizer that joins words in one token, the score of a text is that of the tokens of
    its words, one by one.

    Example:
        >>> WordEncoder(tokenizer)("cat", inside=True) == tuple(tokenizer.encode_prompt("the cat")[1:])
        True
    """

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._before = tokenizer.encode_prompt(_BEFORE).tolist()
        self._cached = lru_cache(1 << 16)(self._encode)

    def __call__(self, word: str, inside: bool) -> Tokens:
        return self._cached(word, inside)

    def _encode(self, word: str, inside: bool) -> Tokens:
        if inside:
            found = self._tokenizer.encode_prompt(f"{_BEFORE} {word}").tolist()
            size = len(self._before)
            if found[:size] == self._before:
                return tuple(found[size:])
        return tuple(self._tokenizer.encode_prompt(word).tolist())
