"""Node.js, which runs the scripts of the page for browsers."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

OLDEST, WITH_WEB_SOCKET = 20, 22  # major versions


def node(web_socket: bool = False) -> list[str]:
    """The command of Node.js, with the class `WebSocket`; the test is skipped if there is none that is new enough."""
    program = shutil.which("node")
    if not program:
        pytest.skip("needs Node.js, which is not installed")
    found = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    major = int(found.removeprefix("v").split(".")[0])
    if major < OLDEST:
        pytest.skip(f"needs Node.js {OLDEST} or newer; {found} is installed")
    return [program, "--experimental-websocket"] if web_socket and major < WITH_WEB_SOCKET else [program]


def run_module(source: str, folder: Path, value: Any) -> Any:
    """Run a module that reads JSON from standard input and prints JSON; it imports from a folder."""
    command = [*node(), "--input-type=module", "--eval", source]
    done = subprocess.run(
        command, cwd=folder, input=json.dumps(value), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
