"""The configuration of a run: frozen dataclasses, checked when they are built, and the presets.

Field values come in, from Python, the command line or `config.json`; a checked `Config` goes out, with the shapes of
the weights that follow from it. Each field carries its help text with unit and source, and field names are unique over
the three parts, so that `Config().replace(units=650, epochs=39)` needs no nesting.

Sources named in the help texts:

    Zaremba      Zaremba, Sutskever and Vinyals 2014, "Recurrent Neural Network Regularization", arXiv:1409.2329
    PTB tutorial the program published with TensorFlow's recurrent network tutorial, which follows Zaremba
    Gal          Gal and Ghahramani 2016, "A Theoretically Grounded Application of Dropout in RNNs", arXiv:1512.05287
    Merity       Merity, Keskar and Socher 2018, "Regularizing and Optimizing LSTM Language Models", arXiv:1708.02182
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Unpack

from keraslm.config.data import CONTEXTS, TOKENIZERS, DataConfig
from keraslm.config.fields import user_path
from keraslm.config.legacy import modernized
from keraslm.config.model import ModelConfig
from keraslm.config.overrides import Context, Overrides, StrPath
from keraslm.config.train import TrainConfig
from keraslm.errors import ConfigError, shown

__all__ = [
    "BACKENDS",
    "CONTEXTS",
    "TOKENIZERS",
    "Config",
    "Context",
    "DataConfig",
    "ModelConfig",
    "Overrides",
    "StrPath",
    "TrainConfig",
    "user_path",
]

BACKENDS = ("jax", "tensorflow", "torch")


@dataclass(frozen=True)
class Config:
    """A complete configuration: model, data and training.

    Example:
        >>> Config().replace(units=650).model.units
        650
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if self.train.dtype == "bfloat16" and (self.model.cell != "lstm" or self.model.mogrifier_rounds):
            kind = "a Mogrifier" if self.model.mogrifier_rounds else self.model.cell
            raise ConfigError(f'`dtype="bfloat16"` needs a plain LSTM, but the cell is {kind}; use `dtype="float32"`.')

    def replace(self, **changes: Unpack[Overrides]) -> Config:
        """A copy with some fields changed, whichever part they belong to.

        Raises:
            ConfigError: an unknown field, or a value out of range.
        """
        left: dict[str, Any] = dict(changes)
        parts: dict[str, Any] = {}
        for part in dataclasses.fields(self):
            value = getattr(self, part.name)
            own = {f.name: left.pop(f.name) for f in dataclasses.fields(value) if f.name in left}
            parts[part.name] = dataclasses.replace(value, **own)
        if left:
            known = sorted(f.name for part in parts.values() for f in dataclasses.fields(part))
            raise ConfigError(f"Unknown configuration field {next(iter(left))!r}. Known fields: {', '.join(known)}.")
        return Config(**parts)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Nested plain values, as `config.json` holds them."""
        parts = dataclasses.asdict(self)
        for part in parts.values():
            part |= {name: list(value) for name, value in part.items() if isinstance(value, tuple)}
        return parts

    @classmethod
    def from_dict(cls, values: Any) -> Config:
        """The inverse of `to_dict`; it also reads the configurations of earlier versions.

        Raises:
            ConfigError: a missing section, an unknown field, or a value out of range.
        """
        config = cls()
        for part in dataclasses.fields(cls):
            section = values.get(part.name) if isinstance(values, dict) else None
            if not isinstance(section, dict):
                raise ConfigError(f"The configuration has no section {part.name!r}.")
            kind = type(getattr(config, part.name))
            section = modernized(section, kind)
            unknown = section.keys() - kind.__dataclass_fields__.keys()
            if unknown:
                raise ConfigError(f"Unknown configuration field {shown(min(unknown))} in section {part.name!r}.")
            try:
                config = config.replace(**section)
            except ConfigError as error:  # a field of a file is not an argument of the caller
                raise ConfigError(str(error).replace("`", "")) from None
        return config
