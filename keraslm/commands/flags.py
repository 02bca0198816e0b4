"""Flags that several commands share, flags made from the fields of the configuration, and their names in messages."""

from __future__ import annotations

import dataclasses
import functools
import re
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from cyclopts import CycloptsError, Group, Parameter, UnknownOptionError, UnusedCliTokensError

from keraslm.config import DataConfig, ModelConfig, TrainConfig, user_path
from keraslm.config.fields import hints, split_optional

if TYPE_CHECKING:
    from keraslm.text.files import TextFiles

_QUOTED = re.compile(r"`([a-z]\w*)(?:=([^`]*))?`")
_OPTION = re.compile(r"--?[A-Za-z][\w-]*(=.*)?", re.DOTALL)  # a hyphen, a name and perhaps a value
# What other programs call these flags.
ELSEWHERE = {
    "--learning-rate": "lr rate step-size",
    "--batch-size": "batch bs bsz batchsize",
    "--num-steps": "bptt seq-len sequence-length seq-length seqlen max-length steps unroll window",
    "--units": "hidden hidden-size hidden-units hidden-dim nhid rnn-size size width",
    "--num-layers": "layers nlayers n-layers depth",
    "--embedding-dim": "embedding emb emb-size embedding-size emsize embed-dim",
    "--output-dropout": "dropout drop",
    "--recurrent-dropout": "rnn-dropout",
    "--epochs": "epoch max-epochs num-epochs n-epochs num-train-epochs",
    "--valid": "val validation dev valid-data validation-file eval",
    "--vocab-size": "vocab vocabulary max-vocab",
    "--clip-norm": "clip grad-clip max-grad-norm gradient-clip",
    "--tie-weights": "tied tie",
    "--weight-decay": "wd wdecay l2",
    "--cell": "model rnn-type type",
    "--lowercase": "lower uncased",
    "--early-stopping": "patience",
    "--checkpoint-minutes": "save-every save-interval",
    "--run": "out out-dir output-dir save save-dir output model-dir",
    "--output": "out out-file save",
    "--provider": "device gpu cuda",
    "--backend": "device framework",
    "--max-tokens": "length num-tokens tokens words max-length max-new-tokens",
    "--temperature": "temp",
}
_SPELLED = {"with_runs": "--with", "models": "MODEL", "runs": "RUN"}


def with_flags(message: str) -> str:
    """A message of the library with its quoted arguments spelled as flags.

    Example:
        >>> with_flags('`lr_final` needs `lr_schedule="cosine"`; or pass `overwrite=True`.')
        '--lr-final needs --lr-schedule cosine; or pass --overwrite.'
    """

    def flag(found: re.Match[str]) -> str:
        name, value = found.groups()
        spelled = _SPELLED.get(name, f"--{name.replace('_', '-')}")
        return spelled if value in (None, "True") else f"{spelled} {value.strip(chr(34))}"

    return _QUOTED.sub(flag, message)


def print_line(line: str) -> None:
    """Print a line of progress text from the library."""
    print(with_flags(line), flush=True)


def with_home(command: Callable[..., None]) -> Callable[..., None]:
    """A command that reads a leading `~` in its paths, which the shell leaves in `--run=~/runs`."""

    def expanded(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(expanded, value))
        return user_path(value) if isinstance(value, Path) else value

    @functools.wraps(command)
    def call(*arguments: Any, **named: Any) -> None:
        command(*map(expanded, arguments), **{name: expanded(value) for name, value in named.items()})

    return call


def usage_message(error: CycloptsError) -> str:
    """Wrong use of the command line in one sentence, with the flag that was probably meant."""
    if isinstance(error, UnusedCliTokensError) and error.command_chain == ("train",):
        texts = " ".join(error.unused_tokens or ())
        return f"train takes no argument without a flag, but found {texts}. To train on this text, use --train {texts}."
    if isinstance(error, UnknownOptionError):
        name = (error.token.keyword or error.token.value).partition("=")[0]
        known = {flag for argument in error.argument_collection for flag in argument.names}
        meant = [flag for flag, others in ELSEWHERE.items() if name.lstrip("-") in others.split() and flag in known]
        if meant:
            return f"Unknown option: {name}. Did you mean {meant[0]}?"
    message = " ".join(str(error).split())
    return message if message.endswith((".", "?")) else f"{message}."


def print_note(sentence: str) -> None:
    """Print a remark to standard error."""
    print(f"keraslm: {with_flags(sentence)}", file=sys.stderr)


def open_files(names: Sequence[str], errors: str, encoding: str) -> TextFiles:
    """The texts of a command, standard input if there are none; says which files of a folder they are.

    A file that is no text is refused here, before anything is printed.
    """
    from keraslm.text.files import TextFiles
    from keraslm.text.paths import STDIN

    texts = TextFiles(names or (STDIN,), errors, encoding)
    for note in texts.notes:
        print_note(note)
    for file in texts.files:
        file.check()
    return texts


def _check_text(_: Any, text: Any) -> None:
    if isinstance(text, str) and _OPTION.fullmatch(text) and text not in AFTER_OPTIONS:
        raise MistypedOptionError(msg=f"Unknown option: {text}; put -- before it if it is a text or a file.")


class MistypedOptionError(CycloptsError):
    """A mistyped option, where cyclopts would take it for a text. No ValueError, which cyclopts would reword."""


# What follows `--` on the command line: no options.
AFTER_OPTIONS: set[str] = set()

# A text, or the name of one, that may begin with a hyphen, as in "- the company". A lone hyphen is standard input.
TextName = Annotated[str, Parameter(allow_leading_hyphen=True, validator=_check_text)]


def _integer(_: Any, tokens: Sequence[Any]) -> int:
    """cyclopts itself would round 1.5."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is not an integer") from None


def _count(text: str) -> int:
    """An integer; `500k` and `10M` are thousands and millions."""
    factor = {"k": 1000, "M": 1_000_000}.get(text[-1:], 1)
    return int(text if factor == 1 else text[:-1]) * factor


def _weights(_: Any, tokens: Sequence[Any]) -> str | int:
    text = tokens[0].value
    try:
        return str(text) if text in ("last", "best") else _count(text)
    except ValueError:
        raise ValueError(f"{text!r} is not last, best or a number of words, such as 1M") from None


def _integers(_: Any, tokens: Sequence[Any]) -> tuple[int, ...]:
    try:
        return tuple(_count(part) for part in tokens[0].value.split(","))
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is not a list of integers, such as 1150,1150,400") from None


Backend = Literal["jax", "tensorflow", "torch"]
Errors = Literal["strict", "replace"]
Integer = Annotated[int, Parameter(converter=_integer)]
OptionalInteger = Annotated[int | None, Parameter(converter=_integer)]
Switch = Annotated[bool, Parameter(negative="")]
Json = Annotated[bool, Parameter(name="--json", negative="")]
Provider = Literal["cpu", "cuda", "auto"]
TableFormat = Annotated[Literal["tsv", "csv", "raw"], Parameter(name="--format")]
Weights = Annotated[Literal["last", "best"] | int, Parameter(converter=_weights)]
Others = Annotated[tuple[Path, ...], Parameter(name="--with", negative="")]  # model files beside the first one


def flags_of(section: Any, title: str, order: int, label: str = "Small", omitted: Collection[str] = ()) -> Any:
    """A flat parameter type with one optional flag per field of a section of a configuration, and its empty value.

    The help texts state the values of the section, after `label`. `omitted` fields have no flag.
    """
    config, fields = type(section), []
    for f in (f for f in dataclasses.fields(section) if f.name not in omitted):
        kind, _ = split_optional(hints(config)[f.name])  # type: ignore[arg-type]
        numbers = get_origin(kind) is tuple and get_args(kind)[0] is int
        hint = str if numbers else kind
        text = with_flags(f.metadata["help"])
        if type(default := getattr(section, f.name)) in (int, float):
            text += f" {label}: {default:g}."
        flag = Annotated[hint | None, _parameter(text, kind, numbers)]  # type: ignore[valid-type]
        fields.append((f.name, flag, dataclasses.field(default=None, metadata=f.metadata)))
    made = dataclasses.make_dataclass(f"{config.__name__}Flags", fields, frozen=True)
    group = Group(title, sort_key=order)
    return Annotated[made, Parameter(name="*", group=group, accepts_keys=True)], made()


def _parameter(text: str, kind: Any, numbers: bool) -> Parameter:
    if numbers:
        return Parameter(help=text, converter=_integers)
    if get_origin(kind) is tuple:
        return Parameter(help=text, negative="", consume_multiple=True)
    return Parameter(help=text, converter=_integer if kind is int else None)


ModelFlags: Any
DataFlags: Any
TrainFlags: Any
DataFlags, NO_DATA = flags_of(DataConfig(), "Data (default: from the preset)", 1)
ModelFlags, NO_MODEL = flags_of(ModelConfig(), "Model (default: from the preset)", 2)
TrainFlags, NO_TRAIN = flags_of(TrainConfig(), "Training (default: from the preset)", 3)


def given(*flags: Any) -> dict[str, Any]:
    """The flags that were given, as fields of a configuration."""
    values = {f: getattr(part, f.name) for part in flags for f in dataclasses.fields(part)}
    return {
        f.name: None if f.metadata["zero_is_none"] and value == 0 else value
        for f, value in values.items()
        if value is not None
    }
