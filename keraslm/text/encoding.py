"""From a text to its tokenizer and ids: in memory when it is small, else through several processes and the cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from keraslm.config import TOKENIZERS, DataConfig, StrPath
from keraslm.system.atomic import atomic_path
from keraslm.text.corpus import Text
from keraslm.text.counts import TextCounts
from keraslm.text.files import TextFiles
from keraslm.text.importing import import_tokenizer
from keraslm.text.jobs import decoded
from keraslm.text.meter import meter
from keraslm.text.store import EncodedText, Part, default_cache, in_memory, keeping, key, open_encoded, write_encoded
from keraslm.text.tokenizer import Tokenizer
from keraslm.text.vocabulary import tokenizer_of_counts, train_tokenizer
from keraslm.text.workers import available_cores, run_blocks

LARGE = 1 << 25  # bytes of a file from which processes and the cache are worth their start


class Encoder:
    """Makes tokenizers and ids of texts.

    Args:
        cache: folder; empty takes `$KERASLM_CACHE`, or `keraslm` in the user's cache folder.
        show: progress bars, where standard error is a terminal.
        large: bytes from which a text is encoded in parallel and kept in the cache.
        workers: processes for a large text; None takes one a core.

    Example:
        >>> encoder = Encoder()
        >>> tokenizer = encoder.tokenizer(text, DataConfig(vocab_size=50000))
        >>> encoder.encode(text, tokenizer).counts.tokens
        929589
    """

    def __init__(
        self, cache: StrPath | None = None, show: bool = False, large: int = LARGE, workers: int | None = None
    ):
        self.cache = Path(cache) if cache else default_cache()
        self._show, self._large = show, large
        self._workers = available_cores() if workers is None else workers

    def tokenizer(self, text: Text, config: DataConfig) -> Tokenizer:
        """The tokenizer that a configuration asks for: from its file, or trained on a text."""
        if config.tokenizer not in TOKENIZERS:
            return import_tokenizer(config)
        self._spool(text)
        if text.size() < self._large:
            return self._train(text, config, workers=0)
        names = ("tokenizer", "vocab_size", "min_count", "lowercase", "split_punctuation", "errors")
        name = key(text=text.digest(), **{name: getattr(config, name) for name in names})
        kept = self.cache / "tokenizers" / f"{name}.json"
        if kept.is_file():
            return Tokenizer.from_json(kept.read_text(encoding="utf-8"), str(kept))
        tokenizer = self._train(text, config, self._workers)
        with keeping("tokenizer", kept.parent):
            kept.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(kept) as temporary:
                temporary.write_text(tokenizer.to_json(), encoding="utf-8")
        return tokenizer

    def encode(self, text: Text, tokenizer: Tokenizer) -> EncodedText:
        """A text as one stream of ids.

        Raises:
            TextError: the text cannot be read, or the cache cannot be written.
        """
        self._spool(text)
        if text.size() < self._large:
            return in_memory(text.name, self._parts(text, tokenizer, workers=0))
        folder = self.cache / "ids" / key(text=text.digest(), tokenizer=tokenizer.digest, errors=text.errors)
        if not folder.is_dir():
            write_encoded(folder, self._parts(text, tokenizer, self._workers), tokenizer.vocab_size)
        return open_encoded(folder, text.name)

    def counts(self, text: Text, tokenizer: Tokenizer) -> TextCounts:
        """The size of a text in every unit; nothing is kept, in memory or in the cache."""
        self._spool(text)
        total = TextCounts()
        for _, size, _ in self._parts(text, tokenizer, workers=0 if text.size() < self._large else self._workers):
            total = total + size
        return total

    def _spool(self, text: Text) -> None:
        if isinstance(text, TextFiles):
            text.spool(self.cache)

    def _train(self, text: Text, config: DataConfig, workers: int) -> Tokenizer:
        with meter("counting", text.size(), self._show) as advance:
            blocks = text.blocks(advance)
            if config.tokenizer in ("word", "char"):
                counts: Counter[str] = Counter()
                for answer in run_blocks("count", (config,), blocks, workers):
                    counts.update(answer or {})
                return tokenizer_of_counts(counts, config)
            return train_tokenizer((decoded(block.data, config.errors)[0] for block in blocks), config)

    def _parts(self, text: Text, tokenizer: Tokenizer, workers: int) -> Iterator[Part]:
        with meter("encoding", text.size(), self._show) as advance:
            arguments = (tokenizer.to_json(), text.errors)
            for answer in run_blocks("encode", arguments, text.blocks(advance), workers):
                if answer is not None:
                    yield answer
