"""Blocks of text to ids, many times faster than line by line for simple tokenizers.

A block is a string of lines, each ended by LF; only its last line may continue in the next block. Words are looked up
in a dictionary, characters and bytes in a NumPy table; other tokenizers use the `tokenizers` library. The ids are
always those of the library, with the end symbol after each line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from keraslm.errors import TokenizerError
from keraslm.text.pieces import PIECE, pieces, split_words

Ids = NDArray[np.int32]
BlockEncoder = Callable[[str], Ids]

CHARACTERS = r"[\s\S]"  # the pattern that makes every character a token
_CODE_POINTS = 0x110000


def block_encoder(backend: tokenizers.Tokenizer, eos_id: int, unk_id: int) -> BlockEncoder:
    """The fastest function from a block of text to a tokenizer's ids, int32 `(tokens,)`."""
    kind = kind_of(backend)
    if kind == "word":
        encoder = _words(backend, eos_id, unk_id)
    elif kind == "char":
        encoder = _characters(backend.get_vocab(), eos_id, unk_id)
    elif kind == "byte":
        encoder = _bytes(backend, eos_id)
    else:
        return _lines(backend, eos_id)
    if backend.normalizer is None:
        return encoder
    # The rule is that of the library, character by character (docs/reference/onnx-file.md).
    # Python's `lower` makes final sigmas.
    return lambda text: encoder(text.lower() if text.isascii() else backend.normalizer.normalize_str(text))


def kind_of(backend: tokenizers.Tokenizer) -> str:
    """`"word"`, `"char"` or `"byte"` for a tokenizer as keraslm trains them; for others the class of its model."""
    cutter: Any = backend.pre_tokenizer
    parts = cutter if type(cutter).__name__ == "Sequence" else filter(None, [cutter])
    cuts = [_state(part) for part in parts]
    lowercases = backend.normalizer is not None and _state(backend.normalizer) == {"type": "Lowercase"}
    model = type(backend.model).__name__
    if backend.get_added_tokens_decoder() or not (backend.normalizer is None or lowercases):
        return model
    if model == "WordLevel" and cuts == [{"type": "WhitespaceSplit"}]:
        return "word"
    isolated = {"type": "Split", "pattern": {"Regex": CHARACTERS}, "behavior": "Isolated", "invert": False}
    if model == "WordLevel" and cuts == [isolated]:
        return "char"
    if model == "BPE" and len(cuts) == 1 and cuts[0]["type"] == "ByteLevel":
        state = _state(backend.model)
        marked = state["merges"] or state["continuing_subword_prefix"] or state["end_of_word_suffix"]
        changed = cuts[0]["use_regex"] or cuts[0]["add_prefix_space"]
        return model if marked or changed or state["vocab"].keys() != set(byte_names()) else "byte"
    return model


@contextmanager
def at_work() -> Iterator[None]:
    """Turn an error of the `tokenizers` library while it splits a text into a `TokenizerError`."""
    try:
        yield
    except BaseException as error:  # plain exceptions, and PanicException, which is not an Exception
        if type(error) is Exception or type(error).__name__ == "PanicException":
            raise TokenizerError(
                f"The tokenizer cannot work on this text ({error}). It is damaged, or lacks a token that it names."
            ) from error
        raise


def _words(backend: tokenizers.Tokenizer, eos_id: int, unk_id: int) -> BlockEncoder:
    vocabulary, by_lines = backend.get_vocab(), _lines(backend, eos_id)
    # A word of the text may have the name of the end symbol; both are the same token.
    mark = f" {backend.id_to_token(eos_id)} "

    def encode(text: str) -> Ids:
        words = split_words(text.replace("\n", mark))
        if max(map(len, words), default=0) > PIECE // 16:  # may be cut
            return by_lines(text)
        return np.fromiter(map(vocabulary.get, words, repeat(unk_id)), np.int32, len(words))

    return encode


def _characters(vocabulary: dict[str, int], eos_id: int, unk_id: int) -> BlockEncoder:
    table = np.full(_CODE_POINTS, unk_id, np.int32)
    for symbol, number in vocabulary.items():
        if len(symbol) == 1:
            table[ord(symbol)] = number
    table[ord("\n")] = eos_id
    return lambda text: table[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)]


def _bytes(backend: tokenizers.Tokenizer, eos_id: int) -> BlockEncoder:
    table = np.array([backend.token_to_id(name) for name in byte_names()], np.int32)
    table[ord("\n")] = eos_id
    return lambda text: table[np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)]


def _lines(backend: tokenizers.Tokenizer, eos_id: int) -> BlockEncoder:
    def encode(text: str) -> Ids:
        parts = [list(pieces(line)) for line in text.split("\n")]
        with at_work():
            found = iter(backend.encode_batch_fast([*chain.from_iterable(parts)], add_special_tokens=False))
        ids: list[int] = []
        for line in parts:
            for _ in line:
                ids += next(found).ids
            ids.append(eos_id)
        return np.array(ids[:-1], np.int32)  # nothing ends the last one

    return encode


def byte_names() -> list[str]:
    """The character that represents each byte in a byte-level vocabulary, as defined by GPT-2."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def _state(part: Any) -> dict[str, Any]:
    return dict(json.loads(part.__getstate__()))
