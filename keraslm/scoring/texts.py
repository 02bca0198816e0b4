"""Scores of texts that may have several lines and a prefix: cells of tables, documents, questions and answers.

The lines of a text go to the scorer together, followed by the end of a file; those of a prefix before them. Their
scores come back as one `TextScore` per text.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from keraslm import arguments
from keraslm.errors import UsageError, shown
from keraslm.perplexity import TextCost
from keraslm.scoring.batching import LINES_AHEAD, Line
from keraslm.scoring.conditional import SEPARATOR, Joined, after_prefix, without_end
from keraslm.scoring.measures import Flags, LineScore
from keraslm.text.tokenizer import Tokenizer

Text = str | tuple[str, str]  # a text, or a prefix and a text


@dataclass(frozen=True, repr=False)
class TextScore:
    """The scores of the lines of one text, without those of its prefix."""

    lines: list[LineScore]

    def __repr__(self) -> str:
        return f"TextScore({self.text!r:.60}, lines={len(self.lines)}, logprob={self.logprob:.6g})"

    @property
    def text(self) -> str:
        return "\n".join(line.text for line in self.lines)

    @property
    def logprob(self) -> float:
        """Sum over all lines, nats."""
        return math.fsum(line.logprob for line in self.lines)

    @property
    def cost(self) -> TextCost:
        return sum((line.cost for line in self.lines), TextCost())


@dataclass(frozen=True)
class Ends:
    """What is scored at the ends of a text, and what stands between it and its prefix.

    Attributes:
        bos: predict the first token from the start of a text. False: the first token is only read, and not scored.
        eos: score the end symbol after the text.
        separator: between prefix and text, unless white space is there already.
    """

    bos: bool = True
    eos: bool = True
    separator: str = SEPARATOR

    def __post_init__(self) -> None:
        arguments.switch(self.bos, "bos")
        arguments.switch(self.eos, "eos")
        if set(arguments.text(self.separator, "separator")) & {"\r", "\n"}:
            raise UsageError(f"`separator` is {shown(self.separator)}, but must be part of a line.")


class LineScorer(Protocol):
    """What scores lines: a `Scorer`, or a mixture of one with an n-gram model."""

    tokenizer: Tokenizer

    def score_lines(
        self,
        lines: Iterable[Line],
        context: str = "sentence",
        distributions: bool = False,
        lines_ahead: int = LINES_AHEAD,
        boundary: Flags | None = None,
        bos: bool = True,
    ) -> Iterator[LineScore]: ...


def score_texts(
    scorer: LineScorer,
    texts: Iterable[Text],
    ends: Ends = Ends(),
    context: str = "document",
    distributions: bool = False,
    lines_ahead: int = LINES_AHEAD,
    boundary: Flags | None = None,
) -> Iterator[TextScore]:
    """One result per text, in order, as the texts are read; see `Scorer.score_texts`."""
    waiting: deque[Joined] = deque()

    def lines() -> Iterator[Line]:
        for text, place in arguments.each(texts, "texts", "strings, or pairs of a prefix and a text"):
            prefix, own = prefix_and_text(text, place)
            last = own.removesuffix("\n").removesuffix("\r")  # one line end ends the last line, as in a file
            joined = Joined.of(prefix, last, ends.separator)
            waiting.append(joined)
            yield from joined.lines
            yield None

    scored = scorer.score_lines(lines(), context, distributions, lines_ahead, boundary, ends.bos)
    found: list[LineScore] = []
    for line in scored:
        found.append(line)
        if len(found) == len(waiting[0].lines):
            joined = waiting.popleft()
            first, *rest = found[joined.first :]
            own = [after_prefix(first, scorer.tokenizer, joined.given, joined.start), *rest]
            if not ends.eos:
                own[-1] = without_end(own[-1])
            yield TextScore(own)
            found = []


def prefix_and_text(text: Any, place: str) -> tuple[str, str]:
    """The prefix of a `Text`, which may be empty, and the text itself."""
    prefix, own = text if isinstance(text, tuple) and len(text) == 2 else ("", text)
    own = arguments.text(own, place)
    return arguments.text(prefix, place), own
