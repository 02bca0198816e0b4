"""Word tokenizers in one call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from keraslm.config import DataConfig
from keraslm.text.tokenizer import Tokenizer
from keraslm.text.vocabulary import train_tokenizer


def train_words(lines: Iterable[str], **fields: Any) -> Tokenizer:
    return train_tokenizer(lines, DataConfig(**fields))


def encode_text(tokenizer, lines):
    """Ids of a text as one stream, int32 `(tokens,)`, the end symbol after each line."""
    return tokenizer.encode_block("".join(f"{line}\n" for line in lines))
