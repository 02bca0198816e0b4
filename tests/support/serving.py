"""`keraslm serve` in a process of its own, and requests to it."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.support.program import START, environment

_ADDRESS = re.compile(r"^keraslm: serving .* at http://127\.0\.0\.1:(\d+)$", re.MULTILINE)
LIMIT = 60  # seconds until the server is ready


@dataclass
class Answer:
    """The answer to a request; `json` is None if it is not JSON."""

    status: int
    headers: dict[str, str]
    body: bytes
    json: Any = None

    @property
    def error(self) -> dict[str, Any]:
        assert set(self.json) == {"error"} and set(self.json["error"]) == {"message", "type", "param", "code"}
        return self.json["error"]

    @property
    def events(self) -> list[Any]:
        """The data of a stream, `[DONE]` as a string."""
        parts = [part.removeprefix("data: ") for part in self.body.decode().split("\n\n") if part.startswith("data")]
        return [part if part == "[DONE]" else json.loads(part) for part in parts]


@dataclass
class Server:
    """A server that listens. `lines` are what it has written to standard error so far."""

    port: int
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def log(self) -> list[dict[str, Any]]:
        """The records of the access log."""
        return [json.loads(line) for line in list(self.lines) if line.startswith("{")]

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        found = {name.lower(): value for name, value in answer.getheaders()}
        is_json = found.get("content-type") == "application/json"
        return Answer(answer.status, found, data, json.loads(data) if is_json else None)

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, None, headers)

    def post(self, path: str, headers: dict[str, str] | None = None, /, **fields: Any) -> Answer:
        return self.request("POST", path, json.dumps(fields).encode(), headers)

    def complete(self, **fields: Any) -> Any:
        """The JSON of a completion that succeeds."""
        answer = self.post("/v1/completions", **fields)
        assert answer.status == 200, answer.json
        return answer.json

    def metric(self, name: str) -> float:
        """A number of `/metrics` without labels."""
        found = re.search(rf"^{name} (\S+)$", self.get("/metrics").body.decode(), re.MULTILINE)
        assert found, name
        return float(found[1])


@contextmanager
def serving(model: Path, *flags: str, **options: str) -> Iterator[Server]:
    """Serve a model file on a free port. `api_key="k"` is `--api-key k`."""
    named = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    command = [*START, "serve", str(model), "--port", "0", *flags, *named]
    lines: list[str] = []
    told = threading.Event()

    def listen(stream: IO[str]) -> None:
        for line in stream:
            lines.append(line)
            if _ADDRESS.search(line):
                told.set()
        told.set()

    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment()) as process:
        thread = threading.Thread(target=listen, args=[process.stderr])
        thread.start()
        try:
            told.wait(LIMIT)
            found = _ADDRESS.search("".join(lines))
            assert found, f"The server does not listen:\n{''.join(lines)}"
            server = Server(int(found[1]), process, lines)
            wait_for(lambda: server.get("/health").status == 200)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(LIMIT)
            finally:
                process.kill()
                thread.join()


def wait_for(is_so: Any) -> None:
    """Wait until something is so; an AssertionError after `LIMIT` seconds."""
    until = time.monotonic() + LIMIT
    while time.monotonic() < until:
        try:
            if is_so():
                return
        except ConnectionError:
            pass
        time.sleep(0.02)
    raise AssertionError("It did not happen in time.")
