"""The configuration of a run: frozen dataclasses, checked when they are built, and the presets.

Field values come in, from Python, the command line or `config.json`; a checked `Config` goes out, with the shapes of
the weights that follow from it. Each field carries its help text with unit and source, and field names are unique over
the parts, so that `Config().replace(units=650, epochs=39)` needs no nesting.

Sources named in the help texts:

    Zaremba      Zaremba, Sutskever and Vinyals 2014, "Recurrent Neural Network Regularization", arXiv:1409.2329
    PTB tutorial the program published with TensorFlow's recurrent network tutorial, which follows Zaremba
    Gal          Gal and Ghahramani 2016, "A Theoretically Grounded Application of Dropout in RNNs", arXiv:1512.05287
    Merity       Merity, Keskar and Socher 2018, "Regularizing and Optimizing LSTM Language Models", arXiv:1708.02182
    Hewitt       Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models"
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Unpack

from keraslm.config.data import CONTEXTS, TOKENIZERS, DataConfig
from keraslm.config.fields import user_path
from keraslm.config.model import ModelConfig
from keraslm.config.overrides import Context, Overrides, StrPath
from keraslm.config.sections import Sections
from keraslm.config.train import TrainConfig
from keraslm.config.transfer import TransferConfig
from keraslm.errors import ConfigError

__all__ = [
    "BACKENDS",
    "CONTEXTS",
    "TOKENIZERS",
    "Config",
    "Context",
    "DataConfig",
    "ModelConfig",
    "Overrides",
    "Sections",
    "StrPath",
    "TrainConfig",
    "TransferConfig",
    "user_path",
]

BACKENDS = ("jax", "tensorflow", "torch")


@dataclass(frozen=True)
class Config(Sections):
    """A complete configuration: model, data, training, and what is taken over from a trained run.

    Example:
        >>> Config().replace(units=650).model.units
        650
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    transfer: TransferConfig = field(default_factory=TransferConfig)

    LATER: ClassVar[tuple[str, ...]] = ("transfer",)

    def __post_init__(self) -> None:
        if self.train.dtype == "bfloat16" and (self.model.cell != "lstm" or self.model.own_step):
            has = f"has {self.model.own_step}" if self.model.own_step else f"is {self.model.cell}"
            raise ConfigError(f'`dtype="bfloat16"` needs a plain LSTM, but the cell {has}; use `dtype="float32"`.')
        if self.transfer.freeze:
            from keraslm.config.shapes import frozen_weights  # needs NumPy, which worker processes do without

            frozen_weights(self.model, self.transfer.freeze)

    def replace(self, **changes: Unpack[Overrides]) -> Config:  # type: ignore[override]  # names all fields
        return super().replace(**changes)

    def as_chosen_by(self, previous: Config) -> Config:
        """This configuration with the cutoffs and the second validation text that a previous run has chosen."""
        chosen = self
        if self.model.softmax == previous.model.softmax and self.model.cutoffs is None:
            chosen = chosen.replace(cutoffs=previous.model.cutoffs)
        if self.transfer.init_from and self.transfer.also_valid is None:
            chosen = chosen.replace(also_valid=previous.transfer.also_valid)
        return chosen
