"""The configuration of a translation system; `keraslm.config.TrainConfig` says how it is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from keraslm.config import TrainConfig
from keraslm.config.fields import check, check_at_least, check_rates, check_types, option
from keraslm.config.sections import Sections
from keraslm.errors import ConfigError


@dataclass(frozen=True)
class ParallelData:
    """Which texts are read, and how."""

    train: str | None = option(
        None, "Path of the training texts without suffixes: data/train for data/train.en and data/train.de."
    )
    valid: str | None = option(None, "Path of the validation texts without suffixes.")
    source: str = option("en", "Suffix of the source texts; a compressed file has one more, such as train.en.gz.")
    target: str = option("de", "Suffix of the target texts.")
    vocabulary: Literal["bpe", "word"] = option(
        "bpe", "Subwords of both languages together, or words of each language."
    )
    vocab_size: int = option(8000, "Largest number of tokens in a vocabulary.")
    min_count: int = option(2, "Least number of occurrences of a word or of a pair that is merged.")
    max_length: int = option(
        50, "Longest sentence to train on, in tokens without the end symbol. Source: NMT tutorial."
    )
    bucket_width: int = option(5, "Sentences are padded to a multiple of this length.")
    reverse_source: bool = option(
        False, "Read the source from its last word to its first. Source: Sutskever et al. 2014."
    )
    lowercase: bool = option(False, "Whether to lowercase both languages.")
    bleu: Literal["none", "13a"] = option(
        "13a", "Tokenisation of sacrebleu: none for texts that are tokenised already."
    )

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least(self, 1, "vocab_size", "min_count", "max_length", "bucket_width")
        if self.source == self.target:
            raise ConfigError(f"`source` and `target` are both {self.source!r}, but must be suffixes of two languages.")


@dataclass(frozen=True)
class TranslationModel:
    """Sizes, attention, dropout and initial weights of an encoder and a decoder."""

    units: int = option(256, "Units of each encoder and decoder layer; both directions of an encoder share them.")
    embedding_size: int | None = option(None, "Size of the embeddings; 0: as many as units.", zero_is_none=True)
    num_layers: int = option(1, "Layers of the encoder, and of the decoder.")
    bidirectional: bool = option(True, "Whether the encoder reads in both directions.")
    attention: Literal["none", "luong", "scaled_luong", "bahdanau"] = option(
        "scaled_luong", "How the decoder looks at the source. Source: Luong et al. 2015, general; Bahdanau et al. 2015."
    )
    tie_weights: bool = option(True, "Whether the softmax uses the target embeddings; needs their size to be `units`.")
    embedding_dropout: float = option(0.2, "Dropout rate on embeddings. Source: NMT tutorial.")
    encoder_dropout: float = option(0.2, "Dropout rate on the output of each encoder layer.")
    decoder_dropout: float = option(0.2, "Dropout rate on the output of each decoder layer and before the softmax.")
    label_smoothing: float = option(
        0.1, "Share of each target that is spread over the vocabulary. Source: Szegedy 2016."
    )
    init_scale: float = option(0.1, "Initial weights are uniform in [-init_scale, init_scale]. Source: NMT tutorial.")
    forget_bias: float = option(1.0, "Initial bias of the forget gates. Source: NMT tutorial.")

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least(self, 1, "units", "embedding_size", "num_layers")
        check_rates(self, "embedding_dropout", "encoder_dropout", "decoder_dropout", "label_smoothing")
        check(self, "init_scale", self.init_scale > 0.0, "above 0")
        check(self, "units", not (self.bidirectional and self.units % 2), "even for an encoder of two directions")
        if self.tie_weights and self.embeddings != self.units:
            raise ConfigError(
                f"`tie_weights` needs embeddings of {self.units} units, but `embedding_size` is {self.embeddings}."
            )

    @property
    def embeddings(self) -> int:
        """Size of the embeddings."""
        return self.embedding_size or self.units


# Fields of TrainConfig that are about the windows of a stream, or about the words of one text.
UNUSED = ("num_steps", "variable_windows", "activation_regularization", "temporal_regularization", "save_at_words")
UNUSED += ("average_across_timesteps", "average_across_batch")


@dataclass(frozen=True)
class TranslationConfig(Sections):
    """A complete configuration of a translation system."""

    model: TranslationModel = field(default_factory=TranslationModel)
    data: ParallelData = field(default_factory=ParallelData)
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            batch_size=128, epochs=12, optimizer="adamw", learning_rate=1e-3, lr_schedule="luong234"
        )
    )

    def __post_init__(self) -> None:
        for name in UNUSED:
            if getattr(self.train, name) != getattr(TrainConfig(), name):
                raise ConfigError(f"`{name}` has no effect on a translation system; leave it out.")
