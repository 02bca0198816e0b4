"""What each token writes into a text, as bytes, and an index of it: the basis of searching for words.

The surface of a token is the UTF-8 of what it adds to the line, before the decoder drops a blank at the start. Bytes
serve every kind of vocabulary: a token may be a part of a character.

    word       company -> company       char       c -> c
    byte, bpe  Ġcomp -> " comp"         metaspace  ▁comp -> " comp",  <0xE2> -> one byte
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from keraslm.errors import TokenizerError
from keraslm.text.encoders import at_work, byte_names
from keraslm.text.pieces import without_surrogates, word_spans

_BYTE_PIECE = re.compile("<0x([0-9A-F]{2})>")
_PROBE = "a"  # a character that no normaliser changes


class Surfaces:
    """The surfaces of a vocabulary. Made once per tokenizer: `Tokenizer.surfaces`.

    The end symbol, `<unk>` and special tokens have no surface, and no search returns them.

    Attributes:
        whole_words: whether each token is a word of its own.
        of: the surface of each id; empty if it has none.
        ends: tokens before which a word is complete: white space, or the end symbol; bool `(V,)`.
        last_space: number of bytes up to the end of the last white space of each surface; int64 `(V,)`.
        inside: ids of surfaces without white space, by surface; int64.
        longest: largest number of bytes of a surface.

    Raises:
        TokenizerError: the tokenizer marks the parts of words in a way that is not known here, as WordPiece does.

    Example:
        >>> surfaces = tokenizer.surfaces
        >>> tokenizer.tokens(surfaces.starting_with(b" comp"))
        ['Ġcomp', 'Ġcompan', 'Ġcompany']
    """

    def __init__(self, backend: tokenizers.Tokenizer, eos_id: int, unk_id: int):
        self._backend = backend
        self._steps = _steps(backend.decoder)
        self.whole_words = backend.decoder is None
        special = {number for number, token in backend.get_added_tokens_decoder().items() if token.special}
        special |= {eos_id, unk_id}
        names = [str(backend.id_to_token(number)) for number in range(backend.get_vocab_size())]
        self.of = [b"" if number in special else self._written(name, True) for number, name in enumerate(names)]
        self.ends = np.array([_begins_with_space(surface) for surface in self.of], np.bool_)
        self.ends[eos_id] = True
        self.last_space = np.array([_last_space(surface) for surface in self.of], np.int64)
        order = sorted((number for number, surface in enumerate(self.of) if surface), key=lambda i: (self.of[i], i))
        self._ids = np.array(order, np.int64)
        self._sorted = [self.of[number] for number in order]
        self.longest = max(map(len, self._sorted), default=0)
        self.inside = self._ids[self.last_space[self._ids] == 0]

    def starting_with(self, prefix: bytes) -> NDArray[np.int64]:
        """Ids of the surfaces that start with a prefix, ordered by surface."""
        bound = prefix.rstrip(b"\xff")
        first = bisect_left(self._sorted, prefix)
        last = bisect_left(self._sorted, bound[:-1] + bytes([bound[-1] + 1])) if bound else len(self._sorted)
        return self._ids[first:last]

    def compatible(self, text: bytes) -> NDArray[np.int64]:
        """Ids of the surfaces that start with `text`, or that `text` starts with."""
        found = [self.starting_with(text)]
        found += [self.equal_to(text[:end]) for end in range(1, min(len(text), self.longest + 1))]
        return np.concatenate(found)

    def equal_to(self, text: bytes) -> NDArray[np.int64]:
        """Ids of the surfaces that are `text`."""
        return self._ids[bisect_left(self._sorted, text) : bisect_right(self._sorted, text)]

    def read(self, begun: str, lead: str, line_start: bool) -> tuple[bytes, bytes]:
        """White space and the part of a word after it, as the tokenizer reads them there, normalised.

        Args:
            begun: the part of a word; may be empty.
            lead: white space before it.
            line_start: whether nothing else is before it in the line; a tokenizer may put a blank there.

        Returns:
            The surface of the white space, and that of the part of the word.
        """
        if self.whole_words:
            return b"", self._read(begun)
        before = "" if line_start else _PROBE
        known = self._read(before)
        space = self._read(before + lead + _PROBE)[len(known) : -len(_PROBE)]
        both = self._read(before + lead + begun)[len(known) :] if begun else space
        return space, both[len(space) :]

    def _read(self, text: str) -> bytes:
        backend, text = self._backend, without_surrogates(text)
        with at_work():
            if backend.normalizer is not None:
                text = backend.normalizer.normalize_str(text)
            if backend.pre_tokenizer is not None:
                text = "".join(part for part, _ in backend.pre_tokenizer.pre_tokenize_str(text))
        return self._written(text, False)

    def _written(self, name: str, is_token: bool) -> bytes:
        """The bytes of a name in the vocabulary, or of a text that is written with the vocabulary's characters."""
        for step in self._steps:
            if step["type"] == "ByteLevel" and all(character in _BYTES for character in name):
                return bytes(_BYTES[character] for character in name)
            if step["type"] == "ByteFallback" and is_token and (found := _BYTE_PIECE.fullmatch(name)):
                return bytes.fromhex(found[1])
            if step["type"] == "Metaspace":
                name = name.replace(step["replacement"], " ")
            elif step["type"] == "Replace":
                name = name.replace(step["pattern"]["String"], step["content"])
        return name.encode("utf-8", "surrogatepass")


_BYTES = {name: byte for byte, name in enumerate(byte_names())}
_KNOWN = ("ByteLevel", "ByteFallback", "Metaspace", "Replace", "Fuse", "Strip")


def _steps(decoder: Any) -> list[dict[str, Any]]:
    steps = [] if decoder is None else list(_flat(json.loads(decoder.__getstate__())))
    for step in steps:
        if step["type"] not in _KNOWN or (step["type"] == "Replace" and "String" not in step["pattern"]):
            raise TokenizerError(
                f"The tokenizer joins tokens with a decoder {step['type']}, in which the beginnings of words cannot be "
                f"told here. Those of {', '.join(_KNOWN)} can."
            )
    return steps


def _flat(state: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if state["type"] != "Sequence":
        yield state
        return
    for part in state["decoders"]:
        yield from _flat(part)


def _begins_with_space(surface: bytes) -> bool:
    spans = word_spans(surface.decode("utf-8", "surrogateescape"))
    return bool(surface) and (not spans or spans[0][0] > 0)


def _last_space(surface: bytes) -> int:
    text = surface.decode("utf-8", "surrogateescape")
    spans = word_spans(text)
    last = spans[-1][0] if spans and spans[-1][1] == len(text) else len(text)
    return len(text[:last].encode("utf-8", "surrogateescape"))
