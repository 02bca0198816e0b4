"""Every error that keraslm raises on purpose, with the exit code of the command line.

    KeraslmError                 1   something failed at run time
    ├── NonFiniteLossError       1   training diverged
    ├── ExportError              1   a conversion failed its own verification
    ├── Interrupted              130, 143   a signal asked the training to stop: SIGINT, SIGTERM
    ├── WriteError               1   something could not be written: the disk is full, fails or is read-only
    ├── UsageError               2   the program was used wrongly
    │   ├── ConfigError          2   a configuration value out of range, or a contradiction
    │   └── MissingPackageError  2   an optional package that this job needs is not installed
    └── InputError               2   something given to the program is not what it should be
        ├── TextError            2   a text: missing, not UTF-8, empty, too short
        ├── TokenizerError       2   a malformed tokenizer.json
        ├── RunError             2   a run folder: missing, damaged, of another format
        └── ModelFileError       2   a model file: missing, damaged, not one of ours

A message is one or more sentences that say what was found, where, what was expected and what to do. It is one line of
bounded length, whatever it quotes: names and values in it come from files that anybody may have written. Where a list
ends it, each line of the list is an argument of its own.
"""

import reprlib
import signal

LONGEST = 2000  # characters of a line of a message

_VALUES = reprlib.Repr()
_VALUES.maxstring = _VALUES.maxother = _VALUES.maxlong = 80


def shown(value: object) -> str:
    """A value from a file as a message quotes it: its `repr`, cut short where it is long or deep.

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
        *lines: the message; more than one line only where it ends with a list.

    Example:
        >>> str(TextError("a\\nb.txt: 0 tokens."))
        'a\\\\nb.txt: 0 tokens.'
    """

    exit_code = 1

    def __str__(self) -> str:
        """The lines; in each, what does not print (a line end, a terminal's escape, half a character) is escaped."""
        return "\n".join(map(_line, self.args))


class NonFiniteLossError(KeraslmError):
    """The training or validation loss became NaN or infinite."""


class ExportError(KeraslmError):
    """A converted model did not pass its verification, or the conversion itself failed."""


class Interrupted(KeraslmError):  # noqa: N818, nothing went wrong
    """A signal asked for an end, and what was to be saved is saved.

    Args:
        message: what was saved, and how to go on.
        number: of the signal; the exit code is 128 more.
    """

    def __init__(self, message: str, number: int = signal.SIGINT):
        super().__init__(message)
        self.exit_code = 128 + number


class WriteError(KeraslmError):
    """A file or folder could not be written: the disk is full, fails or is read-only."""


class UsageError(KeraslmError):
    """Wrong use of a command or function."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration value is out of range, or two values contradict each other."""


class MissingPackageError(UsageError):
    """A package that is needed for this job is not installed; the message holds the pip line."""


class InputError(KeraslmError):
    """Bad input: a file or an array that is not what it should be."""

    exit_code = 2


class TextError(InputError):
    """A text that cannot be read, or that is too short for what was asked."""


class TokenizerError(InputError):
    """A tokenizer file that cannot be used."""


class RunError(InputError):
    """A run folder that is missing, damaged or of another format."""


class ModelFileError(InputError):
    """A model file that is missing, damaged or not written by keraslm."""
