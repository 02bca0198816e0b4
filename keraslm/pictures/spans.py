"""Tokens laid over the characters of their line, and words over the tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keraslm.perplexity import bits
from keraslm.scoring.measures import LineScore
from keraslm.text.pieces import split_words
from keraslm.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Laid:
    """A line with its tokens in place. Tokens that share characters, such as the bytes of one, are one piece.

    Attributes:
        score: of the line.
        bits: surprisal of each token; float64 `(tokens,)`.
        pieces: first character and the one after the last, first token and the one after the last; int64 `(pieces, 4)`.
            The last piece is the line's end.
        piece_bits: surprisal of each piece, the sum over its tokens; float64 `(pieces,)`.
    """

    score: LineScore
    bits: NDArray[np.float64]
    pieces: NDArray[np.int64]
    piece_bits: NDArray[np.float64]

    def words(self) -> list[tuple[str, float, int]]:
        """Each word of the line that has tokens: itself, its surprisal, and its first piece.

        A piece belongs to the word that its last character stands in, so that a blank before a word counts with it
        where the tokenizer keeps them together.
        """
        text, ends, starts, at = self.score.text, [], [], 0
        words = split_words(text)
        for word in words:
            starts.append(text.index(word, at))
            at = starts[-1] + len(word)
            ends.append(at)
        last = self.pieces[:-1, 1] - 1
        of = np.searchsorted(ends, last, side="right")
        inside = np.flatnonzero(last >= np.append(starts, len(text) + 1)[of]) if words else np.zeros(0, np.int64)
        found, first = np.unique(of[inside], return_index=True)
        sums = np.bincount(of[inside], self.piece_bits[inside], len(words))
        return [(words[w], float(sums[w]), int(inside[f])) for w, f in zip(found, first, strict=True)]


def lay(score: LineScore, tokenizer: Tokenizer) -> Laid:
    """Lay the tokens of a scored line over its text.

    A token that stands for nothing in the line belongs to the piece after it.
    """
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
    surprisals = np.array([bits(logprob) for logprob in score.logprobs.tolist()])
    return Laid(score, surprisals, found, np.add.reduceat(surprisals, found[:, 2]))
