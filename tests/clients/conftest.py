"""Environments with the programs that read the files of `keraslm export --target`, made by `make clients`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SHERPA = "2.0.1"


def environment_with(*packages: str) -> Path:
    """The interpreter of an environment with some packages, made in the folder `KERASLM_CLIENTS` if it is not there."""
    if not (folder := os.environ.get("KERASLM_CLIENTS")):
        pytest.skip("needs programs that are not installed here; run: make clients")
    place = Path(folder).resolve() / "-".join(packages)
    python = place / "bin" / "python"
    for line in ([sys.executable, "-m", "venv", place], [python, "-m", "pip", "install", "--quiet", *packages]):
        if not (place / "complete").exists():
            done = subprocess.run(line, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"cannot install {', '.join(packages)}: {done.stderr.strip()[-300:]}")
    (place / "complete").touch()
    return python


@pytest.fixture(scope="session")
def sherpa() -> Path:
    """The interpreter of an environment with sherpa-onnx."""
    return environment_with(f"sherpa-onnx=={SHERPA}", "numpy")
