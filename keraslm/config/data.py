"""The texts and how they become token ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from keraslm.config.fields import check, check_types, option
from keraslm.errors import ConfigError

TOKENIZERS = ("word", "char", "byte", "bpe", "unigram")
DOCUMENTS = ("none", "line", "blank-line")


@dataclass(frozen=True)
class DataConfig:
    """The texts and how they become token ids. Without any path, the corpus embedded in Python is used."""

    train: tuple[str, ...] = option(
        (), "Texts to train on, in this order: files, patterns such as 'shards/*.gz', or - for standard input."
    )
    valid: tuple[str, ...] = option((), "Texts to validate on after each epoch.")
    data: str = option(
        "", "Folder with train, valid and test files in the usual names, instead of --train and --valid."
    )
    errors: Literal["strict", "replace"] = option(
        "strict", "Invalid UTF-8: strict stops with file:line:byte; replace goes on with U+FFFD and counts."
    )
    tokenizer: str = option(
        "word",
        "Kind to train on the training text: word, char, byte, bpe, unigram; or a file whose ids are kept: "
        "tokenizer.json, tokens.txt (a line 'symbol id' each) or a sentencepiece .model.",
    )
    vocab_size: int = option(
        10000, "Largest vocabulary of a trained tokenizer, special tokens included. Source: PTB tutorial."
    )
    min_count: int = option(
        1, "A word or character seen fewer times in the training text becomes <unk>; bpe does not merge rarer pairs."
    )
    lowercase: bool = option(False, "Lowercase the text; not with a tokenizer from a file.")
    split_punctuation: bool = option(
        False, "Make every punctuation character a word of its own; --tokenizer word only."
    )
    eos_token: str = option("", "End symbol of a tokenizer from a file. Default: the first it has of <eos>, </s>, ...")
    unk_token: str = option("", "Unknown symbol of a tokens.txt. Default: the first it has of <unk>, <UNK>, ...")
    documents: Literal["none", "line", "blank-line"] = option(
        "none",
        "What a document is: a line, or what stands between blank lines. The state starts from zeros in each; none "
        "carries it through the whole text.",
    )
    shuffle_documents: bool = option(False, "Read the documents in another order each epoch, given by --seed.")
    cache: str = option(
        "", "Folder for large texts as ids. Default: $KERASLM_CACHE, or keraslm in the user's cache folder."
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "errors", self.errors in ("strict", "replace"), "strict or replace")
        check(self, "vocab_size", self.vocab_size >= 3, "at least 3 (<eos>, <unk> and a word)")
        check(self, "min_count", self.min_count >= 1, "at least 1")
        check(self, "tokenizer", bool(self.tokenizer), "word, char, byte, bpe, unigram or a file")
        if self.tokenizer == "bpe":
            check(self, "vocab_size", self.vocab_size >= 256, "at least 256 for bpe: one token for every byte")
        self._check_combinations()

    def _check_combinations(self) -> None:
        if self.data and (self.train or self.valid):
            raise ConfigError("--data names a folder with all texts; give either --data, or --train and --valid.")
        if self.valid and not self.train:
            raise ConfigError(f"--valid {self.valid[0]} was given without --train; give both, or --data DIR.")
        check(self, "documents", self.documents in DOCUMENTS, "none, line or blank-line")
        if self.shuffle_documents and self.documents == "none":
            raise ConfigError("--shuffle-documents needs to know what a document is: add --documents line|blank-line.")
        if self.split_punctuation and self.tokenizer != "word":
            raise ConfigError(f"--split-punctuation makes words; it has no meaning for --tokenizer {self.tokenizer}.")
        if self.tokenizer not in TOKENIZERS:
            if self.lowercase or self.min_count > 1:
                flag = "--lowercase" if self.lowercase else "--min-count"
                raise ConfigError(f"{flag} belongs to training a tokenizer; {self.tokenizer} brings one of its own.")
        elif self.eos_token or self.unk_token:
            raise ConfigError("--eos-token and --unk-token name symbols of a tokenizer from a file.")
