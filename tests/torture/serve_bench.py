"""What the load test of the server is made of: requests on raw connections, their right answers, and what was wrong."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keraslm
from tests.support.serving import Server

PATIENCE = 120.0  # seconds for one answer


@dataclass
class Bench:
    """What all phases share: the server, requests with their right answers, and what happened."""

    server: Server
    known: list[tuple[dict[str, Any], list[float]]]
    rng: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def expect(self, is_so: bool, what: str) -> None:
        if not is_so:
            self.wrong.append(what)
            print(f"WRONG: {what}", flush=True)


def known_requests(model: Path, lines: list[str]) -> list[tuple[dict[str, Any], list[float]]]:
    """Requests for the scores of lines, and their log-probabilities."""
    fields = {"echo": True, "max_tokens": 0, "logprobs": 0}
    scores = keraslm.load(model, "cpu").score_lines(lines)
    return [({"prompt": f"{line}\n"} | fields, s.logprobs.tolist()) for line, s in zip(lines, scores, strict=True)]


def message(body: bytes, head: str = "") -> bytes:
    start = f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n{head}\r\n"
    return start.encode() + body


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
    if "content-length" in headers:
        return int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))
    parts = []
    while size := int(await reader.readline(), 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
    await reader.readline()
    return int(head[0].split()[1]), headers, b"".join(parts)


async def ask(bench: Bench, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send a request on a connection of its own."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.server.port)
        try:
            writer.write(data)
            return await read_answer(reader)
        finally:
            writer.close()


async def score(bench: Bench, number: int) -> None:
    """Ask for known scores until they come; anything but these or 429 is wrong."""
    fields, wanted = bench.known[number % len(bench.known)]
    data = message(json.dumps(fields).encode())
    for _ in range(200):
        status, headers, body = await ask(bench, data)
        bench.counts[f"scores, status {status}"] += 1
        if status == 200:
            found = json.loads(body)["choices"][0]["logprobs"]["token_logprobs"]
            bench.expect(found == wanted, f"scores of {fields['prompt']!r} are wrong")
            return
        check_error(bench, status, body)
        if status != 429:
            bench.expect(status == 503 and "worker" not in fields, f"status {status} for known scores")
            return
        bench.expect(headers.get("retry-after") == "1", "429 without Retry-After")
        await asyncio.sleep(1 + bench.rng.random())
    bench.expect(False, "no answer in 200 tries")


def check_error(bench: Bench, status: int, body: bytes) -> None:
    try:
        error = json.loads(body)["error"]
        bench.expect(set(error) == {"message", "type", "param", "code"}, f"an error with the fields {sorted(error)}")
        bench.expect(bool(error["message"]), "an error without a message")
    except (ValueError, KeyError, TypeError):
        bench.expect(False, f"status {status} with the body {body[:80]!r}")


def children(pid: int) -> list[int]:
    """The worker processes of a server."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
            command = (path.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == pid and b"spawn_main" in command:
            found.append(int(path.parent.name))
    return found


def memory(bench: Bench) -> float:
    """Resident memory of the server and its workers, MB."""
    pages = [Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in children(bench.server.process.pid)]
    pages.append(Path(f"/proc/{bench.server.process.pid}/statm").read_text().split()[1])
    return sum(map(int, pages)) * os.sysconf("SC_PAGE_SIZE") / 1e6
