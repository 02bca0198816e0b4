"""Parallel texts: files -> pairs of lines -> ids -> batches of sentences of similar length."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.translation.config import ParallelData, TranslationConfig
from examples.translation.search import padded
from keraslm.config import DataConfig
from keraslm.config.fields import user_path
from keraslm.errors import TextError, TokenizerError, UsageError
from keraslm.system import Log
from keraslm.text.files import TextFile
from keraslm.text.store import fingerprint
from keraslm.text.tokenizer import Tokenizer
from keraslm.text.vocabulary import train_tokenizer

Lines = list[str]
Sentences = list[NDArray[np.int32]]
SUFFIXES = ("", ".gz", ".bz2", ".xz", ".zst")


def read_pairs(config: ParallelData, prefix: str | Path) -> tuple[Lines, Lines]:
    """The lines of the source and of the target text of a prefix.

    Raises:
        TextError: a file is missing or is not UTF-8, a line is empty, or the files have different numbers of lines.
    """
    files = [TextFile(find_text(prefix, suffix)) for suffix in (config.source, config.target)]
    texts = [list(file) for file in files]
    for file, lines in zip(files, texts, strict=True):
        for number, line in enumerate(lines, 1):
            if not line.strip():
                raise TextError(f"{file.name}:{number}: the line is empty, but each line must hold a sentence.")
        if not lines:
            raise TextError(f"{file.name}: the text is empty; each line must hold a sentence.")
    if len(texts[0]) != len(texts[1]):
        short, long = sorted(range(2), key=lambda number: len(texts[number]))
        raise TextError(
            f"{files[long].name}:{len(texts[short]) + 1}: has no translation; {files[short].name} has only "
            f"{len(texts[short]):,} lines, but line n of one file must translate line n of the other."
        )
    return texts[0], texts[1]


def find_text(prefix: str | Path, suffix: str) -> Path:
    """The file `prefix.suffix`, which may be compressed."""
    found = [path for end in SUFFIXES if (path := user_path(f"{prefix}.{suffix}{end}")).is_file()]
    if len(found) != 1:
        problem = "several such files" if found else "no such file"
        raise TextError(f"{prefix}.{suffix}: {problem}, plain or compressed. Texts are named <prefix>.<language>.")
    return found[0]


@dataclass(frozen=True)
class Vocabularies:
    """The tokenizers of both languages, which are the same for joint subwords."""

    source: Tokenizer
    target: Tokenizer

    @classmethod
    def train(cls, source: Lines, target: Lines, config: ParallelData) -> Vocabularies:
        kind, size, count = config.vocabulary, config.vocab_size, config.min_count
        options = DataConfig(tokenizer=kind, vocab_size=size, min_count=count, lowercase=config.lowercase)
        if kind == "bpe":
            joint = train_tokenizer([*source, *target], options)
            return cls(joint, joint)
        return cls(train_tokenizer(source, options), train_tokenizer(target, options))

    @property
    def vocab_size(self) -> int:
        """Number of target tokens."""
        return self.target.vocab_size

    def to_json(self) -> str:
        return json.dumps({"source": self.source.to_json(), "target": self.target.to_json()}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, where: str = "tokenizer") -> Vocabularies:
        try:
            parts = [json.loads(text)[name] for name in ("source", "target")]
        except (ValueError, KeyError, TypeError) as error:
            raise TokenizerError(f"{where}: not a pair of tokenizers, source and target ({error}).") from error
        return cls(*(Tokenizer.from_json(part, where) for part in parts))

    def encode_source(self, lines: Iterable[str], reverse: bool) -> Sentences:
        """The ids of each line and the end symbol; `reverse` reverses the ids before the end symbol."""
        found = self.source.encode_lines(list(lines))
        return [np.append(ids[-2::-1], ids[-1:]) for ids in found] if reverse else found

    def encode_pairs(self, source: Lines, target: Lines, reverse: bool) -> tuple[Sentences, Sentences]:
        return self.encode_source(source, reverse), self.target.encode_lines(target)


class PairBatches:
    """Batches of pairs, in a new order in each epoch: the `Batches` of `keraslm.training.dataset`.

    Pairs of an epoch are shuffled, sorted by the bucket of the longer sentence and cut into batches. Both sentences of
    a batch are padded to the width of the bucket, so that few shapes have to be compiled. Padding has weight 0; the
    batches that hold fewer than `batch_size` pairs are filled with empty sentences of weight 0.

    Args:
        source, target: ids of each sentence, with the end symbol.
        width: of the buckets.
        shuffle_seed: None keeps the order of the pairs within a bucket, and the shortest first.
    """

    varies = True

    def __init__(
        self,
        source: Sentences,
        target: Sentences,
        batch_size: int,
        width: int,
        shuffle_seed: int | None = None,
    ):
        self.source, self.target, self.batch_size = source, target, batch_size
        self._seed = shuffle_seed
        longest = np.array([max(len(a), len(b)) for a, b in zip(source, target, strict=True)])
        self._widths = -(-longest // width) * width  # of the bucket of each pair
        self.predicted = sum(map(len, target))
        self.set_epoch(0)

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The width of each batch."""
        return np.array([self._widths[batch[-1]] for batch in self._batches])

    def set_epoch(self, epoch: int) -> None:
        """Use the order of an epoch, counted from 0."""
        pairs = np.arange(len(self.source))
        generator = np.random.default_rng([self._seed or 0, zlib.crc32(b"pairs"), epoch])
        if self._seed is not None:
            pairs = generator.permutation(pairs)
        pairs = pairs[np.argsort(self._widths[pairs], kind="stable")]
        self._batches = [pairs[start : start + self.batch_size] for start in range(0, len(pairs), self.batch_size)]
        if self._seed is not None:
            self._batches = [self._batches[number] for number in generator.permutation(len(self._batches))]

    def example(self, number: int) -> tuple[Any, Any, Any]:
        """The inputs of `Network.training`, its targets, and the weight of each target: 1 / batch_size."""
        batch = self._batches[number]
        rows, width = self.batch_size, int(self._widths[batch[-1]])
        source, lengths = padded([self.source[pair] for pair in batch], rows, width)
        targets, known = padded([self.target[pair] for pair in batch], rows, width)
        weights = (np.arange(width) < known[:, None]).astype(np.float32) / np.float32(rows)
        return (source, np.maximum(lengths, 1), targets, weights), targets, weights


@dataclass(frozen=True)
class ParallelCorpus:
    """The encoded texts of a training, and their batches; `lines` are the two validation texts."""

    tokenizer: Vocabularies
    train: PairBatches
    valid: PairBatches
    lines: tuple[Lines, Lines]
    valid_counts = None

    @property
    def fingerprints(self) -> dict[str, Any]:
        parts = {"train": self.train, "valid": self.valid}
        return {name: fingerprint(np.concatenate([*part.source, *part.target])) for name, part in parts.items()}


def read_corpus(config: TranslationConfig, log: Log, tokenizer: Vocabularies | None = None) -> ParallelCorpus:
    """Read and encode the texts of a configuration; `tokenizer` is that of a resumed run."""
    data, batch_size = config.data, config.train.batch_size
    if not (data.train and data.valid):
        raise UsageError("A translation system needs the prefixes of training and validation texts: `train`, `valid`.")
    lines, valid = read_pairs(data, data.train), read_pairs(data, data.valid)
    tokenizer = tokenizer or Vocabularies.train(*lines, data)
    sizes = f"{tokenizer.source.vocab_size:,} of the source ({data.source})", tokenizer.target.vocab_size
    log(f"tokens    {sizes[0]}, {sizes[1]:,} of the target ({data.target})")
    pairs = list(zip(*tokenizer.encode_pairs(*lines, data.reverse_source), strict=True))
    kept = [pair for pair in pairs if max(map(len, pair)) <= data.max_length + 1]
    if not kept:
        raise TextError(f"{data.train}: no pair has at most {data.max_length} tokens per sentence (`max_length`).")
    source, target = map(list, zip(*kept, strict=True))
    train = PairBatches(source, target, batch_size, data.bucket_width, config.train.seed)
    checked = PairBatches(*tokenizer.encode_pairs(*valid, data.reverse_source), batch_size, data.bucket_width)
    too_long = len(pairs) - len(kept)
    log(f"train     {len(pairs):,} pairs, {too_long:,} of them too long; {train.predicted:,} target tokens")
    log(f"valid     {len(valid[0]):,} pairs; {checked.predicted:,} target tokens")
    return ParallelCorpus(tokenizer, train, checked, valid)
