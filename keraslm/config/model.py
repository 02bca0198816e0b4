"""Sizes, cells, dropout and softmax of the network."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from keraslm.config.fields import check, check_rates, check_types, option, whole_numbers
from keraslm.errors import ConfigError

CELLS = ("lstm", "gru", "rnn")
SOFTMAXES = ("full", "adaptive", "sampled", "mixture")
MOST_LAYERS = 1000  # so that no file can ask for a list of weights that fills the memory
MOST_ROUNDS = 100


def check_sizes(model: ModelConfig, changes: Collection[str], owner: str) -> None:
    """Refuse a number or size of layers that would change nothing, because another's list of sizes goes before it.

    Args:
        model: with the changes.
        changes: names of the fields that were given.
        owner: whose list it is, for the message.

    Raises:
        ConfigError: names the flag to give instead.
    """
    idle = [name for name in ("units", "num_layers") if name in changes]
    if idle and model.layer_units and "layer_units" not in changes:
        raise ConfigError(
            f"--{idle[0].replace('_', '-')} changes nothing beside the --layer-units {model.layer_units} of {owner}; "
            "give --layer-units, a size for each layer."
        )


@dataclass(frozen=True)
class ModelConfig:
    """Sizes, initialisation and dropout of the network.

    Example:
        >>> ModelConfig(units=650, num_layers=2).embedding_size
        650
        >>> ModelConfig(layer_units="1150,1150,400").sizes
        (1150, 1150, 400)
    """

    cell: Literal["lstm", "gru", "rnn"] = option(
        "lstm",
        "Cell of every recurrent layer; gru and rnn are there for comparison. "
        "Source: Hochreiter and Schmidhuber 1997, Cho et al. 2014, Elman 1990.",
    )
    num_layers: int = option(2, "Stacked recurrent layers. Source: Zaremba.")
    units: int = option(200, "Units of each recurrent layer. Source: Zaremba, small 200, medium 650, large 1500.")
    layer_units: str = option(
        "",
        "Units of each layer, the lowest first, e.g. 1150,1150,400, instead of --num-layers and --units. "
        "Source: Merity, section 4.",
    )
    embedding_dim: int = option(0, "Size of a token's embedding; 0 means as many as the last layer's units.")
    tie_weights: bool = option(
        False,
        "Let the embedding table be the kernel of the softmax too; the last layer then has the embedding's size, "
        "but in a mixture any. "
        "Source: Inan et al. 2017, Press and Wolf 2017.",
    )
    embedding_dropout: float = option(
        0.0,
        "Rate of dropout on the embedding's output, a fresh mask each step, 0 <= rate < 1. "
        "Source: Zaremba, section 3 (medium 0.5, large 0.65).",
    )
    embedding_row_dropout: float = option(
        0.0,
        "Rate at which whole rows of the embedding table are dropped for a window: all occurrences of a word at once. "
        "Source: Gal, section 4.2; Merity, section 4.3.",
    )
    recurrent_dropout: float = option(
        0.0,
        "Rate of dropout on h inside the recurrence, one mask a row and window, 0 <= rate < 1. "
        "Source: Gal, section 4; Zaremba uses none.",
    )
    dropconnect: float = option(
        0.0,
        "Rate of dropout on the recurrent weights themselves, one mask a window. Source: Wan et al. 2013; Merity, "
        "section 2 (0.5).",
    )
    output_dropout: float = option(
        0.0,
        "Rate of dropout on every recurrent layer's output, the last one too, a fresh mask each step, 0 <= rate < 1. "
        "Source: Zaremba, section 3.",
    )
    last_dropout: float = option(
        -1.0, "Rate of dropout on the last layer's output where it is another; -1 means output_dropout."
    )
    locked_dropout: bool = option(
        False,
        "One mask a row for all steps of a window instead of a fresh one each step, in embedding_dropout, "
        "output_dropout and expert_dropout. Source: Gal, section 4; Merity, section 4.2.",
    )
    mogrifier_rounds: int = option(
        0,
        "Rounds in which input and h gate each other before each step of an LSTM; 0 means none. "
        "Source: Melis et al. 2020 (5).",
    )
    mogrifier_rank: int = option(
        0, "Rank of the matrices of these gates; 0 means full. Source: Melis et al. 2020, section 2."
    )
    forget_bias: float = option(
        0.0, "Start value of the forget gate's bias. Source: PTB tutorial, 0; Keras' default is 1 (Jozefowicz 2015)."
    )
    softmax: Literal["full", "adaptive", "sampled", "mixture"] = option(
        "full",
        "Projection to the vocabulary: full; adaptive computes rare words in narrower clusters; sampled trains against "
        "a sample; mixture mixes several softmaxes. Source: Grave et al. 2017, Jean et al. 2015, Yang et al. 2018.",
    )
    cutoffs: str = option(
        "",
        "Words after which the head and each cluster but the last of the adaptive softmax end, e.g. 2000,20000. "
        "Default: chosen from the counts of the training text. Source: Grave et al. 2017, section 4.2.",
    )
    num_sampled: int = option(8192, "Negatives a window of the sampled softmax. Source: Jozefowicz et al. 2016.")
    num_experts: int = option(10, "Softmaxes of --softmax mixture. Source: Yang et al. 2018 (15 on PTB).")
    expert_dropout: float = option(
        0.0, "Rate of dropout on each expert's hidden vector, of --softmax mixture. Source: Yang et al. 2018 (0.29)."
    )
    init_scale: float = option(
        0.1,
        "All weights but biases start uniform in [-init_scale, init_scale]. "
        "Source: Zaremba, small 0.1, medium 0.05, large 0.04.",
    )
    embedding_init_scale: float = option(
        0.0, "The same for the embedding table, where it is another; 0 means init_scale. Source: Merity (0.1)."
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "cell", self.cell in CELLS, "lstm, gru or rnn")
        check(self, "num_layers", 1 <= self.num_layers <= MOST_LAYERS, f"at least 1 and at most {MOST_LAYERS}")
        check(self, "units", self.units >= 1, "at least 1")
        layers = self.layer_units.split(",") if self.layer_units else []
        found = whole_numbers(self.layer_units)
        right = len(found) == len(layers) <= MOST_LAYERS and min(found, default=1) >= 1
        check(self, "layer_units", right, "whole numbers above 0, one a layer, e.g. 1150,1150,400")
        check(self, "embedding_dim", self.embedding_dim >= 0, "0 (as many as units) or more")
        check_rates(self, "embedding_dropout", "embedding_row_dropout", "recurrent_dropout", "dropconnect")
        check_rates(self, "output_dropout", "expert_dropout")
        rate = self.last_dropout
        check(self, "last_dropout", rate == -1 or 0.0 <= rate < 1.0, "-1 (output_dropout), or at least 0 and below 1")
        check(self, "mogrifier_rounds", 0 <= self.mogrifier_rounds <= MOST_ROUNDS, f"between 0 and {MOST_ROUNDS}")
        check(self, "mogrifier_rank", self.mogrifier_rank >= 0, "0 (full) or more")
        check(self, "init_scale", self.init_scale > 0.0, "above 0")
        check(self, "embedding_init_scale", self.embedding_init_scale >= 0.0, "0 (init_scale) or more")
        check(self, "softmax", self.softmax in SOFTMAXES, "full, adaptive, sampled or mixture")
        check(self, "num_sampled", self.num_sampled >= 1, "at least 1")
        check(self, "num_experts", self.num_experts >= 1, "at least 1")
        self._check_cutoffs()
        self._check_combinations()

    def _check_cutoffs(self) -> None:
        ends, numbers = self.cutoffs.split(",") if self.cutoffs else [], whole_numbers(self.cutoffs)
        increasing = all(a < b for a, b in zip([0, *numbers], numbers, strict=False))
        expected = "whole numbers above 0, each larger than the one before, e.g. 2000,20000"
        check(self, "cutoffs", len(numbers) == len(ends) and increasing, expected)
        if self.cutoffs and self.softmax != "adaptive":
            raise ConfigError("--cutoffs belongs to --softmax adaptive.")

    def _check_combinations(self) -> None:
        if self.mogrifier_rounds and self.cell != "lstm":
            raise ConfigError(f"--mogrifier-rounds belongs to --cell lstm, not {self.cell}.")
        if self.mogrifier_rank and not self.mogrifier_rounds:
            raise ConfigError("--mogrifier-rank belongs to --mogrifier-rounds, which is 0.")
        if self.forget_bias and self.cell != "lstm":
            raise ConfigError(f"--forget-bias belongs to --cell lstm, not {self.cell}.")
        if self.expert_dropout and self.softmax != "mixture":
            raise ConfigError("--expert-dropout belongs to --softmax mixture.")
        if not self.tie_weights:
            return
        if self.softmax in ("adaptive", "sampled"):
            raise ConfigError(
                f"--tie-weights needs a kernel of the table's shape, which --softmax {self.softmax} does not have; "
                "choose --softmax full or mixture."
            )
        if self.softmax == "full" and self.sizes[-1] != self.embedding_size:
            raise ConfigError(
                f"--tie-weights multiplies the last layer's output, of {self.sizes[-1]} units, with embeddings of "
                f"{self.embedding_size}; the two must be equal. Give --embedding-dim {self.sizes[-1]}, or --layer-units"
                f" that end in {self.embedding_size}."
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Units of each layer, the lowest first."""
        return tuple(whole_numbers(self.layer_units)) if self.layer_units else (self.units,) * self.num_layers

    @property
    def not_exportable(self) -> str:
        """Why no model file can be made of this network, as a clause; empty where one can.

        Example:
            >>> ModelConfig(mogrifier_rounds=5).not_exportable
            'a Mogrifier has no ONNX node, so the run can be evaluated and loaded in Python, but not exported'
        """
        if not self.mogrifier_rounds:
            return ""
        return "a Mogrifier has no ONNX node, so the run can be evaluated and loaded in Python, but not exported"

    @property
    def cluster_ends(self) -> tuple[int, ...]:
        """`cutoffs` as numbers; empty where they are still to be chosen.

        Example:
            >>> ModelConfig(softmax="adaptive", cutoffs="2000,20000").cluster_ends
            (2000, 20000)
        """
        return tuple(whole_numbers(self.cutoffs)) if self.cutoffs else ()

    @property
    def embedding_size(self) -> int:
        """Size of an embedding vector, with `embedding_dim=0` resolved."""
        return self.embedding_dim or self.sizes[-1]

    @property
    def dropout_after(self) -> tuple[float, ...]:
        """Rate of dropout on each layer's output, the lowest first."""
        last = self.output_dropout if self.last_dropout < 0 else self.last_dropout
        return (*(self.output_dropout,) * (len(self.sizes) - 1), last)
