"""The JSON of completions: choices with texts, log-probabilities and alternatives, as OpenAI's clients read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keraslm.server.rows import Seen
from keraslm.text.decoding import TokenTexts

LEAST = -9999.0  # JSON has no -inf


def choice(index: int, text: str, logprobs: dict[str, Any] | None, finish: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}


def number(value: float) -> float:
    """A log-probability as a number of JSON."""
    return value if value > LEAST else LEAST


class TokenLists:
    """The lists of tokens, log-probabilities, alternatives and offsets of a choice.

    Args:
        before: the token before the first one.
        with_ids: whether alternatives are wanted by id too, because two of them may have the same text.
    """

    def __init__(self, texts: TokenTexts, eos_id: int, before: int, with_ids: bool):
        self._texts, self._eos_id, self._before = texts, eos_id, before
        self._with_ids = with_ids
        self._names = ["tokens", "token_logprobs", "top_logprobs", "text_offset"] + ["top_ids"] * with_ids
        self._lists = self._empty()

    def _empty(self) -> dict[str, list[Any]]:
        return {name: [] for name in self._names}

    def taken(self) -> dict[str, list[Any]]:
        """The lists of what was added since the last call."""
        found, self._lists = self._lists, self._empty()
        return found

    def add_start(self, token: int) -> None:
        """Add the end symbol from which a text is predicted; it has no log-probability itself."""
        values = {"tokens": "\n", "token_logprobs": None, "top_logprobs": None, "text_offset": 0, "top_ids": None}
        for name, own in self._lists.items():
            own.append(values[name])
        self._before = token

    def add(self, seen: Seen, offsets: Sequence[int]) -> None:
        """Add tokens with their alternatives, and where the text of each begins."""
        if not len(seen):
            return
        ids, logprobs = seen.ids.tolist(), list(map(number, seen.logprobs.tolist()))
        tokens = self._texts.texts(ids, self._before)
        tops = self._tops(seen) if seen.tops and seen.tops[0].size else [()] * len(ids)
        for name, values in (("tokens", tokens), ("token_logprobs", logprobs), ("text_offset", offsets)):
            self._lists[name] += values
        firsts = [before == self._eos_id for before in (self._before, *ids[:-1])]
        for token, text, logprob, first, others in zip(ids, tokens, logprobs, firsts, tops, strict=True):
            named = {self._texts.text(other, first): value for other, value in reversed(others)}
            named.setdefault(text, logprob)  # the token itself may be less probable
            self._lists["top_logprobs"].append(named)
            if self._with_ids:
                by_id = {str(other): value for other, value in others}
                self._lists["top_ids"].append(by_id | {str(token): logprob})
        self._before = ids[-1]

    def _tops(self, seen: Seen) -> list[Any]:
        """Pairs of id and log-probability of the alternatives of each token."""
        assert seen.tops
        values = (list(map(number, own)) for own in seen.tops[1].tolist())
        return [list(zip(*pair, strict=True)) for pair in zip(seen.tops[0].tolist(), values, strict=True)]
