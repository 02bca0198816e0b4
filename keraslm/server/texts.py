"""From the texts of requests to ids, with the place of each token in the text, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keraslm.server.errors import ApiError
from keraslm.text.decoding import Detokenizer, TokenTexts
from keraslm.text.encoders import Ids
from keraslm.text.pieces import without_surrogates
from keraslm.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Prompt:
    """A text and its ids, `(tokens,)`; `offsets` is where the text of each token begins, `(tokens,)`."""

    text: str
    ids: Ids
    offsets: NDArray[np.int64]


class Texts:
    """Encodes and decodes texts of several lines: an end symbol stands for each line end."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer, self.tokens = tokenizer, TokenTexts(tokenizer)

    def encode(self, text: str) -> Ids:
        """The ids of a text; an unfinished last line has no end symbol."""
        if "\r" in text:  # CR LF ends a line, as in a file, and any other CR is a blank
            text = text.replace("\r\n", "\n").replace("\r", " ")
        return self.tokenizer.encode_block(text)

    def prompt(self, text: str, with_offsets: bool) -> Prompt:
        """A text with its ids, and with the places of its tokens if they are wanted."""
        text = without_surrogates(text)
        ids = self.encode(text)
        if not with_offsets:
            return Prompt(text, ids, np.zeros(0, np.int64))
        offsets = np.concatenate([own for _, own in line_spans(self.tokenizer, text)])[: len(ids)]
        ends = np.append(0, offsets[:-1, 1])[: len(ids)]  # a token begins with the white space before it
        return Prompt(text, ids, np.minimum(ends, offsets[:, 0]))

    def prompt_of_ids(self, ids: Sequence[int], with_text: bool) -> Prompt:
        """A prompt of ids, with the text that they make if it is wanted."""
        found = np.array(self.checked(ids, "prompt"), np.int32)
        if not with_text:
            return Prompt("", found, np.zeros(0, np.int64))
        text, parts = self.decode(ids), self.tokens.texts(ids, self.tokenizer.eos_id)
        if "".join(parts) != text:  # a character of several tokens
            detokenizer = Detokenizer(self.tokenizer)
            parts = [detokenizer.add(token) for token in ids]
            text = "".join(parts) + detokenizer.rest()
        return Prompt(text, found, np.cumsum([0, *map(len, parts)])[:-1])

    def checked(self, ids: Sequence[int], field: str) -> Sequence[int]:
        """The ids; raises `ApiError` 400 for one outside the vocabulary."""
        if (most := max(ids, default=0)) >= self.tokenizer.vocab_size:
            message = f"{field}: token id {most} is outside the vocabulary of 0 to {self.tokenizer.vocab_size - 1}."
            raise ApiError(400, message, field, "invalid_value")
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        lines: list[list[int]] = [[]]
        for token in ids:
            if token == self.tokenizer.eos_id:
                lines.append([])
            else:
                lines[-1].append(token)
        return "\n".join(map(self.tokenizer.decode, lines))

    def last_line(self, ids: Ids) -> list[int]:
        """The tokens after the last end symbol."""
        ends = np.flatnonzero(ids == self.tokenizer.eos_id)
        return [int(token) for token in ids[ends[-1] + 1 if len(ends) else 0 :]]


def line_spans(tokenizer: Tokenizer, text: str) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Each line of a text, with begin and end of its tokens in the text, `(tokens, 2)`.

    The end symbol spans the line end; that of the last line spans nothing. LF or CR LF ends a line, and any other CR is
    a blank, as in a file.
    """
    *complete, last = text.split("\n")
    lines = [(line.removesuffix("\r").replace("\r", " "), len(line) + 1) for line in complete]
    start = 0
    for line, length in [*lines, (last.replace("\r", " "), len(last))]:
        found = tokenizer.offsets(line).astype(np.int64) + start
        found[-1] = start + len(line), start + length
        yield line, found
        start += length
