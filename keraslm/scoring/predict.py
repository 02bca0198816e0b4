"""The most probable next words after a text, or completions of a word that has been begun.

In a vocabulary of words, one token is one word. Otherwise a beam search follows the tokens up to the next white space
or line end. With s a spelling of the word in tokens, and the white space before it included,

    p(word | text) = sum over s of p(s | text) * p(a token with white space first, or the end symbol | text, s)

The sum is over the spellings that the search has found, so it is a lower bound. It is not divided by the probability
of what has been typed: for "the comp", p(company) is its probability after "the". Tokens with white space after the
beginning of a word, as a SentencePiece model without `split_by_whitespace` has them, are not followed.

Excluded words are left out of the search itself, so a list has the most probable words of all others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from keraslm import arguments
from keraslm.errors import ArgumentTypeError, UsageError, shown
from keraslm.scoring.measures import largest
from keraslm.scoring.rows import Context
from keraslm.scoring.scorer import Scorer
from keraslm.scoring.session import Session
from keraslm.scoring.word_filter import WordFilter, Words, word_filter
from keraslm.scoring.word_search import WordSearch
from keraslm.text.encoders import Ids
from keraslm.text.pieces import word_spans
from keraslm.text.tokenizer import Tokenizer

BEAMS = 20  # twice the usual number of words: finds 99 of 100 words that 300 beams find, in characters and subwords

_LINE_END = re.compile("\r\n|\r|\n")


@dataclass(frozen=True)
class Prediction:
    """A word, and its probability after the text: 0 < probability <= 1."""

    word: str
    probability: float


@dataclass(frozen=True)
class Predictions:
    """Predicted words after a text.

    Attributes:
        begun: the part of a word at the end of the text; empty after white space or a line end.
        start: where it starts in the text, in characters: a predicted word replaces `text[start:]`.
        words: the most probable one first, those of equal probability in alphabetical order.
    """

    begun: str
    start: int
    words: list[Prediction]


@dataclass(frozen=True)
class Begun:
    """The part of a word at the end of a line: `line[start:]`, with the white space `line[before:start]` before it."""

    before: int
    start: int


def predict(
    scorer: Scorer | Session,
    text: str,
    count: int = 10,
    beams: int = BEAMS,
    *,
    allowed: Words | None = None,
    exclude: Words = (),
) -> Predictions:
    """The most probable next words, or those that complete the word at the end of the text.

    Args:
        scorer: a `Scorer`, or an open model: a `ModelSession` or an `Ensemble`.
        text: a text, of one line or of several. The state is carried over line ends.
        count: largest number of words.
        beams: number of beginnings of words that are followed side by side, at least `count`; unused in vocabularies
            of words.
        allowed: the only words that are predicted; None means all. As a `frozenset`, a long list is prepared once.
        exclude: words that are not predicted. Both are read as the tokenizer reads words, in lower case if it does so.

    Raises:
        ArgumentTypeError, UsageError: a wrong argument.
        TokenizerError: a tokenizer whose words cannot be told, such as WordPiece.

    Example:
        >>> predict(scorer, "the comp", 2)
        Predictions(begun='comp', start=4, words=[Prediction(word='company', probability=0.021), ...])
    """
    if not isinstance(scorer, Scorer):
        scorer = Scorer(_open(scorer, "scorer"))
    *lines, line = _LINE_END.split(arguments.text(text, "text"))
    place = begun_word(scorer.tokenizer, line)
    context = _position(scorer, lines, line[: place.before])
    begun, lead = line[place.start :], line[place.before : place.start]
    words = predict_from(scorer.session, context, begun, lead, count, beams, allowed=allowed, exclude=exclude)
    return Predictions(begun, len(text) - len(begun), words)


def predict_from(
    session: Session,
    context: Context,
    begun: str = "",
    lead: str | None = None,
    count: int = 10,
    beams: int = BEAMS,
    *,
    allowed: Words | None = None,
    exclude: Words = (),
) -> list[Prediction]:
    """As `predict`, from a position that the caller keeps: one call of the network in a vocabulary of words.

    Args:
        context: the position after the last complete word, before white space: from `Scorer.begin` or `advance_all`.
        begun: the part of the next word that has been typed.
        lead: white space between the two. None means one blank, or nothing at the start of a line. Vocabularies of
            words do not use it.
        count, beams, allowed, exclude: as for `predict`.

    Raises:
        ArgumentTypeError, UsageError: a wrong argument.
        InputError: a context of a different model.

    Example:
        >>> _, context = scorer.advance_all(scorer.begin(), scorer.tokenizer.encode_prompt("the"))
        >>> predict_from(scorer.session, context, "comp", count=2)      # as after "the comp"
        [Prediction(word='company', probability=0.021), Prediction(word='computer', probability=0.008)]
    """
    _open(session, "session")
    arguments.instance(context, Context, "context", "a position from `begin` or `advance`")
    if word_spans(arguments.text(begun, "begun")) != [(0, len(begun))] and begun:
        raise UsageError(f"`begun` is {shown(begun)}, but must be a part of one word, without white space.")
    count, beams = arguments.integer(count, "count", 1), arguments.integer(beams, "beams", 1)
    line_start = context.last == session.info.eos_id
    lead = ("" if line_start else " ") if lead is None else arguments.text(lead, "lead")
    if word_spans(lead):
        raise UsageError(f"`lead` is {shown(lead)}, but must be white space.")
    space, part = session.tokenizer.surfaces.read(begun, lead, line_start)
    wanted = word_filter(session.tokenizer.surfaces, allowed, exclude)
    if session.tokenizer.surfaces.whole_words:
        found = _tokens(session, context, part, count, wanted)
    else:
        found = WordSearch(session, space, part, count, max(beams, count), wanted).words(context)
    best = sorted(((min(p, 1.0), word) for word, p in found.items() if p > 0.0), key=lambda item: (-item[0], item[1]))
    return [Prediction(word, probability) for probability, word in best[:count]]


def next_tokens(scorer: Scorer, text: str, count: int = 10) -> list[Prediction]:
    """The most probable next tokens after a text, by their names in the vocabulary; `<eos>` and `<unk>` too.

    Example:
        >>> next_tokens(scorer, "the cat", 2)
        [Prediction(word='<unk>', probability=0.11), Prediction(word='<eos>', probability=0.052)]
    """
    *lines, line = _LINE_END.split(arguments.text(text, "text"))
    log_probs = scorer.next_logprobs(_position(scorer, lines, line))
    ids = largest(log_probs, arguments.integer(count, "count", 1))
    names = scorer.tokenizer.tokens(ids.tolist())
    return [Prediction(name, p) for name, p in zip(names, np.exp(log_probs[ids]).tolist(), strict=True) if p > 0.0]


def begun_word(tokenizer: Tokenizer, line: str) -> Begun:
    """Where the word at the end of a line starts, and where the text before it ends, in characters.

    A word of a vocabulary of words is a token; a punctuation mark may be one. Otherwise white space separates words.

    Example:
        >>> begun_word(tokenizer, "the  comp")
        Begun(before=3, start=5)
    """
    words = word_spans(line)
    ended = not words or words[-1][1] < len(line)
    if tokenizer.surfaces.whole_words and not ended:
        words = [(begin, end) for begin, end in tokenizer.offsets(line)[:-1].tolist() if begin < end] or words
    start = len(line) if ended else words.pop()[0]
    return Begun(words[-1][1] if words else 0, start)


def _open(value: Any, name: str) -> Session:
    if not hasattr(value, "target_logprobs"):
        raise ArgumentTypeError(
            f"`{name}` is {shown(value)}, but an open model is expected: open it with keraslm.load."
        )
    return cast(Session, value)


def _position(scorer: Scorer, lines: Sequence[str], beginning: str) -> Context:
    """The position after complete lines and the beginning of the next one."""
    tokenizer = scorer.tokenizer
    earlier = tokenizer.encode_lines(lines) if lines else []
    ids: Ids = np.concatenate([*earlier, tokenizer.encode_prompt(beginning)])
    return scorer.advance_all(scorer.begin(), ids)[1]


def _tokens(session: Session, context: Context, part: bytes, count: int, wanted: WordFilter | None) -> dict[str, float]:
    """The most probable of the tokens that start with `part`, and their probabilities."""
    surfaces = session.tokenizer.surfaces
    log_probs, _ = session.run([[context.last]], context.state)  # [1, 1, V]
    ids = surfaces.starting_with(part)
    ids = ids[wanted.tokens[ids]] if wanted else ids
    ids = ids[largest(log_probs[0, 0, ids], count)]
    return {surfaces.of[i].decode("utf-8", "replace"): math.exp(log_probs[0, 0, i]) for i in ids.tolist()}
