"""The texts of a training as tokenizer, windows and sizes, said in lines while they are read. No Keras."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from keraslm.config import TOKENIZERS, Config, DataConfig
from keraslm.config.clusters import choose_cutoffs, describe_clusters
from keraslm.errors import ConfigError
from keraslm.text.corpus import Text, open_texts
from keraslm.text.encoding import Encoder
from keraslm.text.store import EncodedText, TextCounts, fingerprint, token_counts
from keraslm.text.stream import Windows
from keraslm.text.tokenizer import Tokenizer
from keraslm.training.schedule import check_validated

Log = Callable[[str], None]


@dataclass(frozen=True)
class TrainingCorpus:
    """What a training reads.

    Attributes:
        tokenizer: the vocabulary.
        ids: tokens of the training text, `(tokens,)`.
        valid_ids: tokens of the validation text; None without one.
        train: windows of the training text.
        valid: windows of the validation text; None without one.
        valid_counts: its size.
    """

    tokenizer: Tokenizer
    ids: NDArray[Any]
    train: Windows
    valid_ids: NDArray[Any] | None = None
    valid: Windows | None = None
    valid_counts: TextCounts | None = None

    @cached_property
    def fingerprints(self) -> dict[str, Any]:
        """What tells its texts from others, by name; each text is read through once."""
        texts = {"train": self.ids, "valid": self.valid_ids}
        return {name: fingerprint(ids) for name, ids in texts.items() if ids is not None}


def read_corpus(config: Config, log: Log, show: bool, tokenizer: Tokenizer | None = None) -> TrainingCorpus:
    """Open, tokenize and cut the texts that a configuration names.

    Args:
        config: names them.
        log: takes a line about each.
        show: progress bars for large texts.
        tokenizer: of a run that goes on; None makes the one that the configuration asks for.

    Raises:
        TextError: a text is missing, not UTF-8, or too short for one window.
        TokenizerError: the tokenizer's file cannot be used.
        ConfigError: what is asked for needs a validation text, and there is none.
    """
    data = config.data
    encoder = Encoder(data.cache, show)
    train, valid = open_texts(data)
    check_validated(config.train, valid is not None)
    origin = "of the run" if tokenizer else _origin(data, train)
    tokenizer = tokenizer or encoder.tokenizer(train, data)
    log(f"tokens    {tokenizer.vocab_size:,} in the vocabulary: {origin}")
    encoded = encoder.encode(train, tokenizer)
    windows = _windows("train", encoded, tokenizer, config, log)
    if valid is None:
        return TrainingCorpus(tokenizer, encoded.ids, windows)
    held_out = encoder.encode(valid, tokenizer)
    valid_windows = _windows("valid", held_out, tokenizer, config, log)
    return TrainingCorpus(tokenizer, encoded.ids, windows, held_out.ids, valid_windows, held_out.counts)


def with_clusters(config: Config, corpus: TrainingCorpus, log: Log) -> Config:
    """The configuration with the clusters of an adaptive softmax chosen, where they are not given."""
    if config.model.softmax != "adaptive":
        return config
    counts = token_counts(corpus.ids, corpus.tokenizer.vocab_size)
    ends = config.model.cutoffs or choose_cutoffs(counts, config.model.sizes[-1])
    if ends[-1] >= len(counts):
        raise ConfigError(f"`cutoffs` {config.model.cutoffs} must stay below the vocabulary's {len(counts):,} tokens.")
    log(f"softmax   adaptive: {describe_clusters(counts, ends)}")
    return config.replace(cutoffs=tuple(ends))


def _origin(data: DataConfig, train: Text) -> str:
    if data.tokenizer in TOKENIZERS:
        return f"{data.tokenizer}, trained on {train.name}"
    return f"of {data.tokenizer}"


def _windows(title: str, text: EncodedText, tokenizer: Tokenizer, config: Config, log: Log) -> Windows:
    data, train, counts = config.data, config.train, text.counts
    shuffled = title == "train" and data.shuffle
    windows = Windows(
        text.ids,
        train.batch_size,
        train.num_steps,
        text.name,
        context=data.context,
        eos_id=tokenizer.eos_id,
        shuffle_seed=train.seed if shuffled else None,
        length_seed=train.seed if title == "train" and train.variable_windows else None,
    )
    replaced = f"; {text.replaced:,} lines were not UTF-8" if text.replaced else ""
    unknown = f", {counts.oovs:,} of them <unk>" if tokenizer.unk_id >= 0 else ""
    log(
        f"{title:<9} {counts.tokens:,} tokens{unknown}, of {counts.lines:,} lines, {counts.words:,} words, "
        f"{counts.characters:,} characters, {counts.bytes:,} bytes{replaced}"
    )
    around = "about " if windows.varies else ""
    log(
        f"          {len(windows):,} windows of {train.batch_size} x {around}{train.num_steps} predict "
        f"{windows.predicted:,}, "
        f"{windows.left_over:,} are left over"
    )
    return windows
