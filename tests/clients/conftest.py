"""Environments with the programs that read the files of `keraslm export --target`, made by `make clients`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from keraslm_export.targets.web import PAGE
from tests.support.node import node

SHERPA = "2.0.1"
PACKAGE = PAGE / "package.json"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def environment(name: str) -> Path:
    """A folder for the programs of a client, in the folder `KERASLM_CLIENTS`."""
    if not (folder := os.environ.get("KERASLM_CLIENTS")):
        pytest.skip("needs programs that are not installed here; run: make clients")
    place = Path(folder).resolve() / name
    place.mkdir(parents=True, exist_ok=True)
    return place


def install(place: Path, what: str, *commands: list[Any]) -> None:
    """Run the commands that install a client, unless they succeeded before; skip the test if one fails."""
    if (place / "complete").exists():
        return
    for command in commands:
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"cannot install {what}: {done.stderr.strip()[-300:]}")
    (place / "complete").touch()


def environment_with(*packages: str) -> Path:
    """The interpreter of an environment with some packages."""
    place = environment("-".join(packages))
    python = place / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", *packages]
    install(place, ", ".join(packages), [sys.executable, "-m", "venv", place], pip)
    return python


@pytest.fixture(scope="session")
def sherpa() -> Path:
    """The interpreter of an environment with sherpa-onnx."""
    return environment_with(f"sherpa-onnx=={SHERPA}", "numpy")


@pytest.fixture(scope="session")
def modules() -> Path:
    """The folder `node_modules` that npm makes from the `package.json` of the page."""
    place = environment("page")
    node()
    if not (npm := shutil.which("npm")):
        pytest.skip("needs npm, which is not installed")
    if not (place / "package.json").is_file() or (place / "package.json").read_bytes() != PACKAGE.read_bytes():
        shutil.copy(PACKAGE, place)
        (place / "complete").unlink(missing_ok=True)
    install(place, "onnxruntime-web", [npm, "install", "--ignore-scripts"])
    return place / "node_modules"


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        pytest.skip("needs Chromium, which is not installed; on Debian: apt-get install chromium")
    return found
