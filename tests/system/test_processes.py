"""Worker processes: order of results, repetition after a kill, isolation from the working directory, and their end."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from functools import partial
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest

from keraslm.errors import KeraslmError, TextError
from keraslm.system.processes import TRIES, ProcessDiedError, Workers
from tests.support.bulk import is_running, wait_until
from tests.support.dying import square_or_die
from tests.support.program import environment


def squares(folder: Path, count: int = 2) -> Workers:
    return Workers(count, partial, square_or_die, folder)


def test_results_come_in_order_and_few_items_are_read_ahead(tmp_path):
    read = []
    with squares(tmp_path) as workers:
        results = workers.map(read.append(number) or number for number in range(30))
        assert next(results) == 0
        assert len(read) <= 5
        assert list(results) == [number**2 for number in range(1, 30)]


def test_work_of_a_killed_process_is_repeated_and_nothing_else(tmp_path):
    for number in (3, 4):
        (tmp_path / f"die-{number}").touch()
    with squares(tmp_path) as workers:
        assert list(workers.map(range(8))) == [number**2 for number in range(8)]
    started = (tmp_path / "log").read_text().split()
    assert sorted(started) == sorted("01234567" + "34")


def test_work_that_kills_every_process_fails_alone_with_a_sentence(tmp_path):
    (tmp_path / "poison-1").touch()
    with squares(tmp_path) as workers:
        futures = [workers.submit(number) for number in range(4)]
        with pytest.raises(ProcessDiedError, match=r"^The process was killed by SIGKILL, 3 times\. Is there memory"):
            futures[1].result()
        assert [future.result() for future in (*futures[:1], *futures[2:])] == [0, 4, 9]
    assert (tmp_path / "log").read_text().split().count("1") == TRIES


def test_an_error_is_raised_here_as_the_same_class(tmp_path):
    (tmp_path / "fault-1").touch()
    with squares(tmp_path, 1) as workers:
        with pytest.raises(TextError, match=r"^1 is bad\.$"):
            workers.submit(1).result()
        assert workers.submit(2).result() == 4
    with Workers(1, int, "no number") as workers:
        for _ in range(2):
            with pytest.raises(ValueError, match="invalid literal"):
                workers.submit(1).result()


def test_a_process_that_ends_by_itself_is_reported_with_its_code():
    with (
        Workers(1, partial, os._exit) as workers,
        pytest.raises(ProcessDiedError, match="The process ended with code 3"),
    ):
        workers.submit(3).result()


def test_a_process_that_cannot_be_started_is_an_error(monkeypatch):
    def fail(self):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(SpawnProcess, "start", fail)
    with (
        Workers(1, partial, abs) as workers,
        pytest.raises(KeraslmError, match=r"cannot be started .* fewer `workers`"),
    ):
        workers.submit(1).result()


def test_the_end_of_the_block_kills_what_is_running():
    before = multiprocessing.active_children()
    with Workers(2, partial, time.sleep) as workers:
        for _ in range(4):
            workers.submit(60)
        wait_until(lambda: len(multiprocessing.active_children()) == len(before) + 2)
    assert multiprocessing.active_children() == before


SCRIPT = """
import sys, time
from functools import partial
from keraslm.system.processes import Workers
print("main", flush=True)  # without `if __name__ == "__main__"`
sys.path.insert(0, "")  # as in an interactive session
with Workers(1, partial, {function}) as workers:
    print(workers.submit({item!r}).result(), flush=True)
    {then}
"""


def start(folder: Path, **fields: str) -> subprocess.Popen[str]:
    """Start the script, which is not in the working directory."""
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "script.py").write_text(SCRIPT.format(**fields))
    command = [sys.executable, str(folder / "elsewhere" / "script.py")]
    return subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True)


def test_workers_import_nothing_from_the_working_directory_and_no_main_program(tmp_path):
    names = ["random", "tokenizers", "onnxruntime", "pickle", "keraslm"]
    for name in names:
        (tmp_path / f"{name}.py").write_text("open('executed', 'w')")
    out, _ = start(tmp_path, function="eval", item=f"[__import__(n).__name__ for n in {names}]", then="").communicate()
    assert out == f"main\n{names}\n"
    assert not (tmp_path / "executed").exists()


def test_workers_load_no_framework():
    with Workers(1, partial, eval) as workers:
        loaded = workers.submit("[*__import__('sys').modules]").result()
    assert not {"keras", "jax", "tensorflow", "torch", "numpy"} & set(loaded)


def test_workers_end_when_this_process_is_killed(tmp_path):
    process = start(tmp_path, function="eval", item="__import__('os').getpid()", then="time.sleep(60)")
    assert process.stdout.readline() == "main\n"
    worker = int(process.stdout.readline())
    process.kill()
    process.communicate()
    wait_until(lambda: not is_running(worker))
