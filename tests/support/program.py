"""The program `keraslm`, called as a function or started as a separate process."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from keraslm.cli import run

START = [sys.executable, "-c", "from keraslm.cli import main; main()"]

# The most memory that a process has used, in KiB, as an expression for it to evaluate. Not `ru_maxrss`, which on Linux
# starts at the maximum of the parent process.
PEAK = "next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM'))"


@dataclass(frozen=True)
class Outcome:
    """Exit code and what was written to standard output and standard error."""

    code: int
    out: str
    err: str


def environment() -> dict[str, str]:
    """The environment of this process with its module path, and without unbuffered output."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return kept | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def start(*arguments: object, stdin: bytes = b"", cwd=None, command=None) -> Outcome:
    """Run the program, or a different command, in a separate process."""
    line = [*(command or START), *map(str, arguments)]
    done = subprocess.run(line, input=stdin, capture_output=True, cwd=cwd, env=environment(), timeout=120, check=False)
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def program(capfd, monkeypatch) -> Callable[..., Outcome]:
    """Call the program in this process: `program("score", model, stdin=b"text")`."""

    def call(*arguments: object, stdin: bytes = b"") -> Outcome:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin))))
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        return Outcome(code, *capfd.readouterr())

    return call


def assert_refused(outcome: Outcome, *parts: str, code: int = 2) -> None:
    """The exit code, and one sentence on standard error that contains all `parts`."""
    assert outcome.code == code, outcome
    assert outcome.err.startswith("keraslm: ")
    assert outcome.err.count("\n") == 1, outcome.err
    assert "Traceback" not in outcome.err and "unexpected" not in outcome.err
    for part in parts:
        assert part in outcome.err


def strict_json(text: str):
    """Parse JSON without the extensions of Python: no NaN, no Infinity."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)
