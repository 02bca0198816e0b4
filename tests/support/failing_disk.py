"""A disk whose k-th operation fails, for every k: `failing_disk.c`, preloaded into separate processes.

`trials` forks one process per trial; `environment` serves any program. Both need a C compiler and Linux.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import itertools
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_suffix(".c")
FAULTS = ("full", "full-once", "half", "io", "io-once", "read-only")  # the process receives an OSError
KILLS = ("kill-before", "kill-half", "kill-after")
KINDS = FAULTS + KILLS
DONE, KILLED = "done", "killed"
COUNTER = 16  # bytes: operations counted, and whether one failed, int64 each


class UnavailableError(RuntimeError):
    """No failing disk on this machine, and why."""


@dataclass(frozen=True)
class Trial:
    """The result of one action with one fault."""

    kind: str  # of `KINDS`
    point: int  # the number of the operation that failed, from 1
    ended: str  # "done", "killed", or the name of the exception
    message: str  # of the exception
    folder: Path  # after the action

    def files(self) -> dict[str, bytes]:
        """Contents of all files, by path relative to the folder."""
        paths = [path for path in self.folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in paths}

    def strays(self) -> list[str]:
        """Names of temporary files, which start with a dot."""
        return sorted(path.name for path in self.folder.rglob(".*"))


@functools.cache
def library() -> Path:
    """The compiled library; raises `UnavailableError` without a C compiler or preloading."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        raise UnavailableError("a disk that fails needs a C compiler and Linux, for LD_PRELOAD")
    folder = tempfile.mkdtemp(prefix="failing-disk-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "failing_disk.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-U_FORTIFY_SOURCE", "-o", str(path), str(SOURCE), "-ldl"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
        raise UnavailableError(f"failing_disk.c cannot be compiled: {built.stderr}")
    look = "import ctypes; print(ctypes.CDLL(None).failing_disk_count())"
    found = subprocess.run([sys.executable, "-c", look], env=_preloaded(path), capture_output=True, text=True)
    if found.stdout.strip() != "0":
        raise UnavailableError(f"failing_disk.so cannot be preloaded: {found.stderr}")
    return path


def environment(folder: Path, point: int, kind: str, counter: Path) -> dict[str, str]:
    """Environment in which the operation number `point` below a folder fails, counted over a process and its children.

    `point` 0 only counts. `counter` is a file that `fired` reads; it is reset here.
    """
    counter.write_bytes(bytes(COUNTER))
    under = {"FAIL_UNDER": str(folder.resolve()), "FAIL_AT": str(point), "FAIL_HOW": kind, "FAIL_COUNTER": str(counter)}
    return _preloaded(library()) | under


def fired(counter: Path) -> bool:
    """Whether the fault happened."""
    return counter.read_bytes()[8] != 0


def trials(
    prepare: Callable[[Path], object],
    act: Callable[[Path], object],
    folder: Path,
    kinds: tuple[str, ...] = KINDS,
    seconds: float = 120,
) -> list[Trial]:
    """Repeat an action with its 1st, 2nd, ... disk operation failing, until there is no such operation.

    Each trial has its own process and its own folder below `folder`: `prepare` fills it, and the disk fails below it
    while `act` runs; both must be functions of a module. The last trial of each kind, without a fault, must succeed and
    is not returned. Skips the test if the failing disk is unavailable.
    """
    try:
        environ = _preloaded(library())
    except UnavailableError as error:
        pytest.skip(str(error))
    job = pickle.dumps((prepare, act, folder, kinds))
    command = [sys.executable, "-m", "tests.support.failing_disk"]
    done = subprocess.run(command, input=job, env=environ, capture_output=True, check=False, timeout=seconds)
    assert done.returncode == 0, done.stderr.decode()
    found = [Trial(*row, Path(place)) for *row, place in json.loads(done.stdout.splitlines()[-1])]
    assert {trial.kind for trial in found} == set(kinds), "a fault was never met"
    return found


def nothing(folder: Path) -> None:
    """Leave the folder empty."""


def assert_no_strays(trial: Trial) -> None:
    """Temporary files are gone if the process could remove them."""
    if trial.kind in FAULTS and trial.kind != "read-only":
        assert trial.strays() == [], trial


def assert_reported(trial: Trial, error: str = "OSError") -> None:
    """A fault raises an error with the message of the system; SIGKILL ends the process."""
    assert trial.ended == (KILLED if trial.kind in KILLS else error), trial
    messages = {"full": "No space left", "half": "No space left", "io": "Input/output error", "read-only": "Read-only"}
    assert trial.kind in KILLS or messages[trial.kind.removesuffix("-once")] in trial.message, trial


def _preloaded(path: Path) -> dict[str, str]:
    search = os.pathsep.join(entry for entry in sys.path if entry)
    return os.environ | {"LD_PRELOAD": str(path), "PYTHONPATH": search}


def _work() -> None:
    prepare, act, folder, kinds = pickle.load(sys.stdin.buffer)
    rows = [row for kind in kinds for row in _points(prepare, act, folder / kind, kind)]
    print(json.dumps(rows))


def _points(prepare, act, folder: Path, kind: str) -> Iterator[tuple[str, int, str, str, str]]:
    disk = ctypes.CDLL(None)
    for point in itertools.count(1):
        place = folder / str(point)
        place.mkdir(parents=True)
        disk.failing_disk_arm(os.fsencode(place.resolve()), ctypes.c_long(0), b"")  # no flush takes time
        prepare(place)
        disk.failing_disk_disarm()
        ended, message = _in_a_fork(disk, act, place, point, kind)
        if not disk.failing_disk_fired():
            assert ended == DONE, f"without a fault: {ended}: {message}"
            return
        yield kind, point, ended, message, str(place)


def _in_a_fork(disk: ctypes.CDLL, act, place: Path, point: int, kind: str) -> tuple[str, str]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        disk.failing_disk_arm(os.fsencode(place.resolve()), ctypes.c_long(point), kind.encode())
        ended, message = DONE, ""
        try:
            act(place)
        except BaseException as error:
            ended, message = type(error).__name__, str(error)
        os.write(writing, json.dumps([ended, message]).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = pipe.read()
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return KILLED, ""
    assert status == 0, f"{kind} at {point}: wait status {status}"
    ended, message = json.loads(answer)
    return ended, message


if __name__ == "__main__":
    _work()
