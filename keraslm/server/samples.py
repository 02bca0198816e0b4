"""One completion while it is drawn: its text, stop strings, and what can already be sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from keraslm.server.rows import Seen
from keraslm.text.decoding import Detokenizer


@dataclass
class Delta:
    """What is new of a completion.

    Attributes:
        text: new text.
        seen: new tokens with their numbers.
        offsets: where the text of each begins, in characters of the completion.
        finish: `"stop"` or `"length"` at the end; None before.
    """

    text: str
    seen: Seen
    offsets: list[int] = field(default_factory=list)
    finish: str | None = None


class Sample:
    """The text of a completion as its tokens arrive.

    Text that may be the beginning of a stop string is held back, with its tokens. A stop string, and the tokens that
    begin in it or after it, are left out; the end symbol that ends a completion is a token without text.

    Args:
        detokenizer: at the end of the prompt.
        stops: stop strings.
        count: largest number of tokens.
        through: whether an end symbol is an ordinary line end.
        joined: whether the white space before the first token is left out, because the prompt ends with it.
    """

    def __init__(
        self, detokenizer: Detokenizer, stops: Sequence[str], count: int, eos_id: int, through: bool, joined: bool
    ):
        self._detokenizer, self._stops, self._count = detokenizer, stops, count
        self._eos_id, self._through, self._joined = eos_id, through, joined
        self._text = ""  # that was not sent
        self._sent = 0  # characters
        self._held: list[tuple[int, Seen]] = []  # tokens that were not sent, and where they begin
        self.tokens = 0
        self.finish: str | None = None

    def add(self, seen: Seen) -> Delta:
        """Take new tokens; those after the end of the completion are ignored."""
        for number in range(len(seen)):
            self.tokens += 1
            token = int(seen.ids[number])
            self._held.append((self._sent + len(self._text), part(seen, number, number + 1)))
            ended = token == self._eos_id and not self._through
            self._append(self._detokenizer.rest() if ended else self._detokenizer.add(token))
            if (place := self._stop()) is not None:
                self._text = self._text[:place]
                self._held = [each for each in self._held if each[0] < self._sent + place]
                self.finish = "stop"
            elif ended:
                self.finish = "stop"
            elif self.tokens == self._count:
                self._append(self._detokenizer.rest())
                self.finish = "length"
            if self.finish:
                break
        return self._release(len(self._text) if self.finish else self._safe())

    def _append(self, text: str) -> None:
        if self._joined and text:
            text, self._joined = text.removeprefix(" "), False
        self._text += text

    def _stop(self) -> int | None:
        """Where the first stop string begins in the text that was not sent."""
        found = [place for stop in self._stops if (place := self._text.find(stop)) >= 0]
        return min(found, default=None)

    def _safe(self) -> int:
        """How many characters cannot belong to a stop string."""
        longest = max(map(len, self._stops), default=1) - 1
        for start in range(max(0, len(self._text) - longest), len(self._text)):
            if any(stop.startswith(self._text[start:]) for stop in self._stops):
                return start
        return len(self._text)

    def _release(self, length: int) -> Delta:
        text, self._text = self._text[:length], self._text[length:]
        self._sent += length
        count = len(self._held)
        if not self.finish:
            count = sum(begin < self._sent for begin, _ in self._held)
        released, self._held = self._held[:count], self._held[count:]
        offsets = [begin for begin, _ in released]
        return Delta(text, join([seen for _, seen in released]), offsets, self.finish)


def part(seen: Seen, start: int, stop: int) -> Seen:
    """Some of the tokens."""
    cut = slice(start, stop)
    tops = None if seen.tops is None else (seen.tops[0][cut], seen.tops[1][cut])
    measures = None if seen.measures is None else seen.measures[:, cut]
    return Seen(seen.ids[cut], seen.logprobs[cut], tops, measures)


def join(parts: Sequence[Seen]) -> Seen:
    """The tokens of several parts, one after the other, and the position after the last."""
    after = parts[-1].after if parts else None
    parts = [part for part in parts if len(part)]
    if not parts:
        return Seen(np.zeros(0, np.int32), np.zeros(0, np.float32), after=after)
    ids, logprobs = np.concatenate([p.ids for p in parts]), np.concatenate([p.logprobs for p in parts])
    tops = measures = None
    if parts[0].tops is not None:
        tops = tuple(np.concatenate([p.tops[i] for p in parts if p.tops]) for i in (0, 1))
    if parts[0].measures is not None:
        measures = np.concatenate([p.measures for p in parts if p.measures is not None], axis=1)
    return Seen(ids, logprobs, tops, measures, after)  # type: ignore[arg-type]
