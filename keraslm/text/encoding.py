"""From a text to its tokenizer and ids: in memory if it is small, else through worker processes and the cache."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np

from keraslm.config import TOKENIZERS, DataConfig, StrPath, user_path
from keraslm.system.atomic import atomic_path, remove_abandoned
from keraslm.system.processes import Workers, available_cores
from keraslm.system.progress import meter
from keraslm.text import store
from keraslm.text.corpus import JoinedTexts, Text
from keraslm.text.files import Block, TextFiles
from keraslm.text.held_out import TextPart
from keraslm.text.importing import import_tokenizer
from keraslm.text.pieces import split_words
from keraslm.text.store import EncodedText, Part, TextCounts
from keraslm.text.tokenizer import Tokenizer
from keraslm.text.vocabulary import TokenCounter, check_extensible, extended, tokenizer_of_counts, train_tokenizer

LARGE = 1 << 25  # bytes of a text from which processes and the cache are worth their overhead


class Encoder:
    """Makes tokenizers and ids of texts.

    Args:
        cache: folder. Default: `$KERASLM_CACHE`, or `keraslm` in the user's cache folder.
        show: show progress bars if standard error is a terminal.
        large: size in bytes from which a text is encoded in parallel and kept in the cache.
        workers: processes for a large text. Default: one per core.

    Example:
        >>> encoder = Encoder()
        >>> tokenizer = encoder.tokenizer(text, DataConfig(vocab_size=50000))
        >>> encoder.encode(text, tokenizer).counts.tokens
        929589
    """

    def __init__(
        self, cache: StrPath | None = None, show: bool = False, large: int = LARGE, workers: int | None = None
    ):
        self.cache = user_path(cache) if cache else store.default_cache()
        self._show, self._large, self._workers = show, large, workers
        if workers is None:  # a daemonic process may not start others
            self._workers = 0 if multiprocessing.current_process().daemon else available_cores()

    def tokenizer(self, text: Text, config: DataConfig) -> Tokenizer:
        """The tokenizer that a configuration requests: from its file, or trained on a text."""
        if config.tokenizer not in TOKENIZERS:
            return import_tokenizer(config)
        if not self._is_large(text):
            return self._train(text, config)
        names = ("tokenizer", "vocab_size", "min_count", "lowercase", "split_punctuation", "errors", "encoding")
        name = store.key(text=text.digest(), **{name: getattr(config, name) for name in names})
        kept = self.cache / "tokenizers" / f"{name}.json"
        with store.caching("tokenizer", kept):
            if kept.is_file():
                return Tokenizer.from_json(kept.read_text(encoding="utf-8"), str(kept))
        tokenizer = self._train(text, config)
        with store.caching("tokenizer", kept):
            kept.parent.mkdir(parents=True, exist_ok=True)
            remove_abandoned(kept.parent)
            with atomic_path(kept) as temporary:
                temporary.write_text(tokenizer.to_json(), encoding="utf-8")
        return tokenizer

    def extended(self, tokenizer: Tokenizer, text: Text, config: DataConfig, limit: int) -> Tokenizer:
        """A tokenizer with up to `limit` more words or characters of a text; as `keraslm.text.vocabulary.extended`."""
        check_extensible(config)
        return extended(tokenizer, self._counted(text, config), config.min_count, limit)

    def encode(self, text: Text, tokenizer: Tokenizer) -> EncodedText:
        """A text as one stream of ids, in memory if the cache cannot be used; a TextError if it cannot be read."""
        texts = text.texts if isinstance(text, JoinedTexts) else (text,)
        parts = [self._parts(each, tokenizer) for each in texts]
        if not self._is_large(text):
            return store.in_memory(text.name, parts)
        read = {"errors": text.errors, "encoding": text.encoding}
        folder = self.cache / "ids" / store.key(text=text.digest(), tokenizer=tokenizer.digest, **read)
        with store.caching("ids", folder):
            if not folder.is_dir():
                store.write_encoded(folder, parts, tokenizer.vocab_size)
            return store.open_encoded(folder, text.name)
        return store.in_memory(text.name, [self._parts(each, tokenizer) for each in texts])

    def counts(self, text: Text, tokenizer: Tokenizer) -> TextCounts:
        """The size of a text in every unit, without keeping its ids in memory or in the cache."""
        return sum((counts for _, counts, _ in self._parts(text, tokenizer)), TextCounts())

    def _is_large(self, text: Text) -> bool:
        if isinstance(text, TextFiles | TextPart | JoinedTexts):
            text.spool(self.cache)
        return text.size() >= self._large

    def _train(self, text: Text, config: DataConfig) -> Tokenizer:
        if config.tokenizer in ("word", "char"):
            return tokenizer_of_counts(self._counted(text, config), config)
        with meter("counting", text.size(), self._show) as advance:
            return train_tokenizer((block.decoded(config.errors)[0] for block in text.blocks(advance)), config)

    def _counted(self, text: Text, config: DataConfig) -> Counter[str]:
        counts: Counter[str] = Counter()
        for part in self._each_block("counting", text, partial, _count_block, config):
            counts.update(part)
        return counts

    def _parts(self, text: Text, tokenizer: Tokenizer) -> Iterator[Part]:
        return self._each_block("encoding", text, _EncodeBlock, tokenizer.to_json(), text.errors)

    def _each_block(self, title: str, text: Text, make: Callable[..., Any], *arguments: Any) -> Iterator[Any]:
        workers = self._workers if self._is_large(text) else 0
        with meter(title, text.size(), self._show) as advance:
            blocks: Iterable[Block] = text.blocks(advance)
            if not workers:
                yield from map(make(*arguments), blocks)
                return
            with Workers(workers, make, *arguments) as pool:
                yield from pool.map(blocks)


class _EncodeBlock:
    """Encodes blocks. A class, so that each process reads the tokenizer once."""

    def __init__(self, tokenizer: str, errors: str):
        self._tokenizer, self._errors = Tokenizer.from_json(tokenizer), errors

    def __call__(self, block: Block) -> Part:
        text, replaced = block.decoded(self._errors)
        ids = self._tokenizer.encode_block(text)
        counts = TextCounts(
            lines=text.count("\n"),
            words=len(split_words(text)),
            tokens=len(ids),
            characters=len(text),
            bytes=len(text.encode()) if replaced or b"\r" in block.data else len(block.data),
            oovs=int(np.count_nonzero(ids == self._tokenizer.unk_id)),
        )
        return ids, counts, replaced


def _count_block(config: DataConfig, block: Block) -> Counter[str]:
    counter = TokenCounter(config)
    counter.add(block.decoded(config.errors)[0], ends_line=False)
    return counter.counts
