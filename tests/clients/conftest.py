"""Environments with the programs that read the files of `keraslm export --target`, made by `make clients`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SHERPA = "2.0.1"

# Development packages and the Debian releases that they come from. Programs of the older release run on the newer one.
HEADERS = {"libonnxruntime-dev": "trixie", "libjansson-dev": "bookworm"}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def clients_folder() -> Path:
    """The folder `KERASLM_CLIENTS`."""
    if not (folder := os.environ.get("KERASLM_CLIENTS")):
        pytest.skip("needs programs that are not installed here; run: make clients")
    return Path(folder).resolve()


def environment_with(*packages: str) -> Path:
    """The interpreter of an environment with some packages, made in the folder `KERASLM_CLIENTS` if it is not there."""
    place = clients_folder() / "-".join(packages)
    python = place / "bin" / "python"
    for line in ([sys.executable, "-m", "venv", place], [python, "-m", "pip", "install", "--quiet", *packages]):
        if not (place / "complete").exists():
            done = subprocess.run(line, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"cannot install {', '.join(packages)}: {done.stderr.strip()[-300:]}")
    (place / "complete").touch()
    return python


def debian_headers(folder: Path) -> Path:
    """The root of a tree with the headers of onnxruntime's C API and with Jansson: this system's, or one made here.

    Downloads Debian's packages with apt into `folder`, from lists of its own, and installs nothing.
    """
    if all(Path("/usr/include", name).exists() for name in ("onnxruntime/onnxruntime_c_api.h", "jansson.h")):
        return Path("/usr")
    if (folder / "complete").exists():
        return folder / "usr"
    if not (shutil.which("apt-get") and KEYRING.exists()):
        pytest.skip("no headers of onnxruntime and Jansson: needs Debian's libonnxruntime-dev and libjansson-dev")
    for name in ("lists/partial", "cache/archives/partial", "parts"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    sources = [f"deb [signed-by={KEYRING}] http://deb.debian.org/debian {suite} main\n" for suite in HEADERS.values()]
    (folder / "sources.list").write_text("".join(sources))
    places = {"Etc::sourcelist": "sources.list", "Etc::sourceparts": "parts", "State::lists": "lists"}
    places |= {"State::status": "status", "Cache": "cache"}
    apt = ["apt-get", "-qq", *(f"-oDir::{name}={folder / place}" for name, place in places.items())]
    _run([*apt, "update"], folder)
    _run([*apt, "download", *(f"{package}/{suite}" for package, suite in HEADERS.items())], folder)
    for package in folder.glob("*.deb"):
        _run(["dpkg", "-x", package, folder], folder)
    (folder / "complete").touch()
    return folder / "usr"


def _run(line: list[str | Path], folder: Path) -> None:
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot get {', '.join(HEADERS)} from Debian: {done.stderr.strip()[-300:]}")


@pytest.fixture(scope="session")
def sherpa() -> Path:
    """The interpreter of an environment with sherpa-onnx."""
    return environment_with(f"sherpa-onnx=={SHERPA}", "numpy")


@pytest.fixture(scope="session")
def headers() -> Path:
    """The folder `usr` with the headers of onnxruntime's C API and with Jansson."""
    return debian_headers(clients_folder() / "debian")
