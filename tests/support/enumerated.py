"""Models whose possible tokens are few, and the probability of every word by enumeration of their sequences."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

import keraslm
from keraslm.config import DataConfig
from keraslm.text.tokenizer import Tokenizer, end_lines_with
from keraslm.text.vocabulary import train_tokenizer
from tests.support import fake_model

TOKENS = 4  # of a word, besides those that write what is given
TEXT = ["the cat sat on the mat", "a cat at the tea, eat!", "η οδός 🙂 🙂", "tat 🙂 hat"] * 5

# Tokens that have a probability; all others have none, so that every sequence can be enumerated.
CHARACTERS = [*"catη🙂 ", "<eos>", "<unk>"]
BYTES = [*"catĠðŁĻĤ", "<eos>"]
PIECES = ["Ġ", "Ġcat", "Ġat", "c", "a", "t", "at", "Î·", "<eos>"]
UNIGRAMS = ["▁", "▁a", "▁t", "c", "a", "t", "at", "η", "<eos>", "<unk>"]
SENTENCEPIECES = ["<unk>", "</s>", "▁", "▁cat", "▁a", "c", "a", "t", "at", "<0xCE>", "<0xB7>", "▁▁", "▁c▁a"]


def sentencepiece(strips: bool) -> Tokenizer:
    """A tokenizer as `keraslm.text.importing` makes it of a sentencepiece model with byte pieces."""
    backend = tokenizers.Tokenizer(models.Unigram([(piece, -1.0) for piece in SENTENCEPIECES], 0, True))
    fuse: list[Any] = [decoders.ByteFallback()]
    if strips:
        steps: list[Any] = [normalizers.Strip(), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        fuse += [decoders.Metaspace(prepend_scheme="always"), decoders.Fuse()]
    else:
        steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        fuse += [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.normalizer, backend.decoder = normalizers.Sequence(steps), decoders.Sequence(fuse)
    end_lines_with(backend, "</s>")
    return Tokenizer(backend)


def trained(**fields: Any) -> Callable[[], Tokenizer]:
    return lambda: train_tokenizer(TEXT, DataConfig(**fields))


KINDS: dict[str, tuple[Callable[[], Tokenizer], list[str]]] = {
    "char": (trained(tokenizer="char"), CHARACTERS),
    "lowercase": (trained(tokenizer="char", lowercase=True), CHARACTERS),
    "byte": (trained(tokenizer="byte"), BYTES),
    "bpe": (trained(tokenizer="bpe", vocab_size=290), PIECES),
    "unigram": (trained(tokenizer="unigram", vocab_size=40), UNIGRAMS),
    "sentencepiece": (lambda: sentencepiece(True), SENTENCEPIECES),
    "blanks": (lambda: sentencepiece(False), SENTENCEPIECES),
}


class Known:
    """A model whose distributions are rows of a table, chosen by the tokens so far, or means of them."""

    def __init__(self, folder, tokenizer: Tokenizer, possible: Sequence[str], seeds: Sequence[int] = (1,)):
        self.tokenizer, self.size = tokenizer, tokenizer.vocab_size
        names = tokenizer.tokens(range(self.size))
        self.possible = [number for number, name in enumerate(names) if name in possible]
        assert len(self.possible) == len(possible), [name for name in possible if name not in names]
        self.bytes = [self._bytes_of(name) for name in names]
        self.tables = [self._table(seed) for seed in seeds]
        info = fake_model.info_of(tokenizer)
        with np.errstate(divide="ignore"):
            paths = [
                fake_model.write(folder / f"{seed}.onnx", np.log(table), info)
                for seed, table in zip(seeds, self.tables, strict=True)
            ]
        self.scorer = keraslm.load(paths, provider="cpu")

    def _table(self, seed: int) -> np.ndarray:
        table = np.zeros((self.size, self.size))
        drawn = np.random.default_rng(seed).dirichlet(np.full(len(self.possible), 0.5), self.size)
        table[:, self.possible] = drawn
        return table

    def after(self, ids: Sequence[int]) -> np.ndarray:
        """Probabilities of the token after an end symbol and `ids`, `(V,)`."""
        state = sum(i + 1 for i in [self.tokenizer.eos_id, *ids]) % self.size
        return np.mean([table[state] for table in self.tables], axis=0)

    def sequences(self, before: list[int], wanted: bytes, lead: int, limit: int = TOKENS) -> Iterator[list[int]]:
        """Every sequence of ordinary tokens that writes `wanted`, and at most `limit` tokens after those that do.

        There is no white space after the first `lead` bytes.
        """
        complete = self.write(before).startswith(wanted)
        for number in self.possible if limit or not complete else ():
            ids = [*before, number]
            text = self.write(ids)
            agrees = text.startswith(wanted) or wanted.startswith(text)
            if agrees and number not in (self.tokenizer.eos_id, self.tokenizer.unk_id) and b" " not in text[lead:]:
                yield ids
                yield from self.sequences(ids, wanted, lead, limit - complete)

    def probability(self, before: list[int], ids: list[int]) -> float:
        return math.prod(float(self.after(ids[:end])[ids[end]]) for end in range(len(before), len(ids)))

    def words(self, before: list[int], lead: str, begun: str) -> dict[str, float]:
        """Probability of each word after the tokens `before`, from the definition."""
        start = len(self.write(before) + lead.encode())
        wanted = self.write(before) + (lead + begun).encode()
        found: dict[str, float] = defaultdict(float)
        for ids in self.sequences(before, wanted, start):
            text = self.write(ids)
            word = text[start:].decode(errors="replace")
            if word and text.startswith(wanted) and "\ufffd" not in word:
                after = self.after(ids)
                ends = sum(after[i] for i in self.possible if i == self.tokenizer.eos_id or self.starts_with_space(i))
                found[word] += self.probability(before, ids) * float(ends)
        return {word: p for word, p in found.items() if p > 0.0}

    def write(self, ids: Sequence[int]) -> bytes:
        """The bytes that tokens write, by the names in the vocabulary."""
        return b"".join(self.bytes[number] for number in ids)

    def _bytes_of(self, name: str) -> bytes:
        if self.tokenizer.space_marks is not None and "Ġ" in self.tokenizer.tokens(range(self.size)):
            pairs = {"Ġ": b" ", "ð": b"\xf0", "Ł": b"\x9f", "Ļ": b"\x99", "Ĥ": b"\x82", "Î": b"\xce", "·": b"\xb7"}
            return b"".join(pairs.get(character, character.encode()) for character in name)
        if name.startswith("<0x"):
            return bytes([int(name[3:5], 16)])
        return name.replace("▁", " ").encode()

    def starts_with_space(self, number: int) -> bool:
        return self.bytes[number].startswith(b" ")
