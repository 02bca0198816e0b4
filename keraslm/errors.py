"""All errors that keraslm raises on purpose, with the exit code of the command line.

    KeraslmError                 1   something failed at run time
    ├── NonFiniteLossError       1   training diverged
    ├── ExportError              1   a conversion failed its own verification
    ├── Interrupted              130, 143   a signal stopped the training: SIGINT, SIGTERM
    ├── WriteError               1   a file or folder could not be written
    ├── UsageError               2   wrong use of a command or function; also a ValueError
    │   ├── ArgumentTypeError    2   an argument of a wrong type; also a TypeError
    │   ├── ConfigError          2   a configuration value out of range, or a contradiction
    │   └── MissingPackageError  2   an optional package is not installed
    └── InputError               2   bad input; also a ValueError
        ├── InputTypeError       2   token ids or a state of a wrong type or shape; also a TypeError
        ├── TextError            2   a text: missing, not UTF-8, empty, too short
        ├── TokenizerError       2   a tokenizer file that cannot be used
        ├── RunError             2   a run folder: missing, damaged, of a different format
        └── ModelFileError       2   a model file: missing, damaged, not written by keraslm

A message states what was found, where, what was expected and what to do. It names arguments and fields in backquotes,
`min_count` or `overwrite=True`; the command line shows them as flags. A message is one line of bounded length whatever
it quotes, because names and values in it may come from files of unknown origin. If it ends in a list, each line of the
list is an argument of its own.
"""

import reprlib
import signal
from typing import Any

LONGEST = 2000  # characters per line of a message

_VALUES = reprlib.Repr()
_VALUES.maxstring = _VALUES.maxother = _VALUES.maxlong = 80


def shown(value: object) -> str:
    """The `repr` of a value for a message, shortened if it is long or deeply nested.

    Example:
        >>> shown([1, "a"]), len(shown("x" * 1000))
        ("[1, 'a']", 80)
    """
    text = _VALUES.repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


def _line(text: object) -> str:
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 505]} ... {line[-500:]}"


class KeraslmError(Exception):
    """Base of all errors with a message for the user.

    Args:
        *lines: the message; more than one line only if it ends in a list.

    Example:
        >>> str(TextError("a\\nb.txt: 0 tokens."))
        'a\\\\nb.txt: 0 tokens.'
    """

    exit_code = 1

    def __str__(self) -> str:
        """The lines, with characters escaped that cannot be printed: line ends, terminal escapes, lone surrogates."""
        return "\n".join(map(_line, self.args))


class NonFiniteLossError(KeraslmError):
    """The training or validation loss became NaN or infinite."""


class ExportError(KeraslmError):
    """A converted model failed its verification, or the conversion failed."""


class Interrupted(KeraslmError):  # noqa: N818, not an error
    """A signal stopped the process, and everything is saved.

    Args:
        message: what was saved, and how to resume.
        number: of the signal; the exit code is 128 + number.
    """

    def __init__(self, message: str, number: int = signal.SIGINT):
        super().__init__(message)
        self.exit_code = 128 + number


class WriteError(KeraslmError):
    """A file or folder could not be written: the disk is full, fails or is read-only."""


class UsageError(KeraslmError, ValueError):
    """Wrong use of a command or function."""

    exit_code = 2


class ArgumentTypeError(UsageError, TypeError):
    """An argument of a wrong type, or with an item of a wrong type."""


class ConfigError(UsageError):
    """A configuration value is out of range, or two values contradict each other."""


class MissingPackageError(UsageError):
    """A required package is not installed; the message contains the pip command."""


class InputError(KeraslmError, ValueError):
    """Bad input: an unusable file or array."""

    exit_code = 2


class InputTypeError(InputError, TypeError):
    """Token ids or a state of a wrong type or shape."""


class TextError(InputError):
    """A text that cannot be read or is too short."""


class TokenizerError(InputError):
    """A tokenizer file that cannot be used."""


class RunError(InputError):
    """A run folder that is missing, damaged or of a different format."""


class ModelFileError(InputError):
    """A model file that is missing, damaged or not written by keraslm."""


def emptiness(name: str, value: Any) -> str:
    """A message about an argument that selects nothing, `""`, `[]` or `["a", ""]`; empty for others, and for None."""
    parts = value if isinstance(value, list | tuple) else (value,)
    if parts and not any(isinstance(part, str) and not part for part in parts):
        return ""
    return (
        f"`{name}` is empty: {shown(value)}. Perhaps a pattern matched no file, or a variable is not set. If it has a "
        "default, leave it out to get that."
    )
