"""The command table, and the one place where an exception becomes a sentence and an exit code.

Exit codes: 0 done, 1 failed at run time, 2 wrong use or bad input, 130 interrupted (SIGINT), 143 terminated (SIGTERM).
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable

from cyclopts import App, CycloptsError

from keraslm.commands.average import average
from keraslm.commands.evaluate import evaluate
from keraslm.commands.export import export
from keraslm.commands.filter import filter as filter_command
from keraslm.commands.flags import AFTER_OPTIONS, usage_message, with_flags, with_home
from keraslm.commands.generate import generate
from keraslm.commands.lattice import lattice
from keraslm.commands.pairs import pairs
from keraslm.commands.predict import predict
from keraslm.commands.rescore import rescore
from keraslm.commands.score import score
from keraslm.commands.serve import serve
from keraslm.commands.show import show
from keraslm.commands.tokenize import tokenize
from keraslm.commands.train import train
from keraslm.errors import KeraslmError, UsageError
from keraslm.system import VERSION
from keraslm.system.backend import broken_package
from keraslm.system.signals import INTERRUPTED, TERMINATED, ended_by_sigterm
from keraslm.text.paths import STDIN

DEBUG = "--debug"
_NO_MEMORY = re.compile(  # of JAX, TensorFlow, torch and onnxruntime
    r"RESOURCE_EXHAUSTED|out of memory|OOM when|n.t allocate memory|failed to allocate|bad_alloc", re.IGNORECASE
)

app = App(
    name="keraslm",
    version=VERSION,
    help="Train an LSTM language model, export it to one ONNX file, and score any text with it.",
    help_format="rst",
    suppress_keyboard_interrupt=False,
    help_epilogue=f"{DEBUG}, anywhere on the command line, shows the traceback of an error. An error begins with its "
    "kind, such as TextError: docs/reference/errors.md has causes and remedies.",
)
VERBS: tuple[Callable[..., None], ...] = (
    *(train, evaluate, average, export),
    *(score, filter_command, rescore, lattice, pairs, generate, predict, serve, tokenize, show),
)
for _order, _verb in enumerate(VERBS):
    app.command(with_home(_verb), sort_key=_order)


def main() -> None:
    """Entry point of the program `keraslm`."""
    _prepare_streams()
    sys.exit(run(sys.argv[1:]))


def _prepare_streams() -> None:
    """Open closed standard streams on the null device, and escape characters that the output cannot encode."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))
        elif number:
            getattr(sys, name).reconfigure(errors="backslashreplace")


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    place = arguments.index("--") if "--" in arguments else len(arguments)
    options, texts = arguments[:place], arguments[place:]
    debug = DEBUG in options
    AFTER_OPTIONS.clear()
    AFTER_OPTIONS.update(texts)
    try:
        _check_empty(options)
        arguments = [*_bind_hyphens([option for option in options if option != DEBUG]), *texts]
        with ended_by_sigterm():
            app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
            sys.stdout.flush()
    except SystemExit as stop:
        if stop.code == TERMINATED:
            print("keraslm: terminated", file=sys.stderr)
        return int(stop.code or 0)
    except BrokenPipeError:
        _abandon_output()
        return 0
    except KeyboardInterrupt:
        print("keraslm: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if debug:
            raise
        return _explain(error)
    return 0


def _bind_hyphens(arguments: list[str]) -> list[str]:
    """Turn `--train -` into `--train=-`: where several values may follow, cyclopts takes a lone hyphen for a flag."""
    bound: list[str] = []
    for argument in arguments:
        if argument == STDIN and bound and bound[-1] in ("--train", "--valid"):
            bound[-1] += f"={STDIN}"
        else:
            bound.append(argument)
    return bound


def _check_empty(arguments: list[str]) -> None:
    """Raise a UsageError for an empty argument, such as that of a variable that is not set.

    A prompt may be empty, and a separator.
    """
    for before, argument in zip(["", *arguments], arguments, strict=False):
        flag = argument[:-1] if argument.startswith("--") and argument.endswith("=") else before if not argument else ""
        if flag == "--separator":
            continue
        if flag and (argument or before.startswith("-")):
            raise UsageError(f"{flag} is empty. Perhaps a variable is not set; leave the flag out to get its default.")
        if flag and arguments[0] not in ("generate", "predict"):
            raise UsageError(f"The argument after {flag} is empty. Perhaps a variable is not set; leave it out.")


def _abandon_output() -> None:
    """Write nothing more to standard output, not even at exit: its reader is gone (`| head`), or the disk is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _memory_shortage(error: BaseException | None) -> str:
    """What an error, or one that it was raised from, says about a lack of memory; else empty."""
    while error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        if isinstance(error, MemoryError) or (_NO_MEMORY.search(text) and not isinstance(error, KeraslmError)):
            return text.rstrip(": ")[:300]
        error = error.__cause__ or error.__context__
    return ""


def _explain(error: Exception) -> int:
    """Print an error as one sentence and return the exit code."""
    try:
        sys.stdout.flush()
    except OSError:  # a closed pipe or a full disk
        _abandon_output()
    error = broken_package(error) or error
    if reason := _memory_shortage(error):
        advice = "Train with a smaller --batch-size, --num-steps, --units or --vocab-size, score with a smaller"
        message, code = f"Not enough memory ({reason}). {advice} --lines-ahead, or use a larger machine.", 1
    elif isinstance(error, KeraslmError):
        message, code = f"{type(error).__name__}: {with_flags(str(error))}", error.exit_code
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
        message, code = f"{error.filename or 'standard output'}: cannot be written ({error.strerror}).", 1
    elif isinstance(error, CycloptsError):
        message, code = f"UsageError: {usage_message(error)} See keraslm --help.", UsageError.exit_code
    else:
        message = f"unexpected {type(error).__name__}: {error}. This is a bug in keraslm; {DEBUG} shows the traceback."
        code = 1
    print(f"keraslm: {message}", file=sys.stderr)
    return code
