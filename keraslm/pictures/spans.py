"""Tokens aligned with the characters of their line, and words aligned with the tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keraslm.perplexity import bits
from keraslm.scoring.measures import LineScore
from keraslm.text.pieces import word_spans
from keraslm.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Laid:
    """A line with its tokens in place. Tokens that share characters, such as the bytes of a character, are one piece.

    `pieces` is their begin and end in characters, and in tokens, `(pieces, 4)`; the last piece is the line's end.
    """

    score: LineScore
    bits: NDArray[np.float64]  # of each token, (tokens,)
    pieces: NDArray[np.int64]
    piece_bits: NDArray[np.float64]  # the sum over the tokens of each piece, (pieces,)
    oov: NDArray[np.bool_]  # pieces with a token <unk>, (pieces,)

    def words(self) -> list[tuple[str, float, int]]:
        """Text, surprisal and first piece of each word. A piece belongs to the word with its last character."""
        spans = np.array(word_spans(self.score.text), np.int64).reshape(-1, 2)
        places = np.searchsorted(self.pieces[:-1, 1], spans + 1).tolist()
        return [
            (self.score.text[begin:end], float(self.piece_bits[first:last].sum()), first)
            for (begin, end), (first, last) in zip(spans.tolist(), places, strict=True)
            if first < last
        ]


def lay(score: LineScore, tokenizer: Tokenizer) -> Laid:
    """Align the tokens of a scored line with its text; a token without characters belongs to the next piece."""
    pieces: list[list[int]] = []
    taken = 0
    offsets = tokenizer.offsets(score.text).tolist()
    for token, (begin, end) in enumerate(offsets[:-1], 1):
        if begin == end:
            continue
        if pieces and begin < pieces[-1][1]:
            pieces[-1][1:] = [end, pieces[-1][2], token]
        else:
            pieces.append([begin, end, taken, token])
        taken = token
    pieces.append([len(score.text), len(score.text), taken, len(offsets)])
    found = np.array(pieces, np.int64)
    surprisals, firsts = np.array([bits(logprob) for logprob in score.logprobs.tolist()]), found[:, 2]
    sums, oov = np.add.reduceat(surprisals, firsts), np.logical_or.reduceat(score.oov, firsts)
    return Laid(score, surprisals, found, sums, oov)
