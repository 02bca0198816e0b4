"""A beam search for words of several tokens, with their probabilities.

Beams are beginnings of words, each in one spelling. Dimensions: `V` vocabulary, `B` beams.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from keraslm.scoring.measures import largest
from keraslm.scoring.rows import Context
from keraslm.scoring.session import Session
from keraslm.scoring.state import Floats32
from keraslm.scoring.word_filter import WordFilter
from keraslm.text.pieces import word_spans

LONGEST_WORD = 40  # tokens after what has been typed: longer than nearly every word in bytes, and an end to the search
_NEGLIGIBLE = 0.1  # a beam below this share of the last word in a full list can change only the end of a sum


@dataclass(frozen=True)
class _Beam:
    """The beginning of a word, in one spelling."""

    written: bytes  # by its tokens, with the white space before the word
    logprob: float
    last: int  # token
    row: int  # of the beam that it extends
    free: int  # number of tokens after those that write what has been typed


class WordSearch:
    """A beam search for words that start with `part`, after white space `space`.

    Excluded words are followed beside the `beams` most probable beginnings, because longer words begin with them.
    """

    def __init__(self, session: Session, space: bytes, part: bytes, count: int, beams: int, filter: WordFilter | None):
        self.session, self.surfaces = session, session.tokenizer.surfaces
        self.space, self.part = space, part
        self.wanted, self.lead = space + part, len(space)
        self.count, self.beams, self.filter = count, beams, filter
        self.found: dict[str, float] = {}

    def words(self, context: Context) -> dict[str, float]:
        """Probabilities of the words that are found after a position."""
        beams, state = [_Beam(b"", 0.0, context.last, 0, 0)], context.state
        while beams:
            log_probs, state = self.session.run([[beam.last] for beam in beams], state)  # [B, 1, V]
            self._finish(beams, log_probs[:, 0])
            beams = self._extend(beams, log_probs[:, 0])
            state = state.select([beam.row for beam in beams])
        return self.found

    def _finish(self, beams: Sequence[_Beam], log_probs: Floats32) -> None:
        """Add the words that may end after their last token; distributions `(B, V)`."""
        for beam, own in zip(beams, log_probs, strict=True):
            if len(beam.written) >= len(self.wanted):
                word = _word(beam.written[self.lead :])
                if word and (self.filter is None or self.filter.allows(beam.written[self.lead :])):
                    ended = np.exp(own[self.surfaces.ends]).sum(dtype=np.float64)
                    self.found[word] = self.found.get(word, 0.0) + math.exp(beam.logprob) * float(ended)

    def _extend(self, beams: Sequence[_Beam], log_probs: Floats32) -> list[_Beam]:
        """The most probable beams of one more token, at most `self.beams`, and as many excluded words."""
        floor = self._floor()
        candidates: list[_Beam] = []
        excluded: list[_Beam] = []
        for row, (beam, own) in enumerate(zip(beams, log_probs, strict=True)):
            free = beam.free + (len(beam.written) >= len(self.wanted))
            if free > LONGEST_WORD:
                continue
            ids, completing = self._tokens_after(beam.written)
            scores = own[ids] + beam.logprob
            best = largest(scores, self.beams + len(completing))
            for i, score in zip(ids[best].tolist(), scores[best].tolist(), strict=True):
                if score > floor:
                    longer = _Beam(beam.written + self.surfaces.of[i], score, i, row, free)
                    (excluded if i in completing else candidates).append(longer)
        best_of = partial(heapq.nlargest, self.beams, key=lambda beam: beam.logprob)
        return [*best_of(candidates), *best_of(excluded)]

    def _tokens_after(self, written: bytes) -> tuple[NDArray[np.int64], Set[int]]:
        """Tokens that agree with what has been typed, and write no white space into the word.

        The second value has those that complete an excluded word.
        """
        found = [] if self.filter is None else [self.filter.tokens_after(self.space, self.part, written)]
        if self.filter is not None and self.filter.only:
            return found[0], frozenset()
        rest = self.wanted[len(written) :]
        ids = self.surfaces.inside
        if rest:
            ids = self.surfaces.compatible(rest)
            ids = ids[len(written) + self.surfaces.last_space[ids] <= max(self.lead, len(written))]
        return ids, frozenset(number for some in found for number in some.tolist())

    def _floor(self) -> float:
        """The log-probability up to which a beam is negligible: it cannot lead to a word of the list."""
        if len(self.found) < self.count:
            return -math.inf
        last = heapq.nlargest(self.count, self.found.values())[-1]
        return math.log(last * _NEGLIGIBLE) if last else -math.inf


def _word(written: bytes) -> str:
    """The word that is written; empty if it has an incomplete character, or white space of several tokens."""
    try:
        word = written.decode("utf-8")
    except UnicodeDecodeError:
        return ""
    return word if word_spans(word) == [(0, len(word))] else ""
