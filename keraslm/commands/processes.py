"""`keraslm train --devices N` on torch, which trains with one process per device: start them and wait."""

import math
import os
import signal
import subprocess
import sys
import time
from types import FrameType

from keraslm.system.processes import available_cores
from keraslm.system.ranks import local_environments

PATIENCE = 30.0  # seconds that the others have to end after one has failed


def train_in_processes(count: int, arguments: list[str]) -> int:
    """Run the same command line in several processes, with the variables of torchrun; return the exit code.

    If one fails, the others are stopped. SIGTERM is passed on; Ctrl-C in a terminal reaches every process by itself.

    Args:
        count: number of processes.
        arguments: of the command line, after `keraslm`.
    """
    children: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        for child in children:
            child.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for place in local_environments(count):
        environment = os.environ | place
        environment.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // count)))
        command = [sys.executable, "-P", "-m", "keraslm", *arguments]
        children.append(
            subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, preexec_fn=_default_sigint)
        )
    return _wait(children)


def _default_sigint() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _wait(children: list[subprocess.Popen[bytes]]) -> int:
    """Wait for all processes; the exit code of the first that failed, as a shell counts it, else 0."""
    code, deadline = 0, math.inf
    while any(child.poll() is None for child in children):
        failed = [child.returncode for child in children if child.returncode]
        if failed and not code:
            code, deadline = failed[0], time.monotonic() + PATIENCE
            for child in children:
                child.terminate()
        if time.monotonic() > deadline:
            for child in children:
                child.kill()
        time.sleep(0.1)
    code = code or next((child.returncode for child in children if child.returncode), 0)
    return code if code >= 0 else 128 - code
