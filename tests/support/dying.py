"""Work for a worker process that may die of it; this module imports little, so that the process starts fast."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from keraslm.errors import TextError


def square_or_die(folder: Path, number: int) -> int:
    """The square of a number.

    Files in `folder` make it fail: `die-N` kills the process, once; `poison-N` kills it each time; `fault-N` raises an
    error. The file `log` lists the numbers that were begun.
    """
    with (folder / "log").open("a") as log:
        log.write(f"{number}\n")
    once = folder / f"die-{number}"
    if once.exists() or (folder / f"poison-{number}").exists():
        once.unlink(missing_ok=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if (folder / f"fault-{number}").exists():
        raise TextError(f"{number} is bad.")
    return number**2
