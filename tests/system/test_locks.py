"""One trainer per run folder, until its process ends, however it ends."""

from __future__ import annotations

import errno
import os
import platform
import re
import subprocess
import sys

import pytest

from keraslm.errors import RunError
from keraslm.system.locks import folder_lock
from tests.support.program import environment

fcntl = pytest.importorskip("fcntl", reason="Windows has no flock")

# Each holds the lock of the folder until standard input ends.
ALONE = "print('locked', flush=True); os.read(0, 1)"
FORKED = """
gate = os.dup(0)
def child():
    print('locked', flush=True)
    os.read(gate, 1)
multiprocessing.get_context('fork').Process(target=child).start()
os.read(gate, 1)
"""
STARTED = """
subprocess.Popen([sys.executable, '-c', 'import os; print("locked", flush=True); os.read(0, 1)'], close_fds=False)
os.read(0, 1)
"""


@pytest.fixture
def holder(tmp_path):
    """Start a process that holds the lock in one of these ways, and wait until it does."""
    started = []

    def start(way: str = ALONE) -> subprocess.Popen[bytes]:
        code = "import multiprocessing, os, pathlib, subprocess, sys\nfrom keraslm.system.locks import folder_lock\n"
        code += "with folder_lock(pathlib.Path(sys.argv[1])): exec(sys.argv[2], globals())\n"
        command, pipe = [sys.executable, "-c", code, str(tmp_path), way], subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment())
        started.append(process)
        assert process.stdout.readline() == b"locked\n"
        return process

    yield start
    for process in started:
        process.stdin.close()  # which also ends its children
        process.wait()
        process.stdout.close()


def assert_free(folder):
    with folder_lock(folder):
        pass


def assert_locked(folder, match="is locked by process"):
    with pytest.raises(RunError, match=match), folder_lock(folder):
        raise AssertionError("two processes hold the lock")


def test_a_second_process_is_refused_with_a_description_of_the_first(holder, tmp_path):
    process = holder()
    with pytest.raises(RunError) as caught, folder_lock(tmp_path):
        raise AssertionError("two processes hold the lock")
    who = f"{tmp_path} is locked by process {process.pid} on host {platform.node()}, which has been working there"
    remedy = "Wait for it, or choose a different `run`."
    assert re.fullmatch(rf"{re.escape(who)} since \d{{4}}-\d\d-\d\d \d\d:\d\d\. {remedy}", str(caught.value))
    assert caught.value.exit_code == 2
    process.communicate()
    assert_free(tmp_path)


def test_the_same_process_is_refused_and_keeps_its_first_lock(tmp_path):
    with folder_lock(tmp_path):
        assert_locked(tmp_path, f"process {os.getpid()} ")
        assert_locked(tmp_path)
        (tmp_path / ".lock").write_bytes(b"\xff\x00")
        assert_locked(tmp_path, r"is locked by another process\. Wait for it")
    assert_free(tmp_path)


@pytest.mark.parametrize("way", [ALONE, FORKED, STARTED], ids=["alone", "with a forked child", "with a program"])
def test_the_lock_of_a_killed_process_is_free(holder, tmp_path, way):
    process = holder(way)
    assert_locked(tmp_path)
    process.kill()
    process.wait()
    assert (tmp_path / ".lock").exists()
    assert_free(tmp_path)


def test_a_forked_child_that_leaves_the_block_does_not_release_the_lock(holder, tmp_path):
    holder("if not os.fork(): sys.exit()\nos.wait()\n" + ALONE)
    assert_locked(tmp_path)


def test_an_exception_releases_the_lock_and_leaves_no_file(tmp_path):
    with pytest.raises(ZeroDivisionError), folder_lock(tmp_path):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    assert_free(tmp_path)


@pytest.mark.parametrize("content", [b"", b"process 1 on host other\n", b"\xff\x00\n" * 1000])
def test_the_content_of_a_lock_file_does_not_lock(tmp_path, content):
    (tmp_path / ".lock").write_bytes(content)
    with folder_lock(tmp_path):
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on host ")


def test_an_unreadable_description_is_another_process(tmp_path):
    with folder_lock(tmp_path):
        (tmp_path / ".lock").write_bytes(b"\xff\x00")
        assert_locked(tmp_path, r"is locked by another process\. Wait for it")


def fail_to_lock(monkeypatch, number):
    def flock(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_reported_and_does_not_stop_the_block(tmp_path, monkeypatch, number):
    fail_to_lock(monkeypatch, number)
    lines = []
    with folder_lock(tmp_path, lines.append):
        assert len(lines) == 1 and lines[0].startswith(f"{tmp_path}: this file system has no locks")


def test_other_disk_errors_pass_through(tmp_path, monkeypatch):
    fail_to_lock(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output error"), folder_lock(tmp_path):
        pass
