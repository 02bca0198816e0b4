"""curl asks `keraslm serve`."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.clients.conftest import environment
from tests.clients.made_model import MadeModel, make_model
from tests.support.serving import serving

KEY = ("-H", "Authorization: Bearer secret")
JSON = ("-H", "Content-Type: application/json")
Curl = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def curl() -> str:
    environment("curl")
    if not (found := shutil.which("curl")):
        pytest.skip("needs curl, which is not installed")
    done = subprocess.run([found, "--version"], capture_output=True, text=True, check=True)
    print(f"\n{done.stdout.split(' (')[0]}")
    return found


@pytest.fixture(scope="module")
def model(curl, tmp_path_factory) -> MadeModel:
    return make_model(tmp_path_factory.mktemp("word"), "word")


@pytest.fixture(scope="module")
def ask(curl, model) -> Iterator[Curl]:
    """Runs curl with a path of the server and options; status, content type and body."""
    with serving(model.path, api_key="secret") as server:

        def call(path: str, *options: str) -> tuple[int, str, str]:
            line = [curl, "-sS", "--max-time", "30", "-w", "\n%{http_code} %{content_type}", *options]
            done = subprocess.run([*line, f"{server.address}{path}"], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            body, _, last = done.stdout.rpartition("\n")
            status, _, kind = last.partition(" ")
            return int(status), kind, body

        yield call


def error_of(body: str) -> dict[str, Any]:
    return json.loads(body)["error"]


def test_a_completion(ask, model):
    request = {"prompt": "", "max_tokens": 20, "temperature": 0}
    status, kind, body = ask("v1/completions", *KEY, *JSON, "-d", json.dumps(request))
    assert (status, kind) == (200, "application/json")
    (choice,) = json.loads(body)["choices"]
    assert choice["text"] == model.greedy and choice["finish_reason"] == "stop"


def test_a_stream(ask, model):
    request = {"prompt": "", "max_tokens": 20, "temperature": 0, "stream": True}
    status, kind, body = ask("v1/completions", "-N", *KEY, *JSON, "-d", json.dumps(request))
    assert status == 200 and kind.startswith("text/event-stream")
    *events, last, empty = body.split("\n\n")
    assert (last, empty) == ("data: [DONE]", "")
    parts = [json.loads(event.removeprefix("data: "))["choices"][0] for event in events]
    assert "".join(part["text"] for part in parts) == model.greedy and parts[-1]["finish_reason"] == "stop"


def test_a_wrong_key(ask):
    status, kind, body = ask("v1/completions", "-H", "Authorization: Bearer wrong", *JSON, "-d", '{"prompt": "a"}')
    assert (status, kind, error_of(body)["code"]) == (401, "application/json", "invalid_api_key")
    assert ask("health")[0] == 200


@pytest.mark.parametrize("options", [(), ("-H", "Transfer-Encoding: chunked")], ids=["with its length", "in chunks"])
def test_a_body_of_10_mb(ask, tmp_path, options):
    path = tmp_path / "large.json"
    path.write_text(json.dumps({"prompt": "a " * 5_000_000}))
    status, kind, body = ask("v1/completions", *KEY, *JSON, *options, "--data-binary", f"@{path}")
    assert (status, kind, error_of(body)["code"]) == (413, "application/json", "body_too_large")
    assert ask("health")[0] == 200


def test_the_page(ask):
    status, kind, body = ask("")
    if status == 404:
        pytest.skip("this server has no page")
    assert status == 200 and kind.startswith("text/html") and "<html" in body
