"""Work that may kill its worker process; this module imports little, so that the process starts fast."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from keraslm.errors import TextError


def square_or_die(folder: Path, number: int) -> int:
    """The square of a number, unless a file in `folder` makes it fail.

    `die-N` kills the process once, `poison-N` each time; `fault-N` raises an error. `log` lists the started numbers.
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
