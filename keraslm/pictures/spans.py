"""Tokens or words aligned with the characters of their line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keraslm.perplexity import BASES
from keraslm.scoring.measures import Flags, Floats, LineScore
from keraslm.scoring.words import WordScore, word_scores
from keraslm.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Laid:
    """A line in pieces: words or tokens. Tokens that share characters, as the bytes of a character do, are one piece.

    `pieces` is their begin and end in characters, and in tokens, `(pieces, 4)`; the last piece is the line's end. A
    surprisal is NaN where the score leaves out unknown words.
    """

    score: LineScore
    words: list[WordScore]  # the last is the line's end
    bits: Floats  # surprisal of each word or token that counts
    pieces: NDArray[np.int64]
    piece_bits: Floats  # surprisal of each piece, (pieces,)
    oov: Flags  # pieces with a token <unk>, (pieces,)

    def piece_of(self, word: WordScore) -> int:
        """The piece with a word's first character."""
        return int(np.searchsorted(self.pieces[:-1, 1], word.begin, side="right"))


def lay(score: LineScore, tokenizer: Tokenizer, by_words: bool = False) -> Laid:
    """Align the tokens of a scored line, or its words, with its text."""
    words = word_scores(score, tokenizer)
    if by_words:
        pieces = np.array([(word.begin, word.end, *word.tokens) for word in words], np.int64)
        logprobs, oov = np.array([word.logprob for word in words]), np.array([word.oov for word in words])
        sums = logprobs
    else:
        pieces, logprobs = _pieces(score.text, tokenizer), score.logprobs
        sums, oov = np.add.reduceat(logprobs, pieces[:, 2]), np.logical_or.reduceat(score.oov, pieces[:, 2])
    counted = ~np.isnan(logprobs) | ~(oov if by_words else score.oov)
    return Laid(score, words, _bits(logprobs[counted]), pieces, _bits(sums), oov)


def _bits(logprobs: Floats) -> Floats:
    return -logprobs / BASES["2"] + 0.0


def _pieces(text: str, tokenizer: Tokenizer) -> NDArray[np.int64]:
    """A token without characters belongs to the next piece."""
    pieces: list[list[int]] = []
    taken = 0
    offsets = tokenizer.offsets(text).tolist()
    for token, (begin, end) in enumerate(offsets[:-1], 1):
        if begin == end:
            continue
        if pieces and begin < pieces[-1][1]:
            pieces[-1][1:] = [end, pieces[-1][2], token]
        else:
            pieces.append([begin, end, taken, token])
        taken = token
    pieces.append([len(text), len(text), taken, len(offsets)])
    return np.array(pieces, np.int64)
