"""Scores of a text after a prefix: log p(text | prefix).

The joined text is scored, and the tokens that end within the prefix are given:

    prefix "the dog"    text "barked ."        the dog | barked . <eos>
                                                 given | scored

White space between the two belongs to the text, as tokenizers write it (`" barked"`). So

    log p(text | prefix) = log p(prefix text) - log p(prefix without its end symbol),

provided that the prefix has the same tokens alone as before the text. With white space between them it has; inside a
word, a subword tokenizer may choose a token that crosses the border, which is then scored with the text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from keraslm.scoring.measures import LineScore
from keraslm.text.pieces import word_spans
from keraslm.text.tokenizer import Tokenizer

SEPARATOR = " "


@dataclass(frozen=True)
class Joined:
    """A text after its prefix.

    Attributes:
        lines: of both; the lines before number `first` belong to the prefix.
        first: number of the line in which the text begins, from 0.
        given: number of characters of that line that are given.
        start: number of characters of that line before the text: those that are given, and white space.
    """

    lines: list[str]
    first: int
    given: int
    start: int

    @classmethod
    def of(cls, prefix: str, text: str, separator: str = SEPARATOR) -> Joined:
        """Join a prefix and a text; `separator` goes between them unless white space is there already.

        Example:
            >>> Joined.of("the dog", "barked")
            Joined(lines=['the dog barked'], first=0, given=7, start=8)
        """
        *before, last = lines_of(prefix)
        first, *after = lines_of(text)
        apart = not (last and first) or last[-1].isspace() or first[0].isspace()
        start = last if apart else last + separator
        return cls([*before, start + first, *after], len(before), len(last.rstrip()), len(start))


def lines_of(text: str) -> list[str]:
    """The lines of a text in one string, which end at LF or CR LF; a CR inside a line is a blank, as in files."""
    return text.replace("\r\n", "\n").replace("\r", " ").split("\n")


def after_prefix(line: LineScore, tokenizer: Tokenizer, given: int, start: int) -> LineScore:
    """The scores of the tokens of a joined line that do not end within its first `given` characters.

    The text of the result begins at character `start`.
    """
    if not start:
        return line
    ends = _spans(line.text, tokenizer, line.by_words)[:-1, 1]
    first = int(np.count_nonzero(ends <= given)) if given else 0
    own = line.part(slice(first, None))
    return replace(own, text=line.text[start:], given=line.text[:start], bos=line.bos or first > 0)


def without_end(line: LineScore) -> LineScore:
    """The scores of a line without its end symbol; `boundaries` keep the column at which it was predicted."""
    return replace(line.part(slice(0, -1)), boundaries=line.boundaries, eos=False)


def token_spans(line: LineScore, tokenizer: Tokenizer) -> NDArray[np.int32]:
    """Start and end of each token in the characters of the line's text, int32 `(tokens, 2)`.

    A token that begins in the prefix of the text begins at 0.
    """
    spans = _spans(line.given + line.text, tokenizer, line.by_words)
    last = len(spans) if line.eos else len(spans) - 1
    return np.maximum(spans[last - len(line.ids) : last] - len(line.given), 0, dtype=np.int32)


def _spans(text: str, tokenizer: Tokenizer, by_words: bool) -> NDArray[np.int32]:
    """Start and end of each token of a line, or of each word, and of the line's end: int32 `(tokens, 2)`."""
    if not by_words:
        return tokenizer.offsets(text)
    return np.array([*word_spans(text), (len(text), len(text))], np.int32)
