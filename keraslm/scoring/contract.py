"""The interface of a model file: names, shapes and types of its inputs and outputs, and the keys of its metadata.

Dimensions: `N` rows, `T` steps, `K` known targets, `L` layers, `H` units of the widest layer, `U` units of the
last layer, `V` vocabulary.

    inputs    input_ids          int64    [N, T]          N and T are free, at least 1
              h0, c0             float32  [L, N, H]       state before the first step; zeros at the start of a text
              targets            int64    [N, K]          the tokens after the first K inputs, 0 <= K <= T
    outputs   log_probs          float32  [N, T - K, V]   distributions after the inputs from K on, natural logarithm
              next_h0, next_c0   float32  [L, N, H]       state after the last step: h0 and c0 of the next call
              target_log_probs   float32  [N, K]          log-probabilities of the targets, natural logarithm
              hidden             float32  [N, T, U]       hidden states of the last layer, the input of the softmax

onnxruntime computes every output of a graph, so the shapes of the inputs select the work: with K = T no distribution is
computed, and of an adaptive softmax only the clusters of the targets; with K = 0 every step has a distribution. A layer
narrower than H uses the first columns of its plane and returns zeros in the others. A cell without c returns `c0`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from keraslm.config import Config
from keraslm.errors import ConfigError, ModelFileError
from keraslm.text.tokenizer import Tokenizer

INPUT_IDS = "input_ids"
H0 = "h0"
C0 = "c0"
LOG_PROBS = "log_probs"
NEXT_H0 = "next_h0"
NEXT_C0 = "next_c0"
TARGETS = "targets"
TARGET_LOG_PROBS = "target_log_probs"
HIDDEN = "hidden"

BATCH = "batch"
TIME = "time"
KNOWN = "known"  # K
UNKNOWN = "unknown"  # T - K

FORMAT_VERSION = "5"
WITHOUT_HIDDEN = ("3", "4")  # 3 also differs in the field names of the configuration, which `Config` translates
READABLE = (*WITHOUT_HIDDEN, FORMAT_VERSION)
SOFTMAXES = ("full", "sampled", "adaptive", "mixture")
PRECISIONS = ("float32", "int8")
OPSET = 17  # LSTM, LogSoftmax and Gather have not changed since; IR version 8, which every current runtime reads

INPUTS = (INPUT_IDS, H0, C0, TARGETS)
OUTPUTS = (LOG_PROBS, NEXT_H0, NEXT_C0, TARGET_LOG_PROBS, HIDDEN)


@dataclass(frozen=True)
class Vocabulary:
    """The metadata that all members of an ensemble share.

    `tokenizer` is the complete `tokenizer.json`. `unk_id` is -1 if the tokenizer can encode every text. A text starts
    from `bos_id`, which is the same as `eos_id`.
    """

    tokenizer: str = field(repr=False)
    tokenizer_sha256: str
    vocab_size: int
    unk_id: int
    bos_id: int
    eos_id: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Vocabulary:
        ids = tokenizer.unk_id, tokenizer.eos_id, tokenizer.eos_id
        return Vocabulary(tokenizer.to_json(), tokenizer.digest, tokenizer.vocab_size, *ids)


@dataclass(frozen=True)
class ModelInfo(Vocabulary):
    """The metadata of a model file.

    Attributes:
        num_layers, hidden_size, embedding_dim: L, H and the size of an embedding.
        valid_perplexity: after the run's last epoch; NaN without a validation text.
        config: the run's configuration, JSON.
        softmax: `"full"`, `"sampled"` (the same graph), `"adaptive"` or `"mixture"`.
        precision: of the matrix weights, `"float32"` or `"int8"`.
        format_version: of the file; one of `READABLE`.
    """

    keraslm_version: str
    num_layers: int
    hidden_size: int
    embedding_dim: int
    valid_perplexity: float = math.nan
    config: str = field(default="{}", repr=False)
    softmax: str = "full"
    precision: str = "float32"
    format_version: str = FORMAT_VERSION

    def to_metadata(self) -> dict[str, str]:
        return {"format_version": self.format_version} | {k: str(v) for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> ModelInfo:
        """Read the metadata of the file `where`; a `ModelFileError` if they are malformed or of an unknown format."""
        if "format_version" not in metadata or "keraslm_version" not in metadata:
            raise ModelFileError(
                f"{where}: an ONNX model, but not one made by keraslm (its metadata have no keraslm_version). "
                "Make one with: keraslm export model.onnx"
            )
        check_version(metadata["format_version"], where)
        values: dict[str, Any] = {}
        kinds = {"int": int, "float": float, "str": str}
        for each in dataclasses.fields(cls):
            try:
                values[each.name] = kinds[str(each.type)](metadata[each.name])
            except KeyError as error:
                raise ModelFileError(f"{where}: the metadata have no {each.name!r}; the file is damaged.") from error
            except ValueError as error:
                raise ModelFileError(f"{where}: metadata {each.name!r} is not a {each.type} ({error}).") from error
        for name, known in (("softmax", SOFTMAXES), ("precision", PRECISIONS)):
            if values[name] not in known:
                raise ModelFileError(f"{where}: metadata {name} is {values[name]!r}, none of {', '.join(known)}.")
        return cls(**values)

    def configuration(self, where: str) -> Config:
        """The run's configuration; raises a `ModelFileError` if it is damaged or describes a different network."""
        try:
            config = Config.from_dict(json.loads(self.config))
        except (ValueError, RecursionError, ConfigError) as error:
            raise ModelFileError(f"{where}: metadata 'config' is not a configuration ({error}).") from error
        model = config.model
        ends = model.cutoffs or ()
        if (
            (len(model.sizes), max(model.sizes), model.embedding_size, model.softmax)
            != (self.num_layers, self.hidden_size, self.embedding_dim, self.softmax)
            or (self.softmax == "adaptive" and not ends)
            or max(ends, default=0) >= self.vocab_size
        ):
            raise ModelFileError(f"{where}: metadata 'config' is the configuration of a different network.")
        return config

    @property
    def has_hidden(self) -> bool:
        """Whether the file returns hidden states."""
        return self.format_version not in WITHOUT_HIDDEN

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the inputs and outputs, in order."""
        return INPUTS + (OUTPUTS if self.has_hidden else OUTPUTS[:-1])

    def layout(self, where: str) -> Iterator[tuple[str, str, tuple[int | None, ...]]]:
        """Name, onnxruntime's type and shape of each input and output; None for a free size.

        The configuration is read last; a `ModelFileError` as from `configuration`.
        """
        ids, floats = "tensor(int64)", "tensor(float)"
        state = (self.num_layers, None, self.hidden_size)
        shapes: dict[str, tuple[int | None, ...]] = dict.fromkeys(self.names, (None, None))
        shapes |= dict.fromkeys((H0, C0, NEXT_H0, NEXT_C0), state) | {LOG_PROBS: (None, None, self.vocab_size)}
        for name, shape in shapes.items():
            if name == HIDDEN:
                shape = (*shape, self.configuration(where).model.sizes[-1])
            yield name, ids if name in (INPUT_IDS, TARGETS) else floats, shape


def check_version(version: str, where: str) -> None:
    """Raise a `ModelFileError` for a format that this version of keraslm does not read."""
    if version not in READABLE:
        raise ModelFileError(
            f"{where}: format version {version}, but this keraslm reads {readable()}. "
            "Export the run again: keraslm export"
        )


def readable() -> str:
    """The versions of `READABLE` in words."""
    *others, last = READABLE
    return f"{', '.join(others)} and {last}"
