"""Read the texts of a training run: tokenizer, windows and sizes, with a line of progress for each."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from keraslm.config import TOKENIZERS, Config
from keraslm.config.clusters import choose_cutoffs, describe_clusters
from keraslm.errors import ConfigError
from keraslm.system import Log
from keraslm.text.corpus import Text, Texts
from keraslm.text.encoding import Encoder
from keraslm.text.files import TextFiles
from keraslm.text.store import EncodedText, TextCounts, fingerprint, token_counts
from keraslm.text.stream import Windows
from keraslm.text.tokenizer import Tokenizer
from keraslm.text.weights import WeightedTexts, fraction_of
from keraslm.training.schedule import check_validated
from keraslm.training.unknown import check_known


@dataclass(frozen=True)
class TrainingCorpus:
    """The encoded texts of a training run, and their windows."""

    tokenizer: Tokenizer = field(repr=False)
    text: EncodedText = field(repr=False)
    train: Windows
    valid_text: EncodedText | None = field(default=None, repr=False)
    valid: Windows | None = None
    also_valid_text: EncodedText | None = field(default=None, repr=False)
    also_valid: Windows | None = None
    weights: tuple[float, ...] | None = None

    @property
    def words(self) -> int:
        """Words of the training text that an epoch reads, on average over the epochs."""
        sizes = self.text.texts or (self.text.counts,)
        weights = self.weights or (1.0,) * len(sizes)
        return int(sum(size.words * fraction_of(weight) for size, weight in zip(sizes, weights, strict=True)))

    @property
    def valid_counts(self) -> TextCounts | None:
        """Sizes of the validation text."""
        return self.valid_text.counts if self.valid_text else None

    @cached_property
    def fingerprints(self) -> dict[str, Any]:
        texts = {"train": self.text, "valid": self.valid_text, "also_valid": self.also_valid_text}
        return {name: fingerprint(text.ids, text.texts) for name, text in texts.items() if text is not None}


def read_corpus(
    config: Config,
    texts: Texts,
    log: Log,
    show: bool,
    tokenizer: Tokenizer | None = None,
    origin: str = "from the run",
) -> TrainingCorpus:
    """Encode the training text and the validation text of a configuration, and cut them into windows.

    With `show`, large texts have a progress bar. `tokenizer` is that of a run, if any; `origin` describes it.
    """
    data = config.data
    encoder = Encoder(data.cache, show)
    train, valid = texts
    for title, text in (("train", train), ("valid", valid)):
        for note in text.notes if text else ():
            log(f"{title:<9} {note}")
    check_validated(config.train, valid is not None)
    if not tokenizer:
        tokenizer, kind = encoder.tokenizer(train, data), data.tokenizer
        origin = f"{kind}, trained on {train.name}" if kind in TOKENIZERS else f"from {kind}"
    log(f"tokens    {tokenizer.vocab_size:,} in the vocabulary: {origin}")
    train_text = encoder.encode(train, tokenizer)
    windows = _windows("train", train_text, tokenizer, config, log)
    if valid is None:
        return TrainingCorpus(tokenizer, train_text, windows, weights=data.train_weights)
    valid_text = encoder.encode(valid, tokenizer)
    valid_windows = _windows("valid", valid_text, tokenizer, config, log)
    if data.valid_share:
        _note_share(data.valid_share, valid_text, train_text, log)
    return TrainingCorpus(tokenizer, train_text, windows, valid_text, valid_windows, weights=data.train_weights)


def open_second(config: Config) -> Text | None:
    """The text `also_valid`, if there is one; a TextError if it does not exist."""
    names = config.transfer.also_valid
    return TextFiles(names, config.data.errors, config.data.encoding) if names else None


def with_second_validation(
    corpus: TrainingCorpus, text: Text | None, config: Config, log: Log, show: bool
) -> TrainingCorpus:
    """A corpus with the windows of the text `also_valid`, if there is one."""
    if text is None:
        return corpus
    for note in text.notes:
        log(f"also      {note}")
    encoded = Encoder(config.data.cache, show).encode(text, corpus.tokenizer)
    windows = _windows("also", encoded, corpus.tokenizer, config, log)
    return replace(corpus, also_valid_text=encoded, also_valid=windows)


def with_clusters(config: Config, corpus: TrainingCorpus, log: Log) -> Config:
    """The configuration with `cutoffs` for an adaptive softmax, chosen if they are not given."""
    if config.model.softmax != "adaptive":
        return config
    counts = token_counts(corpus.text.ids, corpus.tokenizer.vocab_size)
    cutoffs = config.model.cutoffs or choose_cutoffs(counts, config.model.sizes[-1])
    if cutoffs[-1] >= len(counts):
        raise ConfigError(f"`cutoffs` is {cutoffs}, but must stay below the {len(counts):,} tokens of the vocabulary.")
    log(f"softmax   adaptive: {describe_clusters(counts, cutoffs)}")
    return config.replace(cutoffs=cutoffs)


def _note_share(share: float, valid: EncodedText, train: EncodedText, log: Log) -> None:
    """Say so if the part that is held out is less than half, or more than twice, as large as requested."""
    found = len(valid.ids) / (len(valid.ids) + len(train.ids))
    if not share / 2 <= found <= share * 2:
        log(f"          `valid_share` is {share:g}, but {found:.2g} of the tokens are held out: units differ in size")


def _weighted(text: EncodedText, tokenizer: Tokenizer, config: Config) -> WeightedTexts | None:
    data = config.data
    if not (data.train and data.train_weights):
        return None
    sizes = [size.tokens for size in text.texts or (text.counts,)]
    return WeightedTexts(text.ids, sizes, data.train_weights, data.train, tokenizer.eos_id, data.context)


def _windows(title: str, text: EncodedText, tokenizer: Tokenizer, config: Config, log: Log) -> Windows:
    data, train, counts = config.data, config.train, text.counts
    texts = _weighted(text, tokenizer, config) if title == "train" else None
    windows = Windows(
        text.ids,
        train.batch_size,
        train.num_steps,
        text.name,
        context=data.context,
        eos_id=tokenizer.eos_id,
        shuffle_seed=train.seed if title == "train" and data.shuffle else None,
        length_seed=train.seed if title == "train" and train.variable_windows else None,
        texts=texts,
    )
    replaced = f"; {text.replaced:,} lines were not UTF-8" if text.replaced else ""
    unknown = f", {counts.oovs:,} of them <unk>" if tokenizer.unk_id >= 0 else ""
    log(
        f"{title:<9} {counts.tokens:,} tokens{unknown}, in {counts.lines:,} lines, {counts.words:,} words, "
        f"{counts.characters:,} characters, {counts.bytes:,} bytes{replaced}"
    )
    if title != "also":  # a text that is only reported stops nothing
        check_known(text, tokenizer.vocab_size, data, log, kept=bool(config.transfer.init_from))
    if texts:
        log(f"          an epoch reads at least {texts.tokens:,} tokens: {texts}")
    length = f"about {train.num_steps}" if windows.varies else train.num_steps
    log(
        f"          {len(windows):,} windows of {train.batch_size} x {length} predict {windows.predicted:,} tokens; "
        f"{windows.left_over:,} are left over"
    )
    return windows
