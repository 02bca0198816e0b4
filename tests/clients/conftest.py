"""Environments with the programs that read exported files or ask `keraslm serve`, made by `make clients`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keraslm_export.targets.web import PAGE
from tests.clients.served_page import READ, Served
from tests.support.node import node
from tests.support.served_models import KINDS
from tests.support.serving import serving

SHERPA = "2.0.1"
PACKAGE = PAGE / "package.json"
BROWSER = Path(__file__).parent / "browser.mjs"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Development packages and the Debian releases that they come from. Programs of the older release run on the newer one.
HEADERS = {"libonnxruntime-dev": "trixie", "libjansson-dev": "bookworm"}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@pytest.fixture(scope="session", autouse=True)
def _asked_for() -> None:
    """The tests of this folder start other programs, and run on request."""
    if not os.environ.get("KERASLM_CLIENTS"):
        pytest.skip("starts programs that may not be installed; run: make clients")


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


def _repositories() -> list[str]:
    """The addresses of the repositories from which this system installs packages; empty without apt."""
    if not shutil.which("apt-get"):
        return []
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()


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


@pytest.fixture(scope="session")
def headers() -> Path:
    """The folder `usr` with the headers of onnxruntime's C API and with Jansson: this system's, or one made here.

    Debian's packages are downloaded with apt, from lists of its own, and nothing is installed.
    """
    if all(Path("/usr/include", name).exists() for name in ("onnxruntime/onnxruntime_c_api.h", "jansson.h")):
        return Path("/usr")
    place = environment("debian")
    mirror = next((uri for uri in _repositories() if uri.rstrip("/").endswith("/debian")), None)
    if not (mirror and KEYRING.exists()):
        pytest.skip("no headers of onnxruntime and Jansson: needs Debian's libonnxruntime-dev and libjansson-dev")
    for name in ("lists/partial", "cache/archives/partial", "parts"):
        (place / name).mkdir(parents=True, exist_ok=True)
    (place / "status").touch()
    sources = [f"deb [signed-by={KEYRING}] {mirror} {suite} main\n" for suite in HEADERS.values()]
    (place / "sources.list").write_text("".join(sources))
    folders = {"Etc::sourcelist": "sources.list", "Etc::sourceparts": "parts", "State::lists": "lists"}
    folders |= {"State::status": "status", "Cache": "cache"}
    apt = ["apt-get", "-qq", *(f"-oDir::{name}={place / folder}" for name, folder in folders.items())]
    unpack = ["sh", "-c", 'for package in *.deb; do dpkg -x "$package" . || exit 1; done']
    packages = [f"{package}/{suite}" for package, suite in HEADERS.items()]
    install(place, "Debian's headers", [*apt, "update"], [*apt, "download", *packages], unpack)
    return place / "usr"


@pytest.fixture
def visit_server(chromium, tmp_path):
    """A function that opens the page of a server and takes steps in it.

    The browser reports nothing, or only lines that contain `expected`.
    """

    def visit(address: str, *steps: dict[str, Any], expected: str | None = None) -> list[dict[str, Any]]:
        line = [*node(web_socket=True), BROWSER, chromium, tmp_path / "profile", address, READ]
        done = subprocess.run(line, input=json.dumps(steps), capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert [url for url in found["requests"] if not url.startswith(address)] == []
        assert [line for line in found["reported"] if expected is None or expected not in line] == []
        return found["states"]

    return visit


@pytest.fixture(scope="session", params=sorted(KINDS))
def served(request, tmp_path_factory) -> Iterator[Served]:
    """A server with a model of each kind."""
    made = Served(tmp_path_factory.mktemp(request.param), request.param)
    with serving(made.path) as made.server:
        yield made


@pytest.fixture(scope="session")
def served_words(tmp_path_factory) -> Iterator[Served]:
    """A server with a model of words."""
    made = Served(tmp_path_factory.mktemp("words"), "word")
    with serving(made.path) as made.server:
        yield made
