"""Load, slow clients, wrong requests and killed workers against a running `keraslm serve`.

    python tests/torture/serve_load.py [--clients 1000] [--minutes 10] [--kills 20] [--seed 0]

Every answer must be right, or an error with a JSON body. A right answer has the log-probabilities that keraslm gives
without a server, to the last bit. All load stays on the loopback address. Prints a table; exits with 1 if anything was
wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "export")]

import keraslm  # noqa: E402
from tests.support.made_run import make_run  # noqa: E402
from tests.support.serving import serving  # noqa: E402
from tests.support.tiny import text_lines  # noqa: E402
from tests.torture.serve_bench import (  # noqa: E402
    Bench,
    ask,
    check_error,
    children,
    known_requests,
    memory,
    message,
    read_answer,
    score,
)

SMALL = 300  # words of the vocabulary


async def many_clients(bench: Bench, clients: int) -> None:
    """All at once."""
    await asyncio.gather(*(score(bench, number) for number in range(clients)))


async def slow_clients(bench: Bench) -> None:
    """Heads byte by byte, bodies that stop, streams that nobody reads, silent connections; others are served."""
    data, kept = message(json.dumps(bench.known[0][0]).encode()), []
    stream = message(json.dumps({"prompt": "a", "max_tokens": 20_000, "ignore_eos": True, "stream": True}).encode())
    for number in range(40):
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.server.port)
        kept.append((reader, writer))
        writer.write((b"", data[:30], data[:-10], stream)[number % 4])

    async def trickle() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.server.port)
        for byte in data:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.01)
        status, _, _ = await read_answer(reader)
        bench.expect(status == 200, f"status {status} for a request that was sent slowly")
        bench.counts["requests that were sent byte by byte"] += 1
        writer.close()

    await asyncio.gather(*(trickle() for _ in range(20)), *(score(bench, number) for number in range(100)))
    for _, writer in kept:
        writer.close()
    bench.counts["slow or silent connections"] += len(kept)


async def large_bodies(bench: Bench) -> None:
    """10 MB are refused; 3 MB of text are answered, or refused with the limit's name."""
    for _ in range(20):
        body = json.dumps({"prompt": "a" * 10_000_000}).encode()
        try:
            status, _, answer = await ask(bench, message(body))
            bench.expect(status == 413, f"status {status} for 10 MB")
            check_error(bench, status, answer)
            bench.counts["bodies of 10 MB, status 413"] += 1
        except (ConnectionError, asyncio.IncompleteReadError):  # closed while the rest was being sent
            bench.counts["bodies of 10 MB, closed before the answer was read"] += 1
    words = " ".join(text_lines(90_000, 7))[:3_000_000]
    status, _, answer = await ask(bench, message(json.dumps({"prompt": words, "max_tokens": 1}).encode()))
    bench.counts[f"body of 3 MB, status {status}"] += 1
    if status != 200:
        check_error(bench, status, answer)
        bench.expect(status == 400 and "at most" in answer.decode(), "3 MB were refused without the limit")


async def mutated(bench: Bench, count: int) -> None:
    """Requests with random faults: status 200 or 4xx, and a JSON body."""
    for _ in range(count):
        status, _, body = await ask(bench, message(mutation(bench)))
        bench.counts[f"changed requests, status {status}"] += 1
        if status != 200:
            check_error(bench, status, body)
        bench.expect(status < 500, f"status {status} for a changed request: {body[:200]!r}")


def mutation(bench: Bench) -> bytes:
    rng = bench.rng
    values = [
        None,
        True,
        -1,
        0,
        1,
        10**9,
        10**30,
        1.5,
        -0.0,
        "",
        "a",
        "\ud800",
        [],
        [[]],
        {},
        [1, "a"],
        [10**7],
        {"5": 1},
    ]
    fields: dict[str, Any] = {"prompt": "a b", "max_tokens": 3, "seed": 1}
    names = ["prompt", "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "logprobs", "echo", "n"]
    names += ["stream", "stream_options", "logit_bias", "ignore_eos", "return_token_ids", "model", "best_of", "typo"]
    for name in rng.sample(names, rng.randint(1, 3)):
        fields[name] = rng.choice(values)
    body = bytearray(json.dumps(fields).encode())
    for _ in range(rng.choice([0, 0, 0, 1])):
        place = rng.randrange(len(body))
        body[place : place + rng.randint(0, 2)] = bytes(rng.choices(range(256), k=rng.randint(0, 2)))
    return bytes(body)


async def broken_connections(bench: Bench) -> None:
    """Half-closed connections, and resets in the middle of a stream."""
    fields = {"prompt": "a", "max_tokens": 100_000, "ignore_eos": True, "stream": True}
    for number in range(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.server.port)
        writer.write(message(json.dumps(fields).encode()))
        if number % 2:
            await reader.read(100)
            own = writer.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            writer.write_eof()
            await asyncio.sleep(0.01)
        writer.close()
    bench.counts["connections that were half closed or reset"] += 60
    await idle(bench)


async def idle(bench: Bench) -> None:
    """Wait until nothing is computed any more."""
    for _ in range(600):
        if bench.server.metric("keraslm_active_requests") == 0:
            return
        await asyncio.sleep(0.1)
    bench.expect(False, "requests are still active after 60 seconds")


async def killed_workers(bench: Bench, kills: int) -> None:
    """SIGKILL for the worker while it computes."""
    done = asyncio.Event()

    async def load(number: int) -> None:
        while not done.is_set():
            number += 8
            await score(bench, number)
            await drawn(bench)

    clients = [asyncio.ensure_future(load(number)) for number in range(8)]
    before = bench.server.metric("keraslm_worker_deaths")
    for count in range(kills):
        await asyncio.sleep(0.2 + bench.rng.random())
        os.kill(bench.rng.choice(children(bench.server.process.pid)), signal.SIGKILL)
        while await asyncio.to_thread(bench.server.metric, "keraslm_worker_deaths") < before + count + 1:
            await asyncio.sleep(0.05)
    done.set()
    await asyncio.gather(*clients)
    bench.counts["kills of a worker"] += kills


FIRST: dict[str, str] = {}


async def drawn(bench: Bench) -> None:
    """The same text for the same seed."""
    fields = {"prompt": "a", "max_tokens": 200, "seed": 5, "ignore_eos": True}
    status, _, body = await ask(bench, message(json.dumps(fields).encode()))
    bench.counts[f"texts, status {status}"] += 1
    if status == 200:
        text = json.loads(body)["choices"][0]["text"]
        bench.expect(FIRST.setdefault("text", text) == text, "a different text for the same seed")
    else:
        check_error(bench, status, body)


async def mixed(bench: Bench, minutes: float) -> list[float]:
    """Everything for some minutes, with a measurement of memory every few seconds."""
    found, until, number = [], time.monotonic() + 60 * minutes, 0
    long = message(json.dumps({"prompt": "a b c " * 16_000, "max_tokens": 1}).encode())
    rich = message(json.dumps({"prompt": ["a b", "c"], "echo": True, "logprobs": 5, "max_tokens": 20, "n": 3}).encode())
    stream = message(json.dumps({"prompt": "a", "max_tokens": 5000, "ignore_eos": True, "stream": True}).encode())
    while time.monotonic() < until:
        number += 1
        work: list[Any] = [*(score(bench, 7 * number + k) for k in range(5)), drawn(bench), ask(bench, rich)]
        work += [mutated(bench, 2), dropped(bench, stream)]
        if number % 20 == 0:
            work.append(ask(bench, long))
        await asyncio.gather(*work)
        bench.counts["rounds of mixed load"] += 1
        if number % 10 == 0:
            found.append(memory(bench))
        await asyncio.sleep(0.1)
    return found


async def dropped(bench: Bench, stream: bytes) -> None:
    """A client that leaves a stream."""
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.server.port)
    writer.write(stream)
    await reader.read(200)
    writer.close()


async def lengths(bench: Bench) -> str:
    """Peak memory of the worker while prompts of different lengths are read."""
    (worker,) = children(bench.server.process.pid)
    peaks = []
    for count in (1_000, 10_000, 200_000):
        Path(f"/proc/{worker}/clear_refs").write_text("5")  # starts VmHWM again
        fields = {"prompt": " ".join(["a"] * count), "max_tokens": 1}
        status, _, _ = await ask(bench, message(json.dumps(fields).encode()))
        bench.expect(status == 200, f"status {status} for {count} tokens")
        lines = Path(f"/proc/{worker}/status").read_text().splitlines()
        peaks.append(next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM")))
    bench.expect(peaks[2] < 1.1 * peaks[1], f"memory grows with the length of a prompt: {peaks}")
    return ", ".join(f"{peak:.0f}" for peak in peaks)


async def run(bench: Bench, options: argparse.Namespace) -> dict[str, str]:
    phases = {
        "many clients": many_clients(bench, options.clients),
        "slow clients": slow_clients(bench),
        "large bodies": large_bodies(bench),
        "changed requests": mutated(bench, 3000),
        "broken connections": broken_connections(bench),
    }
    found = {}
    for name, phase in phases.items():
        started = time.monotonic()
        await phase
        print(f"{name}: {time.monotonic() - started:.1f} s", flush=True)
    found["peak memory of the worker, prompts of 1,000, 10,000 and 200,000 tokens, MB"] = await lengths(bench)
    await killed_workers(bench, options.kills)
    await idle(bench)
    sizes = await mixed(bench, options.minutes)
    tenth = max(1, len(sizes) // 10)
    early, late = (sum(part) / len(part) for part in (sizes[tenth : 2 * tenth] or sizes, sizes[-tenth:]))
    bench.expect(late < 1.05 * early, f"memory grew from {early:.0f} to {late:.0f} MB")
    found["memory of server and worker in the second and in the last tenth, MB"] = f"{early:.0f}, {late:.0f}"
    found["lowest and highest memory, MB"] = f"{min(sizes):.0f}, {max(sizes):.0f}"
    await idle(bench)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = text_lines(400, seed=3)
        run_folder = make_run(folder, [*lines, " ".join(f"w{n}" for n in range(SMALL))], units=32, min_count=1)
        keraslm.export(run_folder, folder / "model.onnx")
        with serving(folder / "model.onnx") as server:
            bench = Bench(server, known_requests(folder / "model.onnx", lines), random.Random(options.seed))
            found = asyncio.run(run(bench, options))
            server.process.terminate()
            bench.expect(server.process.wait(60) == 0, "the exit code of the server is not 0")
        strange = [line for line in server.lines if not line.startswith(("{", "keraslm: "))]
        bench.expect(not strange, f"standard error has {strange[:5]}")
    print("\n| | |\n|---|---|")
    for what, number in [*sorted(bench.counts.items()), *found.items(), ("wrong", len(bench.wrong))]:
        print(f"| {what} | {number} |")
    return bool(bench.wrong)


if __name__ == "__main__":
    sys.exit(main())
