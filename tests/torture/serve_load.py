"""Load, slow clients, wrong requests and killed workers against a running `keraslm serve`.

    python tests/torture/serve_load.py [--minutes 10] [--clients 1000] [--kills 20] [--seed 0] [--phases NAME ...]

Every answer must be right, or an error with a JSON body. A right answer has the log-probabilities that keraslm gives
without a server, to the last bit. All load stays on the loopback address. Prints tables; exits with 1 if anything was
wrong. Everything takes about 15 minutes; needs /proc, that is, Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "export")]

import keraslm  # noqa: E402
from tests.support.made_run import make_run  # noqa: E402
from tests.support.serving import serving  # noqa: E402
from tests.support.tiny import text_lines  # noqa: E402
from tests.torture import serve_clients as clients  # noqa: E402
from tests.torture.serve_bench import (  # noqa: E402
    Bench,
    ask,
    children,
    connection,
    cpu_seconds,
    draw,
    idle,
    known_requests,
    memory,
    message,
    processes,
    score,
    stat,
)
from tests.torture.serve_fuzz import changed_values, check_stream, fuzzed  # noqa: E402

SMALL = 300  # words of the vocabulary, about
EVERY = 3.0  # seconds between measurements of memory
GROWTH = 1.05  # of memory that is wrong
SHARE = 3  # pauses between the rounds of mixed load, in times of a round
DEAD = (500, 503)  # a worker was killed again while it repeated the work of a killed one; the server ends


async def killed_workers(bench: Bench, kills: int) -> None:
    """SIGKILL for a worker while it computes; each death is counted, and its work is repeated."""
    done = asyncio.Event()

    async def load(number: int) -> None:
        while not done.is_set():
            number += 8
            await asyncio.gather(score(bench, number, DEAD), draw(bench, DEAD))

    busy = [asyncio.ensure_future(load(number)) for number in range(8)]
    before = await deaths(bench)
    for count in range(kills):
        await asyncio.sleep(0.2 + bench.rng.random())
        os.kill(bench.rng.choice(children(bench.server.process.pid, b"spawn_main")), signal.SIGKILL)
        async with asyncio.timeout(60):
            while await deaths(bench) < before + count + 1:
                await asyncio.sleep(0.05)
    done.set()
    await asyncio.gather(*busy)
    await idle(bench)
    bench.count("kills", kills)
    bench.count("deaths in /metrics", int(await deaths(bench) - before))
    bench.expect(await deaths(bench) == before + kills, f"{await deaths(bench) - before} deaths after {kills} kills")


async def deaths(bench: Bench) -> float:
    return await asyncio.to_thread(bench.server.metric, "keraslm_worker_deaths")


async def lengths(bench: Bench) -> None:
    """Peak memory while prompts of different lengths are read; that of the worker must not depend on the length."""
    (worker,) = children(bench.server.process.pid, b"spawn_main")
    own = {"worker": worker, "server": bench.server.process.pid}
    kinds = {"max_tokens 1": {"max_tokens": 1}, "echo, logprobs 0": {"max_tokens": 0, "echo": True, "logprobs": 0}}
    for what, extra in kinds.items():
        peaks = {}
        for count in (1_000, 10_000, 200_000):
            for pid in own.values():
                Path(f"/proc/{pid}/clear_refs").write_text("5")  # starts VmHWM again
            prompt = " ".join(bench.rng.choices(clients.WORDS, k=count))
            answer = await ask(bench, message({"prompt": prompt} | extra))
            bench.check(answer, {200}, f"{what}, {count:,} tokens")
            peaks[count] = peak(worker)
            for name, pid in own.items():
                bench.count(f"{what}, {count:,} tokens: peak memory of the {name}, MB", round(peak(pid)))
            bench.count(f"{what}, {count:,} tokens: size of the answer, kB", len(answer.body) // 1000)
        bench.expect(peaks[200_000] < 1.1 * peaks[10_000], f"memory grows with the length of a prompt: {peaks}")


def peak(pid: int) -> float:
    """The most resident memory of a process, MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM"))


async def mixed(bench: Bench, minutes: float) -> None:
    """Everything for some minutes, while the memory is measured."""
    started, used = time.monotonic(), cpu_seconds(bench)
    measuring = asyncio.ensure_future(measured(bench))
    number = 0
    while (begun := time.monotonic()) < started + 60 * minutes:
        number += 1
        await asyncio.gather(*round_of(bench, number))
        await asyncio.sleep(SHARE * (time.monotonic() - begun))
    measuring.cancel()
    await idle(bench)
    bench.count("rounds", number)
    seconds = time.monotonic() - started
    bench.count("cores that the server used, %", round(100 * (cpu_seconds(bench) - used) / seconds))
    report_memory(bench, bench.sizes)


def round_of(bench: Bench, number: int) -> list[Any]:
    """Scores with and without alternatives, texts, a stream that is left, wrong requests, and long prompts."""
    words = bench.rng.choices(clients.WORDS, k=50_000)
    rich = {"prompt": ["a b", "c"], "echo": True, "logprobs": 5, "max_tokens": 20, "n": 3}
    work: list[Any] = [score(bench, 7 * number + k) for k in range(5)]
    work += [score(bench, number, logprobs=5), draw(bench), left(bench)]
    work += [answered(bench, message(rich), {200}, "completions with alternatives")]
    work += [answered(bench, message({"text": "the cat sat\non a mat"}, "/score"), {200}, "/score")]
    work += [answered(bench, message({"text": "the cat s"}, "/predict"), {200}, "/predict")]
    work += [answered(bench, changed_values(bench), {200, *range(400, 500)}, "changed values") for _ in range(3)]
    if number % 10 == 0:
        work.append(answered(bench, message({"prompt": " ".join(words), "max_tokens": 1}), {200}, "50,000 tokens"))
    if number % 10 == 5:
        echoed = {"prompt": " ".join(words), "max_tokens": 0, "echo": True, "logprobs": 0}
        work.append(answered(bench, message(echoed), {200}, "50,000 tokens with their scores"))
    return work


async def answered(bench: Bench, data: bytes, allowed: set[int], what: str) -> None:
    answer = await ask(bench, data)
    bench.check(answer, allowed, what)
    check_stream(bench, answer)


async def left(bench: Bench) -> None:
    """A client that leaves a stream."""
    async with connection(bench) as (reader, writer):
        writer.write(message(clients.ENDLESS))
        await reader.read(200)
    bench.count("streams that were left")


async def measured(bench: Bench) -> None:
    started = time.monotonic()
    while True:
        bench.sizes.append((time.monotonic() - started, await asyncio.to_thread(memory, bench)))
        await asyncio.sleep(EVERY)


def report_memory(bench: Bench, sizes: list[tuple[float, float]]) -> None:
    """Memory at the start, in the second minute, in the last minute, and the most."""
    last = sizes[-1][0]
    second = [size for time, size in sizes if 60 <= time < 120] or [sizes[len(sizes) // 2][1]]
    final = [size for time, size in sizes if time > last - 60]
    early, late = sum(second) / len(second), sum(final) / len(final)
    values = {"at the start": sizes[0][1], "second minute, mean": early, "last minute, mean": late}
    for what, size in (values | {"most": max(size for _, size in sizes)}).items():
        bench.count(f"memory of all processes, {what}, MB", round(size))
    bench.count("measurements of memory", len(sizes))
    bench.expect(late < GROWTH * early, f"memory grew from {early:.0f} to {late:.0f} MB")


async def ended(bench: Bench) -> None:
    """SIGTERM under load: requests are answered or refused, and nothing is left of the server."""

    async def load(number: int) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):  # the server does not listen any more
            while True:
                number += 8
                await score(bench, number, DEAD)
                await asyncio.sleep(0.1)

    left, process = processes(bench), bench.server.process
    async with connection(bench) as (_, writer):
        writer.write(message(clients.ENDLESS))  # nobody reads it
        busy = [asyncio.ensure_future(load(number)) for number in range(8)]
        await asyncio.sleep(1)
        process.terminate()
        await asyncio.gather(*busy)
        code = await asyncio.to_thread(process.wait, 60)
    await asyncio.sleep(1)
    bench.count(f"exit code {code}")
    bench.expect(code == 0, f"the exit code of the server is {code}")
    remaining = [pid for pid in left if stat(pid) and stat(pid)[0] != "Z"]
    bench.expect(not remaining, f"{len(remaining)} of {len(left)} processes remain")
    bench.count("processes that remain", len(remaining))


def check_log(bench: Bench) -> None:
    """Standard error has lines of JSON and remarks of keraslm, nothing else."""
    for line in bench.server.lines:
        if line.startswith("{"):
            bench.count("lines of the log")
            json.loads(line)
        else:
            bench.expect(line.startswith("keraslm: ") and "Traceback" not in line, f"standard error has {line!r}")


Phase = tuple[str, Callable[[Bench], Awaitable[None]]]


def phases(options: argparse.Namespace) -> tuple[list[Phase], list[Phase]]:
    """The phases with one worker, and those with two."""
    one: list[Phase] = [
        ("many clients", lambda bench: clients.many_clients(bench, options.clients)),
        ("lengths", lengths),
        ("slow clients", clients.slow_clients),
        ("large bodies", clients.large_bodies),
        ("fuzzing", lambda bench: fuzzed(bench, 3000)),
        ("broken connections", clients.broken_connections),
        ("killed worker", lambda bench: killed_workers(bench, options.kills)),
        ("mixed load", lambda bench: mixed(bench, options.minutes)),
    ]
    return one, [("one of two workers killed", lambda bench: killed_workers(bench, options.kills))]


async def run(bench: Bench, wanted: list[Phase]) -> None:
    for bench.phase, phase in [*wanted, ("end", ended)]:
        started = time.monotonic()
        try:
            await phase(bench)
        except Exception as error:
            bench.expect(False, f"{type(error).__name__}: {error}")
        print(f"{bench.phase}: {time.monotonic() - started:.1f} s", flush=True)


def make_model(folder: Path) -> Path:
    lines = [*text_lines(400, seed=3), " ".join(f"w{number}" for number in range(SMALL))]
    keraslm.export(make_run(folder, lines, units=32, min_count=1), folder / "model.onnx")
    return folder / "model.onnx"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="of mixed load")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20, help="per number of workers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--phases", nargs="+", metavar="NAME", help="default: all")
    options = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        model = make_model(Path(name))
        known = known_requests(model, text_lines(400, seed=3))
        for workers, all_phases in enumerate(phases(options), 1):
            wanted = [phase for phase in all_phases if not options.phases or phase[0] in options.phases]
            if not wanted:
                continue
            with serving(model, workers=str(workers), grace="5") as server:
                bench = Bench(server, known, random.Random(options.seed))
                asyncio.run(run(bench, wanted))
            check_log(bench)
            wrong += len(bench.wrong)
            print("\n| phase | | |\n|---|---|---|")
            for (phase, what), number in bench.counts.items():
                print(f"| {phase} | {what} | {number:,} |")
            print(f"| with {workers} worker{'s' * (workers > 1)} | **wrong** | {len(bench.wrong)} |", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
