"""From the scores of tokens to the scores of words, which are separated by white space.

A word's log-probability is the sum over its tokens. White space before a word belongs to it, as tokenizers write it
(`" the"`), so a subword model pays for the end of a word in the score of the next word. `spaces="after"` moves that
cost to the word that ends (Pimentel and Meister 2024, "How to Compute the Probability of a Word", arXiv:2406.14561).
Let B be the event that the next token begins with white space or ends the line:

    log p(word) = sum of its tokens + log p(B | text up to the word's end) - log p(B | text before the word)

The first word of a line has no space before it; there p(B) is the probability of the tokens that can begin a line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keraslm.scoring.measures import LineScore
from keraslm.text.pieces import word_spans
from keraslm.text.tokenizer import EOS, Tokenizer


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
    """The words of a line and its end, in order; corrected if the line's scores have `boundaries`."""
    spans = [*word_spans(line.text), (len(line.text), len(line.text))]
    edges = [*range(len(spans))] if line.by_words else _edges(line, tokenizer, [end for _, end in spans])
    sums = np.add.reduceat(np.append(line.logprobs, 0.0), edges)
    sums[np.diff([*edges, len(line.ids)]) == 0] = 0.0
    if line.boundaries is not None:
        sums += _corrections(line, tokenizer, edges)
    scores = []
    for (begin, end), first, last, logprob in zip(spans, edges, [*edges[1:], len(line.ids)], sums, strict=True):
        word = line.text[begin:end] if begin < end else EOS
        scores.append(WordScore(word, begin, end, (first, last), float(logprob), bool(line.oov[first:last].any())))
    return scores


def _edges(line: LineScore, tokenizer: Tokenizer, ends: list[int]) -> list[int]:
    """The first token of each word, and of the end: the end symbol or white space before it."""
    text, word, edges = line.text, 0, [0]
    for number, (begin, end) in enumerate(tokenizer.offsets(text)[:-1].tolist()):
        place = next((i for i in range(begin, end) if not text[i].isspace()), None)
        while word < len(ends) - 1 and (begin if place is None else place) >= ends[word]:
            word += 1
            edges.append(number)
    edges += [len(line.ids) - 1] * (len(ends) - len(edges))
    return edges


def _corrections(line: LineScore, tokenizer: Tokenizer, edges: list[int]) -> NDArray[np.float64]:
    assert line.boundaries is not None
    over, begins = line.boundaries
    marks = tokenizer.space_marks
    before = over[edges]
    if edges[0] == 0 and (marks is None or not marks[line.ids[0]]):
        before[0] = begins[0]
    after = np.append(over[edges[1:]], 0.0)  # nothing follows the end of a line
    return np.asarray(after - before)
