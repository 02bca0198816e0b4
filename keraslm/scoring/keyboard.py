"""Next words while a text is typed: what each key does, and suggestions that cost one step of the network per key."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace

from keraslm.scoring.predict import Predictions, begun_word, predict_from
from keraslm.scoring.rows import Context
from keraslm.scoring.scorer import Scorer
from keraslm.scoring.word_filter import Words
from keraslm.text.encoders import Ids

ENTER, TAB, BACKSPACE, ERASE_WORD, ERASE_LINE, LITERAL, END, INTERRUPT = "\r\t\x7f\x17\x15\x16\x04\x03"
_SAME = {"\n": ENTER, "\x08": BACKSPACE}


@dataclass(frozen=True)
class Typed:
    """A line that is being typed.

    Attributes:
        text: the line so far.
        words: suggested words, the best one first; each replaces `text[start:]`.
        start: where the word that is being typed starts, in characters.
        literal: whether the next key stands for itself.
        done: the key that ended the line: `ENTER`, `END` or `INTERRUPT`; empty before that.
    """

    text: str = ""
    words: tuple[str, ...] = ()
    start: int = 0
    literal: bool = False
    done: str = ""


def press(typed: Typed, key: str) -> Typed:
    """The line after a key, which is one character; the suggestions are still those from before.

    `TAB` accepts the first suggestion, and a digit the suggestion of that number. A digit stands for itself after
    another digit, and every key does after `LITERAL` (Ctrl-V). Control characters without a meaning change nothing.

    Example:
        >>> press(Typed("the comp", ("company", "computer"), 4), "2").text
        'the computer '
    """
    key, text = _SAME.get(key, key), typed.text
    accepted = "" if typed.literal else _accepted(typed, key)
    typed = replace(typed, literal=key == LITERAL)
    if key in (ENTER, END, INTERRUPT):
        return replace(typed, done=key)
    if accepted:
        return replace(typed, text=f"{text[: typed.start]}{accepted} ")
    if key == BACKSPACE:
        return replace(typed, text=text[:-1])
    if key == ERASE_WORD:
        return replace(typed, text=text[: len(text.rstrip()) - len(text.split()[-1])] if text.strip() else "")
    if key == ERASE_LINE:
        return replace(typed, text="")
    return typed if unicodedata.category(key) in ("Cc", "Cs") else replace(typed, text=text + key)


def _accepted(typed: Typed, key: str) -> str:
    """The suggestion that a key accepts; empty for another key."""
    number = 1 if key == TAB else int(key) if key in "123456789" and not typed.text[-1:].isdigit() else 0
    return "".join(typed.words[number - 1 : number]) if number else ""


class Suggestions:
    """Next words of a line that changes key by key. The state is carried over line ends.

    The positions after the words of the line are kept, so that a key inside a word costs one step of the network, and
    a new word one more. Erased text costs nothing.

    Args:
        count: largest number of words.
        allowed, exclude: as for `predict`.

    Example:
        >>> suggestions = Suggestions(scorer, 2)
        >>> [item.word for item in suggestions.after("the comp").words]
        ['company', 'computer']
    """

    def __init__(self, scorer: Scorer, count: int, allowed: Words | None = None, exclude: Words = ()):
        self._scorer, self._count = scorer, count
        self._allowed = None if allowed is None else frozenset(allowed)
        self._exclude = frozenset(exclude)
        self._positions: dict[bytes, Context] = {b"": scorer.begin()}  # after tokens of the line

    def after(self, line: str) -> Predictions:
        """Suggestions after the beginning of a line."""
        tokenizer = self._scorer.tokenizer
        place = begun_word(tokenizer, line)
        context = self._position(tokenizer.encode_prompt(line[: place.before]))
        begun, lead = line[place.start :], line[place.before : place.start]
        words = predict_from(
            self._scorer.session, context, begun, lead, self._count, allowed=self._allowed, exclude=self._exclude
        )
        return Predictions(begun, place.start, words)

    def end_line(self, line: str) -> None:
        """Begin a new line."""
        (ids,) = self._scorer.tokenizer.encode_lines([line])
        self._positions = {b"": self._position(ids)}

    def _position(self, ids: Ids) -> Context:
        known = next(end for end in range(len(ids), -1, -1) if ids[:end].tobytes() in self._positions)
        _, context = self._scorer.advance_all(self._positions[ids[:known].tobytes()], ids[known:])
        self._positions[ids.tobytes()] = context
        return context
