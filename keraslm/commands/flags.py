"""Command-line flags made from the configuration's fields, all optional: what is not given stays with the preset."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Optional, get_type_hints

from cyclopts import Group, Parameter

from keraslm.config import DataConfig, ModelConfig, TrainConfig
from keraslm.errors import UsageError


def _check_text_name(_: Any, name: Any) -> None:
    if isinstance(name, str) and name.startswith("-") and name != "-":
        raise UsageError(f"Unknown option: {name}. See keraslm --help.")


# A lone hyphen is standard input; anything else with one in front is a mistyped option, not a file.
TextName = Annotated[str, Parameter(allow_leading_hyphen=True, validator=_check_text_name)]


def _whole_number(_: Any, tokens: Sequence[Any]) -> int:
    """cyclopts itself would round 1.5."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is not a whole number") from None


Integer = Annotated[int, Parameter(converter=_whole_number)]
OptionalInteger = Annotated[int | None, Parameter(converter=_whole_number)]


# The model files beside the first one, as the commands that score take them.
Others = Annotated[tuple[Path, ...], Parameter(name="--with", negative="")]


def _flags(config: type[Any], title: str, order: int) -> Any:
    """A flat parameter type with one optional flag for each field of a configuration class."""
    hints = get_type_hints(config)
    fields: list[Any] = [
        (
            f.name,
            Annotated[
                Optional[hints[f.name]],  # noqa: UP045
                _parameter(f, hints[f.name]),
            ],
            dataclasses.field(default=None),
        )
        for f in dataclasses.fields(config)
    ]
    made = dataclasses.make_dataclass(f"{config.__name__}Flags", fields, frozen=True)
    group = Group(f"{title} (default: the preset's)", sort_key=order)
    return Annotated[made, Parameter(name="*", group=group, accepts_keys=True)], made()


def _parameter(f: dataclasses.Field[Any], hint: Any) -> Parameter:
    if type(f.default) is tuple:
        return Parameter(help=_help(f), negative="", consume_multiple=True)
    return Parameter(help=_help(f), converter=_whole_number if hint is int else None)


def _help(f: dataclasses.Field[Any]) -> str:
    default = f" Small: {f.default:g}." if type(f.default) in (int, float) else ""
    return str(f.metadata["help"]) + default


ModelFlags: Any
DataFlags: Any
TrainFlags: Any
DataFlags, NO_DATA = _flags(DataConfig, "Data", 1)
ModelFlags, NO_MODEL = _flags(ModelConfig, "Model", 2)
TrainFlags, NO_TRAIN = _flags(TrainConfig, "Training", 3)


def given(*flags: Any) -> dict[str, Any]:
    """The flags that were given, as flat configuration changes."""
    return {name: value for part in flags for name, value in vars(part).items() if value is not None}
