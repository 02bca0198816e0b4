"""From ids back to text while they arrive: pieces of text, and the text of single tokens."""

from __future__ import annotations

from collections.abc import Sequence

from keraslm.text.encoders import byte_names
from keraslm.text.tokenizer import Tokenizer

INCOMPLETE = "\ufffd"  # how `decode` shows the first bytes of a character


class Detokenizer:
    """Turns tokens into text as they arrive, with LF for an end symbol.

    A character appears when all of its bytes have arrived. Each call decodes only the last tokens, so that a long line
    costs no more per token than a short one.

    Args:
        line: ids of the line so far, whose text is not repeated.

    Example:
        >>> detokenizer = Detokenizer(tokenizer)
        >>> [detokenizer.add(token) for token in tokenizer.encode_lines(["the cat"])[0]]
        ['the', ' cat', '\\n']
    """

    def __init__(self, tokenizer: Tokenizer, line: Sequence[int] = ()):
        self._tokenizer = tokenizer
        self._recent = list(line[-_CONTEXT:])  # tokens that the next one may join
        self._shown = len(self._recent)  # those whose text was returned
        self._first = 0  # where the text that is compared begins

    def add(self, token: int) -> str:
        """The text that a token completes; empty if it is part of a character."""
        if token == self._tokenizer.eos_id:
            rest = self.rest()
            self._recent, self._shown, self._first = [], 0, 0
            return rest + "\n"
        self._recent.append(token)
        text = self._new_text()
        if text.endswith(INCOMPLETE) and len(self._recent) - self._shown < _LONGEST_CHARACTER:
            return ""
        self._accept()
        return text

    def rest(self) -> str:
        """The text of an incomplete character at the end, as U+FFFD."""
        text = self._new_text()
        self._accept()
        return text

    def _new_text(self) -> str:
        before = self._tokenizer.decode(self._recent[self._first : self._shown])
        return self._tokenizer.decode(self._recent[self._first :])[len(before) :]

    def _accept(self) -> None:
        if self._shown < len(self._recent):
            self._first, self._shown = self._shown, len(self._recent)
        if self._first > _CONTEXT:
            self._recent = self._recent[self._first :]
            self._shown, self._first = self._shown - self._first, 0


_CONTEXT = 16  # tokens before the newest ones; more than the bytes of a character
_LONGEST_CHARACTER = 4  # bytes in UTF-8


class TokenTexts:
    """The text of each token of a vocabulary, as it is inside a line and at its beginning.

    Example:
        >>> texts = TokenTexts(tokenizer)
        >>> texts.text(17, first=True), texts.text(17), texts.text(tokenizer.eos_id)
        ('cat', ' cat', '\\n')
    """

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._known: dict[tuple[int, bool], str] = {}
        self._bytes = {name: byte for byte, name in enumerate(byte_names())}
        self._before = next((i for i in range(tokenizer.vocab_size) if self._is_plain(i)), None)

    def text(self, token: int, first: bool = False) -> str:
        """The text of a token, with the white space before it; `bytes:` and escapes for a part of a character."""
        found = self._known.get((token, first))
        if found is None:
            found = self._known[token, first] = self._find(token, first)
        return found

    def texts(self, ids: Sequence[int], before: int) -> list[str]:
        """The text of each token of a text; `before` is the token before the first one."""
        eos_id = self._tokenizer.eos_id
        previous = [before, *ids[:-1]][: len(ids)]
        return [self.text(token, last == eos_id) for token, last in zip(ids, previous, strict=True)]

    def _find(self, token: int, first: bool) -> str:
        decode = self._tokenizer.decode
        if token == self._tokenizer.eos_id:
            return "\n"
        if first or self._before is None:
            text = decode([token])
        else:
            text = decode([self._before, token])[len(decode([self._before])) :]
        if INCOMPLETE not in text:
            return text
        name = self._tokenizer.tokens([token])[0]
        if not all(character in self._bytes for character in name):
            return text
        return "bytes:" + "".join(f"\\x{self._bytes[character]:02x}" for character in name)

    def _is_plain(self, token: int) -> bool:
        """Whether a token is a letter or more, so that a text may go before others in the same line."""
        return (
            token not in (self._tokenizer.eos_id, self._tokenizer.unk_id) and self._tokenizer.decode([token]).isalnum()
        )
