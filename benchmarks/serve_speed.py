"""Tokens per second and latency of `keraslm serve`, beside the same work in process and a plain server.

    python benchmarks/serve_speed.py MODEL TEXT [--seconds 10] [--rounds 3]

TEXT has one sentence per line. Three tasks, for 1, 8 and 64 clients, each of which sends its next request when it has
the answer to the previous one:

    line      score one line per request: `echo`, `logprobs` 0, `max_tokens` 0.
    harness   score 16 lines per request as ids: `echo`, `logprobs` 1, `max_tokens` 1, as lm-evaluation-harness does.
    generate  32 tokens after the first four words of a line, at temperature 1, with a seed.

In process the same is done by `Scorer.score_lines` with all lines at hand, and by `generate`, one text after the other.
The plain server is Python's `http.server` with a `Scorer`: it answers one request at a time. Everything runs on the
same cores; the clients are one more process, which reads the answers without parsing them. Each round runs every
contestant once. Ratios are taken within a round; the tables show medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import re
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from common import KERASLM

CLIENTS = (1, 8, 64)
LINES, DRAWN = 16, 32  # lines per request of a harness, tokens per completion


def requests_of(task: str, lines: list[str], ids: list[list[int]]) -> list[tuple[dict[str, Any], int]]:
    """The requests of a task, and the number of tokens of each, which are scored or drawn."""
    if task == "line":
        fields = {"max_tokens": 0, "echo": True, "logprobs": 0}
        return [({"prompt": f"{line}\n"} | fields, len(own)) for line, own in zip(lines, ids, strict=True)]
    if task == "harness":
        fields = {"max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0, "seed": 1234}
        groups = [ids[first : first + LINES] for first in range(0, len(ids), LINES)]
        return [({"prompt": group} | fields, sum(map(len, group))) for group in groups]
    fields = {"max_tokens": DRAWN, "temperature": 1.0, "ignore_eos": True}
    prompts = (" ".join(line.split()[:4]) for line in lines)
    return [({"prompt": prompt, "seed": seed} | fields, DRAWN) for seed, prompt in enumerate(prompts)]


async def _load(port: int, requests: list[tuple[bytes, int]], clients: int, seconds: float) -> tuple[int, list[float]]:
    """Tokens that were answered, and the latency of each request."""
    found, latencies, left = 0, [], iter(cycle(requests))
    until = time.perf_counter() + seconds

    async def client() -> None:
        nonlocal found
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < until:
            data, tokens = next(left)
            started = time.perf_counter()
            writer.write(data)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
            await reader.readexactly(int(length[1]))
            latencies.append(time.perf_counter() - started)
            assert b" 200 " in head[:16], head
            found += tokens
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return found, latencies


def _client(
    pipe: Any, port: int, task: str, lines: list[str], ids: list[list[int]], clients: int, seconds: float
) -> None:
    made = []
    for fields, tokens in requests_of(task, lines, ids):
        body = json.dumps(fields).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
        made.append((head.encode() + body, tokens))
    started = time.perf_counter()
    tokens, latencies = uvloop.run(_load(port, made, clients, seconds))
    pipe.send((tokens / (time.perf_counter() - started), latencies))


def measured(port: int, *work: Any) -> tuple[float, list[float]]:
    """Tokens per second and latencies of clients in a process of their own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_client, args=(there, port, *work))
    process.start()
    there.close()
    found = here.recv()
    process.join()
    return found


@contextmanager
def served(model: Path, *options: str) -> Iterator[int]:
    """The port of a server of keraslm."""
    command = [*KERASLM, "serve", model, "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            if found := re.search(r"at http://127\.0\.0\.1:(\d+)", line):
                break
        port = int(found[1])
        subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)  # the log
        time.sleep(2.0)
        yield port
    finally:
        process.terminate()
        process.wait()


def _plain(pipe: Any, model: Path) -> None:
    import keraslm
    from keraslm.scoring import sampler

    scorer = keraslm.load(model, "cpu")

    class Handler(BaseHTTPRequestHandler):
        protocol_version, disable_nagle_algorithm = "HTTP/1.1", True

        def do_POST(self) -> None:
            fields = json.loads(self.rfile.read(int(self.headers["content-length"])))
            prompt = fields["prompt"]
            if fields["max_tokens"] == DRAWN:
                settings = sampler.Sampling(1.0, seed=fields["seed"])
                found = [*sampler.generate(scorer.session, prompt, DRAWN, settings, stop_at_eos=False, as_text=True)]
            elif isinstance(prompt, str):
                (line,) = scorer.score_lines([prompt])
                found = [scorer.tokenizer.tokens(line.ids), line.logprobs.tolist()]
            else:
                found = [_alternatives(scorer, own) for own in prompt]
            body = json.dumps(found).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    pipe.send(server.server_port)
    server.serve_forever()


def _alternatives(scorer: Any, ids: list[int]) -> list[Any]:
    """Log-probabilities of tokens, and of the most probable ones, with one call per text."""
    session = scorer.session
    log_probs, _ = session.run([[session.info.bos_id, *ids]], session.zero_state(1))
    best = log_probs[0].argmax(-1)
    own = log_probs[0, np.arange(len(ids)), ids]
    return [scorer.tokenizer.tokens(ids), own.tolist(), best.tolist(), log_probs[0].max(-1).tolist()]


@contextmanager
def plain(model: Path) -> Iterator[int]:
    """The port of a server that answers one request at a time; clients beyond the first wait for the connection."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_plain, args=(there, model))
    process.start()
    try:
        yield here.recv()
    finally:
        process.kill()
        process.join()


def in_process(model: Path, task: str, lines: list[str], seconds: float) -> float:
    """Tokens per second of the same work without a server."""
    import keraslm
    from keraslm.scoring import sampler

    scorer, tokens, started = keraslm.load(model, "cpu"), 0, time.perf_counter()
    if task == "generate":
        for seed, line in enumerate(cycle(lines)):
            if time.perf_counter() - started > seconds:
                break
            settings = sampler.Sampling(1.0, seed=seed)
            prompt = " ".join(line.split()[:4])
            tokens += sum(1 for _ in sampler.generate(scorer.session, prompt, DRAWN, settings, stop_at_eos=False))
    else:
        for line in scorer.score_lines(cycle(lines), distributions=task == "harness"):
            tokens += len(line.ids)
            if time.perf_counter() - started > seconds:
                break
    return tokens / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", default=["line", "harness", "generate"])
    parser.add_argument("--options", default="", help="of keraslm serve, separated by blanks")
    arguments = parser.parse_args()

    from keraslm.scoring.scorer import load
    from keraslm.text.files import TextFile

    lines = list(islice(TextFile(arguments.text), 2048))
    ids = [own.tolist() for own in load(arguments.model, "cpu").tokenizer.encode_lines(lines)]
    rows: dict[tuple[str, str, int], list[tuple[float, float, float, float]]] = {}
    for _ in range(arguments.rounds):
        for task in arguments.tasks:
            alone = in_process(arguments.model, task, lines, arguments.seconds)
            rows.setdefault((task, "in process", 0), []).append((alone, 1.0, 0.0, 0.0))
            for name, server in (("keraslm serve", served), ("plain", plain)):
                options = arguments.options.split() if name == "keraslm serve" else ()
                with server(arguments.model, *options) as port:
                    for clients in CLIENTS if name == "keraslm serve" else (1,):
                        work = (task, lines, ids, clients, arguments.seconds)
                        rate, latencies = measured(port, *work)
                        times = [1000 * float(np.quantile(latencies, q)) for q in (0.5, 0.99)]
                        rows.setdefault((task, name, clients), []).append((rate, rate / alone, *times))
    print("| task | contestant | clients | tokens/s | relative to in process | median ms | 99th percentile ms |")
    print("|---|---|---|---|---|---|---|")
    for (task, name, clients), found in rows.items():
        rate, ratio, middle, late = (statistics.median(values) for values in zip(*found, strict=True))
        print(f"| {task} | {name} | {clients or ''} | {rate:,.0f} | {ratio:.2f} | {middle:.1f} | {late:.1f} |")


if __name__ == "__main__":
    main()
