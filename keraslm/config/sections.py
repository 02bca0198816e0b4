"""Configurations made of sections, each a frozen dataclass whose fields are checked when it is built."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Self

from keraslm.config.legacy import modernized
from keraslm.config.train import TrainConfig
from keraslm.errors import ConfigError, shown


class Sections:
    """Base of a frozen dataclass whose fields are sections. Names of fields are unique over all sections.

    `Config` is the configuration of a language model.
    """

    train: TrainConfig  # a section of every training run

    LATER: ClassVar[tuple[str, ...]] = ()  # sections that earlier versions did not write

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed, whichever section they belong to.

        Raises:
            ConfigError: an unknown field, or a value out of range.
        """
        parts: dict[str, Any] = {}
        for section in self._names():
            value = getattr(self, section)
            own = {f.name: changes.pop(f.name) for f in dataclasses.fields(value) if f.name in changes}
            parts[section] = dataclasses.replace(value, **own)
        if changes:
            known = sorted(f.name for part in parts.values() for f in dataclasses.fields(part))
            raise ConfigError(f"Unknown configuration field {next(iter(changes))!r}. Known fields: {', '.join(known)}.")
        return type(self)(**parts)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Nested plain values, as `config.json` holds them."""
        parts = {section: dataclasses.asdict(getattr(self, section)) for section in self._names()}
        for part in parts.values():
            part |= {name: list(value) for name, value in part.items() if isinstance(value, tuple)}
        return parts

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """The inverse of `to_dict`; it also reads the configurations of earlier versions.

        Raises:
            ConfigError: a missing section, an unknown field, or a value out of range.
        """
        config = cls()
        for name in cls._names():
            section = values.get(name, {} if name in cls.LATER else None) if isinstance(values, dict) else None
            if not isinstance(section, dict):
                raise ConfigError(f"The configuration has no section {name!r}.")
            kind = type(getattr(config, name))
            section = modernized(section, kind)
            unknown = section.keys() - kind.__dataclass_fields__.keys()
            if unknown:
                raise ConfigError(f"Unknown configuration field {shown(min(unknown))} in section {name!r}.")
            try:
                config = config.replace(**section)
            except ConfigError as error:  # a field of a file is not an argument of the caller
                raise ConfigError(str(error).replace("`", "")) from None
        return config

    def fields(self) -> dict[str, Any]:
        """The fields of all sections, by name."""
        return {name: value for section in self._names() for name, value in vars(getattr(self, section)).items()}

    def as_chosen_by(self, previous: Self) -> Self:
        """This configuration with what a previous run has chosen where it leaves the choice open."""
        return self

    @classmethod
    def _names(cls) -> list[str]:
        return [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
