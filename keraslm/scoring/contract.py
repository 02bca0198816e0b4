"""Names, shapes, types and metadata keys of a model file: the only place that the writing and the reading side share.

Letters: `N` rows, `T` steps, `L` layers, `H` units of the widest layer, `V` vocabulary.

    inputs    input_ids          int64    [N, T]          N and T free, at least 1
              h0, c0             float32  [L, N, H]       state before the first step; zeros at the start of a text
              targets            int64    [N, K]          the tokens after the first K inputs, 0 <= K <= T
    outputs   log_probs          float32  [N, T - K, V]   distributions after the inputs from K on, natural logarithm
              next_h0, next_c0   float32  [L, N, H]       state after the last step: the next call's h0 and c0
              target_log_probs   float32  [N, K]          log-probabilities of the targets

onnxruntime computes every output of a graph, whichever are asked for; so the shapes say what is wanted. Whoever scores
a text gives every target (K = T), and `V` numbers a token never leave the graph; of an adaptive softmax only the
clusters that the targets need are computed. Whoever wants distributions gives no target (K = 0).

The state has one shape for all layers: one that is narrower than the widest uses the first columns of its plane, and
gives zeros in the others. A cell without a c passes `c0` on.

Every metadata value is a string, as ONNX wants it.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keraslm.config import Config
from keraslm.errors import ConfigError, ModelFileError

INPUT_IDS = "input_ids"
H0 = "h0"
C0 = "c0"
LOG_PROBS = "log_probs"
NEXT_H0 = "next_h0"
NEXT_C0 = "next_c0"
TARGETS = "targets"
TARGET_LOG_PROBS = "target_log_probs"

BATCH = "batch"
TIME = "time"
KNOWN = "known"  # K
UNKNOWN = "unknown"  # T - K

FORMAT_VERSION = "3"
SOFTMAXES = ("full", "sampled", "adaptive", "mixture")
PRECISIONS = ("float32", "int8")
OPSET = 17  # LSTM, LogSoftmax and Gather have not changed since; IR version 8, which every current runtime reads


INPUTS = (INPUT_IDS, H0, C0, TARGETS)
OUTPUTS = (LOG_PROBS, NEXT_H0, NEXT_C0, TARGET_LOG_PROBS)


@dataclass(frozen=True)
class ModelInfo:
    """The metadata of a model file.

    Attributes:
        keraslm_version: that wrote the file.
        tokenizer: the whole `tokenizer.json`.
        tokenizer_sha256: of that text in UTF-8, hexadecimal.
        vocab_size: V.
        unk_id: id of `<unk>`; a token with this id is out of vocabulary. -1 where every text can be said without it.
        bos_id: id that a text starts from; the same as `eos_id`.
        eos_id: id of the symbol that ends each line.
        num_layers, hidden_size, embedding_dim: L, H and the size of an embedding. Cell, and units of each layer: see
            `config`.
        valid_perplexity: of the run's last epoch, counted in the training's windows; NaN without a validation text.
        config: the run's configuration, JSON.
        softmax: `"full"`, `"sampled"` (the same graph), `"adaptive"` or `"mixture"`.
        precision: of the weights that the products use, `"float32"` or `"int8"`.
    """

    keraslm_version: str
    tokenizer: str
    tokenizer_sha256: str
    vocab_size: int
    unk_id: int
    bos_id: int
    eos_id: int
    num_layers: int
    hidden_size: int
    embedding_dim: int
    valid_perplexity: float = math.nan
    config: str = "{}"
    softmax: str = "full"
    precision: str = "float32"

    def to_metadata(self) -> dict[str, str]:
        """Keys and string values for the file."""
        return {"format_version": FORMAT_VERSION} | {k: str(v) for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> ModelInfo:
        """Read the metadata of a file.

        Raises:
            ModelFileError: a key is missing or malformed, or the format is another version's.
        """
        if "format_version" not in metadata or "keraslm_version" not in metadata:
            raise ModelFileError(
                f"{where}: an ONNX model, but not one of keraslm's (its metadata have no keraslm_version). "
                "Make one with: keraslm export model.onnx"
            )
        if metadata["format_version"] != FORMAT_VERSION:
            raise ModelFileError(
                f"{where}: format version {metadata['format_version']}, but this keraslm reads {FORMAT_VERSION}. "
                "Export the run again: keraslm export"
            )
        values: dict[str, Any] = {}
        kinds = {"int": int, "float": float, "str": str}
        for field in dataclasses.fields(cls):
            try:
                values[field.name] = kinds[str(field.type)](metadata[field.name])
            except KeyError as error:
                raise ModelFileError(f"{where}: the metadata have no {field.name!r}; the file is damaged.") from error
            except ValueError as error:
                raise ModelFileError(f"{where}: metadata {field.name!r} is not a {field.type} ({error}).") from error
        for name, known in (("softmax", SOFTMAXES), ("precision", PRECISIONS)):
            if values[name] not in known:
                raise ModelFileError(f"{where}: metadata {name} is {values[name]!r}, none of {', '.join(known)}.")
        return cls(**values)

    def configuration(self, where: str) -> tuple[dict[str, Any], Config]:
        """The run's configuration, as nested values and as a `Config`.

        Raises:
            ModelFileError: when it is damaged, or that of another network.
        """
        try:
            values = json.loads(self.config)
            config = Config.from_dict(values)
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
            raise ModelFileError(f"{where}: metadata 'config' is the configuration of another network.")
        return {part: values[part] for part in config.to_dict()}, config
