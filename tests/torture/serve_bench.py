"""What the load test of the server is made of: requests on raw connections, their right answers, and what was wrong."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import keraslm
from tests.support.serving import Server

PATIENCE = 120.0  # seconds for one answer
LIMIT = 1 << 16  # bytes that a connection reads ahead
DRAWN = {"prompt": "a", "max_tokens": 200, "seed": 5, "ignore_eos": True}

Known = tuple[dict[str, Any], list[float]]  # a request for scores, and the right log-probabilities


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Bench:
    """What all phases share: the server, requests with their right answers, and what happened.

    Attributes:
        drawn: the text of the request `DRAWN`, from the first answer to it.
        counts: by phase and event.
        sizes: seconds and memory of all processes, MB.
    """

    server: Server
    known: list[Known]
    rng: random.Random
    drawn: str = ""
    phase: str = ""
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    sizes: list[tuple[float, float]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def count(self, what: str, number: int = 1) -> None:
        self.counts[self.phase, what] += number

    def expect(self, is_so: bool, what: str) -> None:
        if not is_so:
            self.wrong.append(f"{self.phase}: {what}")
            print(f"WRONG: {self.wrong[-1]}", flush=True)

    def check(self, answer: Answer, allowed: Collection[int], what: str) -> None:
        """Count an answer; its status must be among the allowed ones, and an error must have the JSON of errors."""
        self.count(f"{what}: status {answer.status}")
        self.expect(answer.status in allowed, f"{what}: status {answer.status}, {answer.body[:200]!r}")
        if answer.status == 200:
            return
        try:
            error = json.loads(answer.body)["error"]
            is_right = set(error) == {"message", "type", "param", "code"} and bool(error["message"])
        except (ValueError, KeyError, TypeError):
            is_right = False
        self.expect(is_right, f"{what}: status {answer.status} with the body {answer.body[:200]!r}")


def known_requests(model: Path, lines: list[str]) -> list[Known]:
    """Requests for the scores of lines with their log-probabilities, computed without a server."""
    fields = {"echo": True, "max_tokens": 0, "logprobs": 0}
    scores = keraslm.load(model, "cpu").score_lines(lines)
    return [({"prompt": f"{line}\n"} | fields, s.logprobs.tolist()) for line, s in zip(lines, scores, strict=True)]


def message(fields: Any, path: str = "/v1/completions", head: str = "") -> bytes:
    """A request with a body, which is JSON unless it is bytes."""
    body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    start = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n{head}\r\n"
    return start.encode() + body


def chunked(parts: list[bytes], head: str = "") -> bytes:
    """A request whose body is sent in chunks."""
    start = f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n{head}\r\n".encode()
    return start + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])


@asynccontextmanager
async def connection(bench: Bench) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.server.port, limit=LIMIT)
        try:
            yield reader, writer
        finally:
            writer.close()


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status, headers = int(head[0].split()[1]), dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
    if status == 100:
        return await read_answer(reader)
    if "content-length" in headers:
        return Answer(status, headers, await reader.readexactly(int(headers["content-length"])))
    parts = []
    while size := int(await reader.readline(), 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
    await reader.readline()
    return Answer(status, headers, b"".join(parts))


async def ask(bench: Bench, data: bytes) -> Answer:
    """Send a request on a connection of its own."""
    async with connection(bench) as (reader, writer):
        writer.write(data)
        return await read_answer(reader)


def check_scores(bench: Bench, answer: Answer, known: Known) -> None:
    """An answer with status 200 must have the right log-probabilities, to the last bit."""
    found = json.loads(answer.body)["choices"][0]["logprobs"]["token_logprobs"]
    bench.expect(found == known[1], f"scores of {known[0]['prompt']!r} are wrong")


async def score(bench: Bench, number: int, failures: tuple[int, ...] = (), **fields: Any) -> None:
    """Ask for known scores until they come. An answer 429 is tried again; `failures` end it, anything else is wrong."""
    known = bench.known[number % len(bench.known)]
    data = message(known[0] | fields)
    for _ in range(200):
        answer = await ask(bench, data)
        bench.check(answer, {200, 429, *failures}, "scores")
        if answer.status == 200:
            return check_scores(bench, answer, known)
        if answer.status != 429:
            return None
        bench.expect(answer.headers.get("retry-after") == "1", "429 without Retry-After")
        await asyncio.sleep(1 + bench.rng.random())
    return bench.expect(False, "no answer in 200 tries")


async def draw(bench: Bench, failures: tuple[int, ...] = ()) -> None:
    """The same seed gives the same text."""
    answer = await ask(bench, message(DRAWN))
    bench.check(answer, {200, *failures}, "texts")
    if answer.status == 200:
        text = json.loads(answer.body)["choices"][0]["text"]
        bench.drawn = bench.drawn or text
        bench.expect(bench.drawn == text, "a different text for the same seed")


async def idle(bench: Bench) -> None:
    """Wait until nothing is computed any more."""
    for _ in range(600):
        names = ("keraslm_active_requests", "keraslm_waiting_rows")
        if not any([await asyncio.to_thread(bench.server.metric, name) for name in names]):
            return
        await asyncio.sleep(0.1)
    bench.expect(False, "requests are still active after 60 seconds")


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third one, the state; empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []


def children(pid: int, what: bytes = b"") -> list[int]:
    """The living child processes whose command contains some words; `b"spawn_main"` for workers."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        fields = stat(int(path.name))
        try:
            if fields and int(fields[1]) == pid and fields[0] != "Z" and what in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found


def processes(bench: Bench) -> list[int]:
    return [bench.server.process.pid, *children(bench.server.process.pid)]


def memory(bench: Bench) -> float:
    """Resident memory of the server and all its processes, MB."""
    pages = [int(fields[21]) for pid in processes(bench) if (fields := stat(pid))]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_seconds(bench: Bench) -> float:
    """CPU time of the server and its processes."""
    ticks = [int(fields[11]) + int(fields[12]) for pid in processes(bench) if (fields := stat(pid))]
    return sum(ticks) / os.sysconf("SC_CLK_TCK")


def sockets(bench: Bench) -> int:
    """Number of open files of the server that are sockets."""
    found = 0
    for path in Path(f"/proc/{bench.server.process.pid}/fd").iterdir():
        try:
            found += str(path.readlink()).startswith("socket:")
        except OSError:
            continue
    return found
