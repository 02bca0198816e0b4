"""The page of the configuration: every field with its type, default, unit and source."""

from __future__ import annotations

import dataclasses
import inspect
import re
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from keraslm import config
from keraslm.config import DataConfig, ModelConfig, TrainConfig, TransferConfig
from keraslm.config.fields import hints
from keraslm.config.presets import PRESETS

INTRODUCTION = """\
# Configuration

Written by `make docs` from `keraslm.config`; a test holds the two equal.

Every field is a flag of `keraslm train` and a keyword argument of `keraslm.preset`, `keraslm.train` and
`Config.replace`:

=== "Command line"

    ```console
    $ keraslm train --preset small --num-steps 35 --layer-units 1150,1150,400
    ```

=== "Python"

    ```python
    config = keraslm.preset("small", num_steps=35, layer_units=(1150, 1150, 400))
    ```

The run folder stores all values in [`config.json`](run-folder.md). A preset sets the fields that
[its row](#presets) lists; fields that you set override it. The help texts name their [sources](#sources) by author."""

PARTS: tuple[tuple[str, Any, str], ...] = (
    ("Data", DataConfig, "data"),
    ("Model", ModelConfig, "model"),
    ("Training", TrainConfig, "train"),
    ("Transfer", TransferConfig, "transfer"),
)


def type_words(hint: Any) -> str:
    """A type as a reader says it: `integer or None`, `"lstm"`, `"gru"` or `"rnn"`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(type_words, arguments)))
    if origin is Literal:
        *first, last = (f'`"{value}"`' for value in arguments)
        return f"{', '.join(first)} or {last}" if first else last
    if origin is tuple:
        return f"list ({type_words(arguments[0])})"
    known = {int: "integer", float: "number", bool: "True or False", str: "string", NoneType: "None"}
    return known.get(hint, hint.__name__)


def shown(value: Any) -> str:
    """A value as it is typed, numbers with at most six digits."""
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


def field_section(field: dataclasses.Field[Any], hint: Any) -> str:
    """The heading of a field, its type, default and flag, and its help text."""
    flag = f"--{field.name.replace('_', '-')}"
    default = field.default if field.default is not dataclasses.MISSING else field.default_factory()
    zero = "; 0 on the command line is None" if field.metadata["zero_is_none"] else ""
    head = f"### {field.name}\n\n`{flag}`: {type_words(hint)}; default `{shown(default)}`{zero}."
    return f"{head}\n\n{re.sub(r'</?[a-z]+>', lambda tag: f'`{tag[0]}`', field.metadata['help'])}"


def sources() -> str:
    """The papers that help texts name by author, from the docstring of `keraslm.config`."""
    listed = inspect.cleandoc(config.__doc__).split("Sources named in the help texts:\n\n")[1]
    rows = [(line[4:17].strip(), line[17:]) for line in listed.splitlines()]
    return "\n".join(["## Sources", "", "| name | source |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)])


def presets_table() -> str:
    """Which fields each preset sets."""
    rows = ["## Presets", "", "| preset | sets |", "|---|---|"]
    for name, fields in PRESETS.items():
        values = ", ".join(f"[{key}](#{key}) `{shown(value)}`" for key, value in fields.items())
        rows.append(f"| `{name}` | {values or 'nothing'} |")
    return "\n".join(rows)


def page() -> str:
    """The whole of docs/reference/configuration.md."""
    parts = [INTRODUCTION]
    for title, part, attribute in PARTS:
        first = inspect.cleandoc(part.__doc__).split("\n\n")[0].replace("\n", " ")
        parts.append(f"## {title}\n\n{first} In Python: `config.{attribute}`, a `{part.__name__}`.")
        parts += [field_section(field, hints(part)[field.name]) for field in dataclasses.fields(part)]
    return "\n\n".join([*parts, presets_table(), sources()]) + "\n"
