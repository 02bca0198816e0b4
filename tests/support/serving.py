"""`keraslm serve` in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

COMMAND = [sys.executable, "-m", "keraslm", "serve"]
_ADDRESS = re.compile(r"^keraslm: serving .* at (http://\S+?)/?$", re.MULTILINE)
LIMIT = 60  # seconds until the server listens


@contextmanager
def serving(model: Path, **options: str) -> Iterator[str]:
    """Serve a model file on a free port; the address, which ends with a slash. `api_key="k"` is `--api-key k`."""
    flags = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    command = [*COMMAND, str(model), "--port", "0", *flags]
    lines: list[str] = []
    told = threading.Event()

    def listen(stream: IO[str]) -> None:
        for line in stream:
            lines.append(line)
            if _ADDRESS.search(line):
                told.set()
        told.set()

    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, encoding="utf-8") as server:
        thread = threading.Thread(target=listen, args=[server.stderr])
        thread.start()
        try:
            told.wait(LIMIT)
            address = _ADDRESS.search("".join(lines))
            assert address, f"The server does not listen:\n{''.join(lines)}"
            _wait_for_model(address[1])
            yield f"{address[1]}/"
        finally:
            server.terminate()
            thread.join()


def _wait_for_model(address: str) -> None:
    until = time.monotonic() + LIMIT
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=LIMIT).close()
        except urllib.error.URLError as error:  # it does not listen yet, or 503: the model is being loaded
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            time.sleep(0.05)
        else:
            return
    raise AssertionError("The server does not load the model.")
