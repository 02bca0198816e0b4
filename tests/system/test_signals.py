"""SIGTERM and SIGINT, sent once and twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from keraslm.system.signals import StopSignals, ended_by_sigterm
from tests.support.program import environment, start

INT, TERM = signal.SIGINT, signal.SIGTERM
INTERRUPTING = "keraslm: interrupted: finishing this window and saving; press Ctrl-C again to leave at once\n"
TERMINATING = "keraslm: terminated: finishing this window and saving\n"

BEGIN = """
import ctypes, os, signal, sys
from keraslm.system.signals import StopSignals
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
"""
# Runs until its standard input ends, then prints what it received.
WAITING = """
with StopSignals() as signals:
    print("within", flush=True)
    sys.stdin.read()
print(signals.received and signals.received.name)
"""
# Python's own handlers cannot run: the main thread never returns from C.
STUCK = """
with StopSignals():
    print("within", flush=True)
    while True:
        ctypes.CDLL(None).pause()
"""
# Standard error is a full pipe without a reader.
UNREAD = """
ears, mouth = os.pipe()
os.set_blocking(mouth, False)
try:
    while True:
        os.write(mouth, bytes(4096))
except BlockingIOError:
    os.set_blocking(mouth, True)
os.dup2(mouth, 2)
"""


@pytest.fixture
def child():
    started = []

    def begin(program: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", BEGIN + program]
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment(), text=True)
        started.append(process)
        assert process.stdout.readline() == "within\n", process.stderr.read()
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def sent(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Send a signal; returns the line that answers it."""
    process.send_signal(number)
    return process.stderr.readline()


@pytest.fixture
def handlers():
    """The handlers of a process in the foreground."""
    before = {number: signal.getsignal(number) for number in (INT, TERM)}
    signal.signal(INT, signal.default_int_handler)
    signal.signal(TERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("numbers", [(), (INT,), (TERM,), (TERM, INT), (INT, TERM)], ids=str)
def test_each_first_signal_is_logged_and_the_first_of_all_is_received(child, numbers):
    process = child(WAITING)
    for number in numbers:
        assert sent(process, number) == (INTERRUPTING if number is INT else TERMINATING)
    for _ in range(2 * (TERM in numbers)):  # further ones change nothing
        process.send_signal(TERM)
    assert process.communicate() == (f"{numbers[0].name if numbers else None}\n", "")
    assert process.returncode == 0


@pytest.mark.parametrize("program", [WAITING, STUCK], ids=["in Python", "in C"])
def test_the_second_sigint_leaves_at_once(child, program):
    process = child(program)
    assert sent(process, INT) == INTERRUPTING
    assert sent(process, INT) == "keraslm: left at once; the last checkpoint is intact\n"
    assert process.wait() == 130
    assert process.stdout.read() == ""


def test_the_second_sigint_leaves_even_if_nobody_reads_standard_error(child):
    process = child(UNREAD + STUCK)
    while process.poll() is None:
        process.send_signal(INT)
    assert process.returncode == 130


def test_a_signal_to_a_forked_child_does_not_reach_its_parent():
    outcome = start(
        command=[
            sys.executable,
            "-c",
            f"""{BEGIN}
with StopSignals() as signals:
    for number in (signal.SIGTERM, signal.SIGINT):
        child = os.fork()
        if not child:
            assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            os._exit(0)
        print(os.WTERMSIG(os.waitpid(child, 0)[1]))
print(signals.received)
""",
        ]
    )
    assert (outcome.out, outcome.err) == (f"{TERM.value}\n{INT.value}\nNone\n", "")


def test_the_end_of_the_block_restores_everything(handlers):
    class Error(Exception):
        pass

    ears, mouth = os.pipe()
    os.set_blocking(mouth, False)
    signal.set_wakeup_fd(mouth)
    threads, mask = threading.active_count(), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with pytest.raises(Error), StopSignals():
        assert signal.getsignal(INT) is not signal.default_int_handler
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask | {INT}  # the second thread takes it
        assert threading.active_count() == threads + 1
        raise Error
    assert (signal.getsignal(INT), signal.getsignal(TERM)) == (signal.default_int_handler, signal.SIG_DFL)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    assert threading.active_count() == threads
    assert signal.set_wakeup_fd(-1) == mouth
    os.close(ears)
    os.close(mouth)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(INT)


def test_blocks_can_be_nested_and_the_inner_one_receives(handlers):
    outer_lines, inner_lines = [], []
    with StopSignals(outer_lines.append) as outer:
        with StopSignals(inner_lines.append) as inner:
            os.kill(os.getpid(), TERM)
            assert inner.received is TERM
        assert outer.received is None
        os.kill(os.getpid(), TERM)
        assert outer.received is TERM
    assert len(outer_lines) == len(inner_lines) == 1


def test_a_signal_pending_at_the_end_is_received(handlers):
    with StopSignals(lambda line: None) as signals:
        signal.raise_signal(INT)  # to this thread alone, where it is blocked
    assert signals.received is INT


def test_a_line_that_cannot_be_logged_stops_nothing(child):
    refusing = "def refuse(line):\n    print('refused', flush=True)\n    raise BrokenPipeError\n"
    process = child(refusing + STUCK.replace("StopSignals()", "StopSignals(refuse)"))
    process.send_signal(INT)
    assert process.stdout.readline() == "refused\n"
    assert sent(process, INT) == "keraslm: left at once; the last checkpoint is intact\n"
    assert process.wait() == 130


def test_an_ignored_signal_stays_ignored(handlers):
    signal.signal(INT, signal.SIG_IGN)
    with StopSignals() as signals:
        signal.raise_signal(INT)
        assert signal.getsignal(INT) is signal.SIG_IGN
        assert INT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signals.received is None
    assert signal.getsignal(INT) is signal.SIG_IGN


def test_nothing_is_installed_outside_the_main_thread(handlers):
    def within():
        with StopSignals() as signals, ended_by_sigterm():
            seen.extend([signals.received, signal.getsignal(INT), signal.getsignal(TERM)])

    seen = []
    thread = threading.Thread(target=within)
    thread.start()
    thread.join()
    assert seen == [None, signal.default_int_handler, signal.SIG_DFL]


def test_ended_by_sigterm_cleans_up_and_restores_the_handler(handlers):
    cleaned = []
    with pytest.raises(SystemExit) as caught, ended_by_sigterm():
        try:
            os.kill(os.getpid(), TERM)
        finally:
            cleaned.append(True)
    assert (caught.value.code, cleaned) == (143, [True])
    assert signal.getsignal(TERM) is signal.SIG_DFL
