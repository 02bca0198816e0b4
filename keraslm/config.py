"""The configuration of a run: three frozen dataclasses, checked when they are built.

Each field carries its sentence, unit and source in `metadata`; the command line makes its flags from them, so a field
is described in one place. Field names are unique over the three classes, so that a flat set of keyword arguments names
a configuration: `Config().replace(units=650, epochs=39)`.

Sources named below:

    Zaremba      Zaremba, Sutskever and Vinyals 2014, "Recurrent Neural Network Regularization", arXiv:1409.2329
    PTB tutorial the program published with TensorFlow's recurrent network tutorial, which follows Zaremba
    Gal          Gal and Ghahramani 2016, "A Theoretically Grounded Application of Dropout in RNNs", arXiv:1512.05287
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from keraslm.errors import ConfigError, shown

BACKENDS = ("jax", "tensorflow", "torch")
TOKENIZERS = ("word", "char", "byte", "bpe", "unigram")
DOCUMENTS = ("none", "line", "blank-line")
RESUME = ("auto", "never", "must")
WEIGHTS = ("last", "best")
MOST_LAYERS = 1000  # so that no file can ask for a list of weights that fills the memory


def _field(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class ModelConfig:
    """Sizes, initialisation and dropout of the network.

    Example:
        >>> ModelConfig(units=650, num_layers=2).embedding_size
        650
    """

    num_layers: int = _field(2, "Stacked LSTM layers. Source: Zaremba.")
    units: int = _field(200, "Units of each LSTM layer. Source: Zaremba, small 200, medium 650, large 1500.")
    embedding_dim: int = _field(0, "Size of a token's embedding; 0 means as many as units. Source: Zaremba.")
    embedding_dropout: float = _field(
        0.0,
        "Rate of dropout on the embedding's output, a fresh mask each step, 0 <= rate < 1. "
        "Source: Zaremba, section 3 (medium 0.5, large 0.65).",
    )
    recurrent_dropout: float = _field(
        0.0,
        "Rate of dropout on h inside the recurrence, one mask a row and window, 0 <= rate < 1. "
        "Source: Gal, section 4; Zaremba uses none.",
    )
    output_dropout: float = _field(
        0.0,
        "Rate of dropout on every LSTM layer's output, the last one too, a fresh mask each step, 0 <= rate < 1. "
        "Source: Zaremba, section 3.",
    )
    forget_bias: float = _field(
        0.0, "Start value of the forget gate's bias. Source: PTB tutorial, 0; Keras' default is 1 (Jozefowicz 2015)."
    )
    softmax: Literal["full", "adaptive", "sampled"] = _field(
        "full",
        "Projection to the vocabulary: full; adaptive computes rare words in narrower clusters; sampled trains against "
        "a sample. Source: Grave et al. 2017, Jean et al. 2015.",
    )
    cutoffs: str = _field(
        "",
        "Words after which the head and each cluster but the last of the adaptive softmax end, e.g. 2000,20000. "
        "Default: chosen from the counts of the training text. Source: Grave et al. 2017, section 4.2.",
    )
    num_sampled: int = _field(8192, "Negatives a window of the sampled softmax. Source: Jozefowicz et al. 2016.")
    init_scale: float = _field(
        0.1,
        "All weights but biases start uniform in [-init_scale, init_scale]. "
        "Source: Zaremba, small 0.1, medium 0.05, large 0.04.",
    )

    def __post_init__(self) -> None:
        _check_types(self)
        _check(self, "num_layers", 1 <= self.num_layers <= MOST_LAYERS, f"at least 1 and at most {MOST_LAYERS}")
        _check(self, "units", self.units >= 1, "at least 1")
        _check(self, "embedding_dim", self.embedding_dim >= 0, "0 (as many as units) or more")
        for name in ("embedding_dropout", "recurrent_dropout", "output_dropout"):
            _check(self, name, 0.0 <= getattr(self, name) < 1.0, "a rate of at least 0 and below 1")
        _check(self, "init_scale", self.init_scale > 0.0, "above 0")
        _check(self, "softmax", self.softmax in ("full", "adaptive", "sampled"), "full, adaptive or sampled")
        _check(self, "num_sampled", self.num_sampled >= 1, "at least 1")
        ends = self.cutoffs.split(",") if self.cutoffs else []
        numbers = [int(end) for end in map(str.strip, ends) if end.isascii() and end.isdigit() and len(end) < 19]
        increasing = all(a < b for a, b in zip([0, *numbers], numbers, strict=False))
        expected = "whole numbers above 0, each larger than the one before, e.g. 2000,20000"
        _check(self, "cutoffs", len(numbers) == len(ends) and increasing, expected)
        if self.cutoffs and self.softmax != "adaptive":
            raise ConfigError("--cutoffs belongs to --softmax adaptive.")

    @property
    def cluster_ends(self) -> tuple[int, ...]:
        """`cutoffs` as numbers; empty where they are still to be chosen.

        Example:
            >>> ModelConfig(softmax="adaptive", cutoffs="2000,20000").cluster_ends
            (2000, 20000)
        """
        return tuple(int(end) for end in self.cutoffs.split(",")) if self.cutoffs else ()

    @property
    def embedding_size(self) -> int:
        """Size of an embedding vector, with `embedding_dim=0` resolved."""
        return self.embedding_dim or self.units


@dataclass(frozen=True)
class DataConfig:
    """The texts and how they become token ids. Without any path, the corpus embedded in Python is used."""

    train: tuple[str, ...] = _field(
        (), "Texts to train on, in this order: files, patterns such as 'shards/*.gz', or - for standard input."
    )
    valid: tuple[str, ...] = _field((), "Texts to validate on after each epoch.")
    data: str = _field(
        "", "Folder with train, valid and test files in the usual names, instead of --train and --valid."
    )
    errors: Literal["strict", "replace"] = _field(
        "strict", "Invalid UTF-8: strict stops with file:line:byte; replace goes on with U+FFFD and counts."
    )
    tokenizer: str = _field(
        "word",
        "Kind to train on the training text: word, char, byte, bpe, unigram; or a file whose ids are kept: "
        "tokenizer.json, tokens.txt (a line 'symbol id' each) or a sentencepiece .model.",
    )
    vocab_size: int = _field(
        10000, "Largest vocabulary of a trained tokenizer, special tokens included. Source: PTB tutorial."
    )
    min_count: int = _field(
        1, "A word or character seen fewer times in the training text becomes <unk>; bpe does not merge rarer pairs."
    )
    lowercase: bool = _field(False, "Lowercase the text; not with a tokenizer from a file.")
    split_punctuation: bool = _field(
        False, "Make every punctuation character a word of its own; --tokenizer word only."
    )
    eos_token: str = _field("", "End symbol of a tokenizer from a file. Default: the first it has of <eos>, </s>, ...")
    unk_token: str = _field("", "Unknown symbol of a tokens.txt. Default: the first it has of <unk>, <UNK>, ...")
    documents: Literal["none", "line", "blank-line"] = _field(
        "none",
        "What a document is: a line, or what stands between blank lines. The state starts from zeros in each; none "
        "carries it through the whole text.",
    )
    shuffle_documents: bool = _field(False, "Read the documents in another order each epoch, given by --seed.")
    cache: str = _field(
        "", "Folder for large texts as ids. Default: $KERASLM_CACHE, or keraslm in the user's cache folder."
    )

    def __post_init__(self) -> None:
        _check_types(self)
        _check(self, "errors", self.errors in ("strict", "replace"), "strict or replace")
        _check(self, "vocab_size", self.vocab_size >= 3, "at least 3 (<eos>, <unk> and a word)")
        _check(self, "min_count", self.min_count >= 1, "at least 1")
        _check(self, "tokenizer", bool(self.tokenizer), "word, char, byte, bpe, unigram or a file")
        if self.tokenizer == "bpe":
            _check(self, "vocab_size", self.vocab_size >= 256, "at least 256 for bpe: one token for every byte")
        self._check_combinations()

    def _check_combinations(self) -> None:
        if self.data and (self.train or self.valid):
            raise ConfigError("--data names a folder with all texts; give either --data, or --train and --valid.")
        if self.valid and not self.train:
            raise ConfigError(f"--valid {self.valid[0]} was given without --train; give both, or --data DIR.")
        _check(self, "documents", self.documents in DOCUMENTS, "none, line or blank-line")
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


@dataclass(frozen=True)
class TrainConfig:
    """Truncated backpropagation through time with plain SGD."""

    batch_size: int = _field(20, "Rows of the stream that are trained side by side. Source: Zaremba.")
    num_steps: int = _field(20, "Tokens of a row in one window; the gradient is cut there. Source: Zaremba, 20 and 35.")
    epochs: int = _field(13, "Passes over the training text. Source: PTB tutorial, small 13, medium 39, large 55.")
    learning_rate: float = _field(1.0, "Step size of SGD, on the loss summed over steps. Source: Zaremba.")
    lr_decay: float = _field(0.5, "Factor on the learning rate, once an epoch. Source: Zaremba.")
    lr_decay_from: int = _field(
        4, "Epochs at full learning rate; the decay sets in after them. Source: PTB tutorial, max_epoch."
    )
    clip_norm: float = _field(5.0, "Largest global norm of the gradient; 0 means no clipping. Source: Zaremba.")
    average_across_timesteps: bool = _field(
        False, "Average the loss over the steps of a window instead of summing. Source: sequence_loss of TensorFlow 1."
    )
    average_across_batch: bool = _field(
        True, "Average the loss over rows instead of summing. Source: PTB tutorial, sequence_loss."
    )
    dtype: Literal["float32", "bfloat16"] = _field(
        "float32",
        "Type of the operands of matrix products; state, loss, weights and updates stay float32. bfloat16 needs torch "
        "on a CPU with bfloat16 instructions, or a GPU.",
    )
    seed: int = _field(0, "Seed of initial weights and dropout; initial weights are the same on every backend.")
    log_every: int = _field(0, "Windows between loss rows in metrics.jsonl; 0 means epochs only.")
    checkpoint_every: str = _field(
        "10m",
        "Minutes or windows between checkpoints inside an epoch, such as 10m or 500w; each epoch ends with one too.",
    )

    def __post_init__(self) -> None:
        _check_types(self)
        for name in ("batch_size", "num_steps", "epochs"):
            _check(self, name, getattr(self, name) >= 1, "at least 1")
        _check(self, "learning_rate", self.learning_rate > 0.0, "above 0")
        _check(self, "lr_decay", 0.0 < self.lr_decay <= 1.0, "above 0 and at most 1")
        for name in ("lr_decay_from", "clip_norm", "log_every"):
            _check(self, name, getattr(self, name) >= 0, "0 or more")
        _check(self, "dtype", self.dtype in ("float32", "bfloat16"), "float32 or bfloat16")
        _check(self, "seed", 0 <= self.seed < 2**32, "between 0 and 2**32 - 1")
        every = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)m|([0-9]+)w", self.checkpoint_every, re.ASCII)
        number = float(every[1] or every[2]) if every else 0.0
        _check(self, "checkpoint_every", number > 0.0, "minutes or windows above 0, such as 10m or 500w")

    def learning_rate_of(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0: `lr * decay ** max(epoch + 1 - decay_from, 0)` (PTB tutorial).

        Example:
            >>> [TrainConfig().learning_rate_of(epoch) for epoch in range(6)]
            [1.0, 1.0, 1.0, 1.0, 0.5, 0.25]
        """
        return float(self.learning_rate * self.lr_decay ** max(epoch + 1 - self.lr_decay_from, 0))


@dataclass(frozen=True)
class Config:
    """A whole configuration: model, data and training.

    Example:
        >>> Config().replace(units=650).model.units
        650
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def replace(self, **changes: Any) -> Config:
        """A copy with some fields changed, named flatly.

        Raises:
            ConfigError: for a name that no part has, or a value that its part refuses.
        """
        parts: dict[str, Any] = {}
        for part in dataclasses.fields(self):
            value = getattr(self, part.name)
            own = {f.name: changes.pop(f.name) for f in dataclasses.fields(value) if f.name in changes}
            parts[part.name] = dataclasses.replace(value, **own)
        if changes:
            known = sorted(f.name for part in parts.values() for f in dataclasses.fields(part))
            raise ConfigError(f"Unknown configuration field {next(iter(changes))!r}. Known are: {', '.join(known)}.")
        return Config(**parts)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Nested plain values, as `config.json` holds them."""
        parts = dataclasses.asdict(self)
        for part in parts.values():
            part |= {name: list(value) for name, value in part.items() if isinstance(value, tuple)}
        return parts

    @classmethod
    def from_dict(cls, values: Any) -> Config:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: when a part is missing, a field is unknown or a value is refused.
        """
        config = cls()
        for part in dataclasses.fields(cls):
            section = values.get(part.name) if isinstance(values, dict) else None
            if not isinstance(section, dict):
                raise ConfigError(f"The configuration has no section {part.name!r}.")
            foreign = section.keys() - vars(getattr(config, part.name)).keys()
            if foreign:
                raise ConfigError(f"Unknown configuration field {shown(min(foreign))} in section {part.name!r}.")
            config = config.replace(**section)
        return config


def _check(part: object, name: str, holds: bool, expected: str) -> None:
    if not holds:
        raise ConfigError(f"{name} is {shown(getattr(part, name))}, but must be {expected}.")


def _check_types(part: Any) -> None:
    """Refuse a value of another type than its default's, NaN, infinity and ints beyond 64 bits, too; an int will do for
    a float."""
    for f in dataclasses.fields(part):
        value: Any = getattr(part, f.name)
        kind: type = type(f.default)
        if type(value) is int and not -(1 << 63) <= value < 1 << 63:
            raise ConfigError(f"{f.name} is an integer of {value.bit_length()} bits, but must fit 64.")
        if kind is tuple and isinstance(value, str | list):  # one path, or JSON's list of them
            value = (value,) if isinstance(value, str) and value else tuple(value)
            object.__setattr__(part, f.name, value)
        if kind is float and type(value) is int:
            object.__setattr__(part, f.name, float(value))
        elif (
            type(value) is not kind
            or (isinstance(value, tuple) and not all(isinstance(item, str) for item in value))
            or (isinstance(value, float) and not math.isfinite(value))
        ):
            raise ConfigError(f"{f.name} is {shown(value)}, but must be of type {kind.__name__} and finite.")
