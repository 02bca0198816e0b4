"""Sizes, cells, dropout and softmax of the network."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from keraslm.config.fields import check, check_at_least, check_rates, check_types, option
from keraslm.errors import ConfigError

MOST_LAYERS = 1000  # a damaged file must not ask for a list of weights that fills the memory
MOST_ROUNDS = 100


@dataclass(frozen=True)
class ModelConfig:
    """Sizes, initialization and dropout of the network.

    Example:
        >>> ModelConfig(units=650, num_layers=2).embedding_size
        650
        >>> ModelConfig(layer_units=(1150, 1150, 400)).sizes
        (1150, 1150, 400)
    """

    cell: Literal["lstm", "gru", "rnn"] = option(
        "lstm",
        "Cell of every recurrent layer; gru and rnn are there for comparison. "
        "Source: Hochreiter and Schmidhuber 1997, Cho et al. 2014, Elman 1990.",
    )
    num_layers: int = option(2, "Number of recurrent layers. Source: Zaremba.")
    units: int = option(200, "Units of each recurrent layer. Source: Zaremba, small 200, medium 650, large 1500.")
    layer_units: tuple[int, ...] | None = option(
        None,
        "Units of each layer, lowest first, e.g. 1150,1150,400, instead of `num_layers` and `units`. "
        "Source: Merity, section 4.",
    )
    embedding_dim: int | None = option(
        None, "Size of the embedding of a token; 0: the units of the last layer.", zero_is_none=True
    )
    tie_weights: bool = option(
        False,
        "Use the embedding table as the kernel of the softmax. The last layer must then have the size of the "
        "embedding, except with a mixture. Source: Inan et al. 2017, Press and Wolf 2017.",
    )
    embedding_dropout: float = option(
        0.0,
        "Dropout rate on the embeddings, a new mask at each step, 0 <= rate < 1. "
        "Source: Zaremba, section 3 (medium 0.5, large 0.65).",
    )
    embedding_row_dropout: float = option(
        0.0,
        "Rate at which whole rows of the embedding table are dropped for a window, so that all occurrences of a word "
        "are dropped at once. Source: Gal, section 4.2; Merity, section 4.3.",
    )
    recurrent_dropout: float = option(
        0.0,
        "Dropout rate on h inside the recurrence, one mask per row and window, 0 <= rate < 1. "
        "Source: Gal, section 4; Zaremba uses none.",
    )
    dropconnect: float = option(
        0.0,
        "Dropout rate on the recurrent weights, one mask per window. Source: Wan et al. 2013; Merity, section 2 (0.5).",
    )
    output_dropout: float = option(
        0.0,
        "Dropout rate on the output of each recurrent layer, including the last, a new mask at each step, "
        "0 <= rate < 1. Source: Zaremba, section 3.",
    )
    last_dropout: float | None = option(
        None, "Dropout rate on the output of the last layer, if different from output_dropout."
    )
    skip_connections: bool = option(
        False,
        "The softmax reads the sum of the outputs of all recurrent layers, which must have the same size, instead of "
        "the last output alone. Source: Melis et al. 2018 and 2020.",
    )
    locked_dropout: bool = option(
        False,
        "Use one mask per row for all steps of a window, instead of a new one at each step, in embedding_dropout, "
        "output_dropout and expert_dropout. Source: Gal, section 4; Merity, section 4.2.",
    )
    mogrifier_rounds: int = option(
        0,
        "Rounds in which input and h gate each other before each step of an LSTM; 0: none. "
        "Source: Melis et al. 2020 (5).",
    )
    mogrifier_rank: int | None = option(
        None, "Rank of the matrices of these gates; 0: full. Source: Melis et al. 2020, section 2.", zero_is_none=True
    )
    input_gate: Literal["free", "capped", "tied"] = option(
        "free",
        "LSTM: free: a gate of its own; capped: at most one minus the forget gate, so that c stays within -1 and 1; "
        "tied: one minus the forget gate, without weights of its own. Source: Melis et al. 2018.",
    )
    forget_bias: float = option(
        0.0, "Initial bias of the forget gate. Source: PTB tutorial, 0; the default of Keras is 1 (Jozefowicz 2015)."
    )
    softmax: Literal["full", "adaptive", "sampled", "mixture"] = option(
        "full",
        "Projection to the vocabulary. adaptive: compute rare words in narrower clusters; sampled: train against a "
        "sample; mixture: mix several softmaxes. Source: Grave et al. 2017, Jean et al. 2015, Yang et al. 2018.",
    )
    cutoffs: tuple[int, ...] | None = option(
        None,
        "Numbers of words after which the head and each cluster but the last end in an adaptive softmax, e.g. "
        "2000,20000. Default: chosen from the counts of the training text. Source: Grave et al. 2017, section 4.2.",
    )
    num_sampled: int = option(
        8192, "Negative samples per window of the sampled softmax. Source: Jozefowicz et al. 2016."
    )
    num_experts: int = option(10, "Number of softmaxes in a mixture. Source: Yang et al. 2018 (15 on PTB).")
    expert_dropout: float = option(
        0.0, "Dropout rate on the hidden vector of each expert in a mixture. Source: Yang et al. 2018 (0.29)."
    )
    init_scale: float = option(
        0.1,
        "Initial weights except biases are uniform in [-init_scale, init_scale]. "
        "Source: Zaremba, small 0.1, medium 0.05, large 0.04.",
    )
    embedding_init_scale: float | None = option(
        None, "The same for the embedding table; 0: init_scale. Source: Merity (0.1).", zero_is_none=True
    )

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "num_layers", 1 <= self.num_layers <= MOST_LAYERS, f"at least 1 and at most {MOST_LAYERS}")
        check_at_least(self, 1, "units", "embedding_dim", "mogrifier_rank", "num_sampled", "num_experts")
        layers = (1,) if self.layer_units is None else self.layer_units
        right = 1 <= len(layers) <= MOST_LAYERS and min(layers) >= 1
        check(self, "layer_units", right, "integers above 0, one per layer, e.g. (1150, 1150, 400)")
        check_rates(self, "embedding_dropout", "embedding_row_dropout", "recurrent_dropout", "dropconnect")
        check_rates(self, "output_dropout", "last_dropout", "expert_dropout")
        check(self, "mogrifier_rounds", 0 <= self.mogrifier_rounds <= MOST_ROUNDS, f"between 0 and {MOST_ROUNDS}")
        check(self, "init_scale", self.init_scale > 0.0, "above 0")
        scale = self.embedding_init_scale
        check(self, "embedding_init_scale", scale is None or scale > 0.0, "above 0")
        increasing = all(a < b for a, b in pairwise((0, *(self.cutoffs or (1,)))))
        check(self, "cutoffs", increasing and self.cutoffs != (), "increasing integers above 0, e.g. (2000, 20000)")
        self._check_combinations()

    def _check_combinations(self) -> None:
        for name in ("mogrifier_rounds", "input_gate", "forget_bias"):
            if getattr(self, name) not in (0, "free") and self.cell != "lstm":
                raise ConfigError(f'`{name}` needs `cell="lstm"`, but the cell is {self.cell}.')
        if self.mogrifier_rank and not self.mogrifier_rounds:
            raise ConfigError("`mogrifier_rank` needs `mogrifier_rounds`, which is 0.")
        if self.expert_dropout and self.softmax != "mixture":
            raise ConfigError('`expert_dropout` needs `softmax="mixture"`.')
        if self.cutoffs and self.softmax != "adaptive":
            raise ConfigError('`cutoffs` needs `softmax="adaptive"`.')
        if self.skip_connections and len(set(self.sizes)) > 1:
            raise ConfigError(
                "`skip_connections` adds the outputs of all layers, which must have the same size, but `layer_units` "
                f"is {','.join(map(str, self.sizes))}."
            )
        if not self.tie_weights:
            return
        if self.softmax in ("adaptive", "sampled"):
            raise ConfigError(
                "`tie_weights` needs a kernel of the shape of the embedding table, which the "
                f'{self.softmax} softmax does not have; choose `softmax="full"` or `softmax="mixture"`.'
            )
        if self.softmax == "full" and self.sizes[-1] != self.embedding_size:
            raise ConfigError(
                f"`tie_weights` multiplies the output of the last layer, of {self.sizes[-1]} units, by embeddings of "
                f"size {self.embedding_size}; the two must be equal. Use `embedding_dim={self.sizes[-1]}`, or end "
                f"`layer_units` in {self.embedding_size}."
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Units of each layer, lowest first."""
        return self.layer_units or (self.units,) * self.num_layers

    @property
    def embedding_size(self) -> int:
        """Size of the embedding of a token."""
        return self.embedding_dim or self.sizes[-1]

    @property
    def dropout_after(self) -> tuple[float, ...]:
        """Dropout rate on the output of each layer, lowest first."""
        last = self.output_dropout if self.last_dropout is None else self.last_dropout
        return (*(self.output_dropout,) * (len(self.sizes) - 1), last)

    @property
    def own_step(self) -> str:
        """What the LSTM's step has that libraries lack, as a noun; empty for a plain LSTM, a GRU or an RNN.

        Such a step is differentiated by the backend and exported as a loop. A tied input gate is not one: its weights
        are those of the forget gate, negated.

        Example:
            >>> ModelConfig(mogrifier_rounds=5).own_step
            'a Mogrifier'
        """
        parts = ["a Mogrifier"] if self.mogrifier_rounds else []
        parts += ["a capped input gate"] if self.input_gate == "capped" else []
        return " with ".join(parts)


def check_sizes(model: ModelConfig, changes: Collection[str], owner: str) -> None:
    """Refuse a change of `units` or `num_layers` that `layer_units` would hide.

    Args:
        model: with the changes.
        changes: names of the changed fields.
        owner: where `layer_units` comes from, for the message.

    Raises:
        ConfigError: the change has no effect.
    """
    idle = [name for name in ("units", "num_layers") if name in changes]
    if idle and model.layer_units and "layer_units" not in changes:
        raise ConfigError(
            f"`{idle[0]}` has no effect, because {owner} sets `layer_units` to "
            f"{','.join(map(str, model.layer_units))}; give `layer_units`, one size per layer."
        )
