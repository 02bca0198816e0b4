"""The texts of a run and how they become token ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from keraslm.config.fields import check, check_at_least, check_encoding, check_types, option
from keraslm.errors import ConfigError

TOKENIZERS = ("word", "char", "byte", "bpe", "unigram")
CONTEXTS = ("sentence", "paragraph", "document")
SMALLEST_WEIGHT, LARGEST_WEIGHT = 0.001, 1000  # of a training text


@dataclass(frozen=True)
class DataConfig:
    """The texts and their tokenizer. Without any text, a run trains on the corpus that Python contains.

    Example:
        >>> DataConfig(train="train.txt").train
        ('train.txt',)
    """

    train: tuple[str, ...] | None = option(
        None, "Training texts, in this order: files, folders, patterns such as 'shards/*.gz', or - for standard input."
    )
    valid: tuple[str, ...] | None = option(None, "Validation texts, evaluated after each epoch.")
    data: str | None = option(
        None, "Folder with train, valid and test files under their usual names, instead of `train` and `valid`."
    )
    valid_share: float | None = option(
        None,
        "Share of the training texts that is held out as validation text, such as 0.05: lines or paragraphs, by "
        "`context`; for documents whole files if there are enough, else the last lines. 0: none.",
        zero_is_none=True,
    )
    train_weights: tuple[float, ...] | None = option(
        None,
        "How often an epoch reads each of the training texts, e.g. 2,0.5: the first one twice, half of the second one, "
        "and in the next epoch the other half. Default: once.",
    )
    errors: Literal["strict", "replace"] = option(
        "strict", "Invalid bytes: strict stops with file:line:byte; replace reads U+FFFD and counts the lines."
    )
    encoding: str = option(
        "utf-8", "Encoding of the texts: utf-8, latin-1, cp1252, gb18030, utf-16 or another one that Python knows."
    )
    tokenizer: str = option(
        "word",
        "Kind of tokenizer to train on the training text: word, char, byte, bpe or unigram; or a file whose ids are "
        "kept: tokenizer.json, tokens.txt (lines 'symbol id') or a sentencepiece .model.",
    )
    vocab_size: int = option(
        10000, "Largest vocabulary of a trained tokenizer, including special tokens. Source: PTB tutorial."
    )
    min_count: int = option(
        1, "Words or characters that are rarer in the training text become <unk>; bpe does not merge rarer pairs."
    )
    max_unknown: float = option(
        0.9, "Largest share of <unk> in the texts, from 0 to 1; more stops the training before it starts."
    )
    lowercase: bool = option(False, "Lowercase each character of the text; not for a tokenizer from a file.")
    split_punctuation: bool = option(False, "Make each punctuation character a word; word tokenizer only.")
    eos_token: str | None = option(
        None, "End symbol of a tokenizer from a file. Default: the first of <eos>, </s>, ... in its vocabulary."
    )
    unk_token: str | None = option(
        None, "Unknown symbol of a tokens.txt. Default: the first of <unk>, <UNK>, ... in its vocabulary."
    )
    context: Literal["sentence", "paragraph", "document"] = option(
        "document",
        "How far the state is carried: through each sentence (line), through each paragraph (up to a blank line), or "
        "through the whole document.",
    )
    shuffle: bool = option(False, "Shuffle the sentences or paragraphs before each epoch.")
    cache: str | None = option(
        None, "Folder for the ids of large texts. Default: $KERASLM_CACHE, or keraslm in the user's cache folder."
    )

    def __post_init__(self) -> None:
        check_types(self)
        check_encoding(self.encoding)
        check_at_least(self, 1, "min_count")
        share, weights = self.valid_share, self.train_weights
        check(self, "valid_share", share is None or 0.0 < share < 1.0, "a share above 0 and below 1, such as 0.05")
        possible = all(SMALLEST_WEIGHT <= weight <= LARGEST_WEIGHT for weight in weights or (1,))
        check(self, "train_weights", possible and weights != (), "numbers from 0.001 to 1000, e.g. (2, 0.5)")
        check(self, "max_unknown", 0.0 <= self.max_unknown <= 1.0, "a share from 0 to 1")
        check(self, "vocab_size", self.vocab_size >= 3, "at least 3 (<eos>, <unk> and a word)")
        if self.tokenizer == "bpe":
            check(self, "vocab_size", self.vocab_size >= 256, "at least 256 for bpe: one token for every byte")
        self._check_combinations()

    def _check_combinations(self) -> None:
        self._check_shares()
        if self.data and (self.train or self.valid):
            raise ConfigError("`data` names a folder with all texts; give either `data`, or `train` and `valid`.")
        if self.valid and not self.train:
            raise ConfigError(f"`valid` is {self.valid[0]}, but `train` is missing; give both, or `data`.")
        if self.shuffle and self.context == "document":
            raise ConfigError('`shuffle` needs sentences or paragraphs: `context="sentence"` or `context="paragraph"`.')
        if self.split_punctuation and self.tokenizer != "word":
            raise ConfigError(f"`split_punctuation` needs the word tokenizer, but `tokenizer` is {self.tokenizer}.")
        if self.tokenizer not in TOKENIZERS:
            if self.lowercase or self.min_count > 1:
                name = "lowercase" if self.lowercase else "min_count"
                raise ConfigError(f"`{name}` is for training a tokenizer, but {self.tokenizer} is a trained one.")
        elif self.eos_token or self.unk_token:
            raise ConfigError("`eos_token` and `unk_token` name symbols of a tokenizer from a file.")

    def _check_shares(self) -> None:
        if self.valid_share and self.valid:
            raise ConfigError("`valid_share` holds out a part of the training texts; give either it or `valid`.")
        if self.valid_share and not (self.train or self.data):
            raise ConfigError("`valid_share` needs a training text: give `train`.")
        weights, texts = self.train_weights, self.train
        if weights and not texts:
            raise ConfigError("`train_weights` needs training texts: give one number for each text of `train`.")
        if weights and texts and len(weights) != len(texts):
            raise ConfigError(
                f"`train_weights` must hold one number per text of `train`, but it holds {len(weights)} for "
                f"{len(texts)} texts. A folder is one text, and so is a pattern in quotes."
            )
