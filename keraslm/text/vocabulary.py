"""Training a tokenizer on a text: words, characters, bytes, BPE or unigram.

Words and characters are numbered by decreasing count, then alphabetically, as in the reader of the PTB tutorial; the
end symbol counts once per line. The vocabulary of bytes is fixed; the `tokenizers` library numbers subwords.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from keraslm.config import TOKENIZERS, DataConfig
from keraslm.errors import TokenizerError
from keraslm.text.encoders import CHARACTERS, byte_names
from keraslm.text.pieces import pieces, split_words
from keraslm.text.tokenizer import EOS, UNK, Tokenizer, end_lines_with

LINE_END = "\n"

# Every punctuation character of Unicode and ASCII; the special words are not split.
MARKS = rf"{UNK}|{EOS}|[\p{{P}}$+<=>^`|~]"


def train_tokenizer(blocks: Iterable[str], config: DataConfig | None = None) -> Tokenizer:
    """Train the tokenizer of a configuration on blocks of text, each of which ends a line."""
    config = config or DataConfig()
    kind = config.tokenizer
    if kind in ("word", "char"):
        counter = TokenCounter(config)
        for block in blocks:
            counter.add(block)
        return tokenizer_of_counts(counter.counts, config)
    backend, end = _skeleton(config), byte_names()[ord(LINE_END)]
    if kind == "byte":
        backend.model = models.BPE({name: number for number, name in enumerate(byte_names())}, [])
    elif kind == "bpe":
        limits: dict[str, Any] = {"vocab_size": config.vocab_size, "min_frequency": config.min_count}
        trainer = trainers.BpeTrainer(**limits, initial_alphabet=byte_names(), show_progress=False)
        backend.train_from_iterator(_lines(blocks), trainer)
    else:
        end = LINE_END
        _train_unigram(backend, blocks, config.vocab_size)
    end_lines_with(backend, end)
    return Tokenizer(backend)


class TokenCounter:
    """Counts the words or characters of a text in `counts`, block by block, and the end symbol once per line."""

    def __init__(self, config: DataConfig):
        self._end = LINE_END if config.tokenizer == "char" else EOS
        self.counts: Counter[str] = Counter({self._end: 0})
        self._config = config
        self._backend = _skeleton(config)

    def add(self, block: str, ends_line: bool = True) -> None:
        """Count a block; with `ends_line`, its last line counts as ended even without LF."""
        unended = ends_line and not block.endswith("\n")
        self.counts[self._end] += unended if self._end == LINE_END else block.count("\n") + unended
        if self._backend.normalizer is not None:
            block = block.lower() if block.isascii() else self._backend.normalizer.normalize_str(block)
        if self._config.tokenizer == "char":
            self.counts.update(block)
        elif self._config.split_punctuation:
            for line in block.split("\n"):
                self.counts.update(word for word, _ in self._backend.pre_tokenizer.pre_tokenize_str(line))
        else:
            self.counts.update(split_words(block))


def tokenizer_of_counts(counts: Counter[str], config: DataConfig) -> Tokenizer:
    """The tokenizer of words or characters with these counts."""
    backend = _skeleton(config)
    end = LINE_END if config.tokenizer == "char" else EOS
    words = sorted((w for w in counts if w not in (end, UNK)), key=lambda w: (-counts[w], w))
    kept = [w for w in words if counts[w] >= config.min_count][: config.vocab_size - 2]
    dropped = sum(counts[w] for w in words) - sum(counts[w] for w in kept)
    order = {w: counts[w] for w in kept} | {end: counts[end], UNK: counts[UNK] + dropped}  # dropped words are <unk>
    vocabulary = {w: i for i, w in enumerate(sorted(order, key=lambda w: (-order[w], w)))}
    backend.model = models.WordLevel(vocabulary, unk_token=UNK)
    end_lines_with(backend, end)
    return Tokenizer(backend)


def check_extensible(config: DataConfig) -> None:
    """Raise `TokenizerError` unless a tokenizer with this configuration can get more words."""
    if config.tokenizer in ("word", "char"):
        return
    if config.tokenizer not in TOKENIZERS:
        reason = "its vocabulary is that of a file"
    elif config.tokenizer == "unigram":
        reason = "more subwords would change how other words are split"
    else:
        reason = "it represents every text already"
    raise TokenizerError(
        f"The tokenizer {config.tokenizer} cannot be extended: {reason}. Leave `extend_vocab` out; only word and char "
        "tokenizers take more words."
    )


def extended(tokenizer: Tokenizer, counts: Counter[str], min_count: int, limit: int) -> Tokenizer:
    """A tokenizer of words or characters with new ones, the most frequent first, at the end of its vocabulary.

    Args:
        tokenizer: its ids do not change.
        counts: occurrences of words or characters in a new text, as a `TokenCounter` counts them.
        min_count: rarer ones stay `<unk>`.
        limit: largest number of new ones.

    Example:
        >>> old = train_tokenizer(["the cat"])
        >>> new = extended(old, Counter({"the": 9, "dog": 2, "a": 2, "owl": 1}), min_count=2, limit=10)
        >>> new.encode_lines(["the dog and a owl"])
        [array([2, 5, 3, 4, 3, 0], dtype=int32)]
    """
    backend = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    known = backend.get_vocab(with_added_tokens=False)
    words = sorted((w for w in counts if w not in known and counts[w] >= min_count), key=lambda w: (-counts[w], w))
    more = {word: number for number, word in enumerate(words[:limit], len(known))}
    backend.model = models.WordLevel(known | more, unk_token=UNK)
    return Tokenizer(backend)


def _skeleton(config: DataConfig) -> tokenizers.Tokenizer:
    """A tokenizer that splits text as configured and has no vocabulary yet."""
    kind = config.tokenizer
    if kind in ("word", "char"):
        backend = tokenizers.Tokenizer(models.WordLevel({UNK: 0}, unk_token=UNK))
    else:
        backend = tokenizers.Tokenizer(models.Unigram() if kind == "unigram" else models.BPE())
    if config.lowercase:
        backend.normalizer = normalizers.Lowercase()
    if kind == "word":
        cuts: list[Any] = [pre_tokenizers.WhitespaceSplit()]
        if config.split_punctuation:
            cuts.append(pre_tokenizers.Split(tokenizers.Regex(MARKS), "isolated"))
        backend.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    elif kind == "char":
        backend.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(CHARACTERS), "isolated")
        backend.decoder = decoders.Fuse()
    elif kind == "unigram":
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        backend.decoder = decoders.Metaspace(prepend_scheme="always")
    else:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "bpe")
        backend.decoder = decoders.ByteLevel()
    return backend


def _train_unigram(backend: tokenizers.Tokenizer, blocks: Iterable[str], vocab_size: int) -> None:
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size - 1, unk_token=UNK, special_tokens=[UNK], show_progress=False
    )
    try:
        backend.train_from_iterator(_lines(blocks), trainer)
    except Exception as error:  # the library has no specific class for it
        raise TokenizerError(
            f"The text cannot train a unigram tokenizer of {vocab_size} tokens ({error}). "
            "Use a different `vocab_size`, or more text."
        ) from error
    # Nine digits: the library does not read every score back as it wrote it, but a tokenizer's digest must not change.
    trained = json.loads(backend.to_str())["model"]["vocab"]
    scored = [(name, float(f"{score:.9g}")) for name, score in trained if name != UNK]
    lowest = min((score for _, score in scored), default=0.0)
    # A new model, because the trained one also looks for a literal <unk> in the text.
    backend.model = models.Unigram([(UNK, 0.0), (LINE_END, lowest), *scored], 0)


def _lines(blocks: Iterable[str]) -> Iterator[str]:
    for block in blocks:
        for line in block.removesuffix("\n").split("\n"):
            yield from pieces(line)
