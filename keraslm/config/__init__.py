"""The configuration of a run: three frozen dataclasses, checked when they are built.

Each field carries its sentence, unit and source in `metadata`; the command line makes its flags from them, so a field
is described in one place. Field names are unique over the three classes, so that a flat set of keyword arguments names
a configuration: `Config().replace(units=650, epochs=39)`.

Sources named below:

    Zaremba      Zaremba, Sutskever and Vinyals 2014, "Recurrent Neural Network Regularization", arXiv:1409.2329
    PTB tutorial the program published with TensorFlow's recurrent network tutorial, which follows Zaremba
    Gal          Gal and Ghahramani 2016, "A Theoretically Grounded Application of Dropout in RNNs", arXiv:1512.05287
    Merity       Merity, Keskar and Socher 2018, "Regularizing and Optimizing LSTM Language Models", arXiv:1708.02182
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from keraslm.config.data import DOCUMENTS, TOKENIZERS, DataConfig
from keraslm.config.model import ModelConfig
from keraslm.config.train import TrainConfig
from keraslm.errors import ConfigError, shown

__all__ = [
    "BACKENDS",
    "DOCUMENTS",
    "RESUME",
    "TOKENIZERS",
    "WEIGHTS",
    "Config",
    "DataConfig",
    "ModelConfig",
    "TrainConfig",
]

BACKENDS = ("jax", "tensorflow", "torch")
RESUME = ("auto", "never", "must")
WEIGHTS = ("last", "best")


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

    def __post_init__(self) -> None:
        plain = self.model.cell == "lstm" and not self.model.mogrifier_rounds
        if self.train.dtype == "bfloat16" and not plain:
            kind = "An LSTM with --mogrifier-rounds" if self.model.mogrifier_rounds else f"--cell {self.model.cell}"
            raise ConfigError(f"{kind} is computed in float32; --dtype bfloat16 belongs to a plain --cell lstm.")

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
