"""SIGTERM and SIGINT at the command line: exit codes, one sentence, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from keraslm.errors import Interrupted
from keraslm.scoring import session
from tests.support.program import START, assert_refused, environment
from tests.support.tiny import text_lines


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_is_one_sentence_and_the_code_of_its_signal(program, fake, monkeypatch, number, code):
    def interrupt(*arguments):
        raise Interrupted("Stopped after window 3; a checkpoint is saved.", number)

    monkeypatch.setattr(session, "ModelSession", interrupt)
    assert_refused(program("show", fake), "Stopped after window 3", code=code)


def test_sigterm_ends_any_command_with_143(program, fake, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(session, "ModelSession", lambda *arguments: os.kill(os.getpid(), signal.SIGTERM))
    outcome = program("show", fake)
    assert (outcome.code, outcome.err) == (128 + signal.SIGTERM, "keraslm: terminated\n")
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_training_that_is_terminated_while_it_reads_leaves_nothing(tmp_path):
    pipe, temporaries = subprocess.PIPE, tmp_path / "tmp"
    temporaries.mkdir()
    process = subprocess.Popen(
        [*START, "train", "--train", "-", "--run", "run", "--cache", str(temporaries)],
        cwd=tmp_path,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        env=environment() | {"TMPDIR": str(temporaries)},
    )
    text = "".join(f"{line}\n" for line in text_lines(30, seed=3)).encode()
    process.stdin.write(text * (2**20 // len(text)))  # more than a pipe holds: from here on it is being read
    process.stdin.flush()
    process.send_signal(signal.SIGTERM)
    process.stdin.close()  # Python may have begun to wait for more just before the signal came
    assert process.wait() == 143
    assert process.stderr.read() == b"keraslm: terminated\n"
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]
    assert list(temporaries.iterdir()) == []
    process.stdout.close()
    process.stderr.close()
