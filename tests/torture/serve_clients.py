"""Clients of the load test: many, slow, with large and wrong bodies, and those that leave."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any

from tests.support.tiny import text_lines
from tests.torture.serve_bench import (
    DRAWN,
    Answer,
    Bench,
    ask,
    check_scores,
    chunked,
    connection,
    idle,
    memory,
    message,
    read_answer,
    score,
    sockets,
)

ENDLESS: dict[str, Any] = {"prompt": "a", "max_tokens": 200_000, "ignore_eos": True, "stream": True, "logprobs": 1}
WORDS = sorted({word for line in text_lines(100, 7) for word in line.split()})
HELD = 120  # seconds after which the server must have closed every connection that makes no progress


async def many_clients(bench: Bench, clients: int) -> None:
    """All at once."""
    await asyncio.gather(*(score(bench, number) for number in range(clients)))
    bench.count("clients", clients)


async def slow_clients(bench: Bench) -> None:
    """Requests byte by byte and streams that are read slowly are answered, and so are others meanwhile."""
    await asyncio.sleep(0.5)  # connections of previous requests are being closed
    before = sockets(bench)
    slow = [trickled(bench, number) for number in range(20)] + [sipped(bench) for _ in range(5)]
    await asyncio.gather(*slow, held(bench, before), *(score(bench, number) for number in range(200)))


async def trickled(bench: Bench, number: int) -> None:
    known = bench.known[number]
    async with connection(bench) as (reader, writer):
        for byte in message(known[0]):
            writer.write(bytes([byte]))
            await asyncio.sleep(0.01)
        answer = await read_answer(reader)
    bench.check(answer, {200}, "requests that were sent byte by byte")
    check_scores(bench, answer, known)


async def sipped(bench: Bench) -> None:
    """A stream of which 100 bytes are read at a time has the text of the same request without a stream."""
    own = socket.socket()
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    own.connect(("127.0.0.1", bench.server.port))
    own.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=own, limit=1000)
    writer.write(message(DRAWN | {"stream": True}, head="connection: close\r\n"))
    data = b""
    while part := await reader.read(100):
        data += part
        await asyncio.sleep(0.01)
    writer.close()
    lines = [line for line in data.decode().split("\r\n") if line.startswith("data: {")]
    text = "".join(json.loads(line[6:])["choices"][0]["text"] for line in lines)
    wanted = json.loads((await ask(bench, message(DRAWN))).body)["choices"][0]["text"]
    bench.expect(text == wanted and b"data: [DONE]" in data, f"a stream that was read slowly differs: {text[:200]!r}")
    bench.count("streams that were read slowly")


async def held(bench: Bench, before: int) -> None:
    """Connections without progress are closed, until the server has as many as before."""
    data = message(bench.known[0][0])
    starts = {
        "that send nothing": b"",
        "with half a head": data[:30],
        "with half a body": data[:-10],
        "that read nothing": message(ENDLESS),
        "with a part of a refused body": message({"prompt": "a" * 5_000_000})[:9000],
        "with a blank line after a request": message({}) + b"\r\n",
    }
    kept = []
    for what, start in starts.items():
        for _ in range(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", bench.server.port, limit=1000)
            writer.write(start)
            kept.append((what, reader, writer))
        bench.count(f"connections {what}", 10)
    await score(bench, 0)
    for _ in range(HELD):
        await asyncio.sleep(1)
        if (number := sockets(bench)) <= before:
            break
    bench.count("connections that the server has not closed", max(0, number - before))
    bench.expect(number <= before, f"{number - before} connections are still open after {HELD} seconds")
    for what, reader, writer in kept:
        if what == "with half a body":
            bench.check(await read_answer(reader), {408}, f"connections {what}")
        writer.close()


async def large_bodies(bench: Bench) -> None:
    """10 MB are refused; 3 MB of text are answered, or refused with the limit's name."""
    body = json.dumps({"prompt": "a" * 10_000_000}).encode()
    pieces = [body[start : start + 100_000] for start in range(0, len(body), 100_000)]
    for data in (message(body), chunked(pieces)):
        for _ in range(10):
            bench.check(await ask(bench, data), {413}, "bodies of 10 MB")
    unknown = " ".join(["zzzzzzzzzzzz"] * 230_000)
    bench.check(await ask(bench, message({"prompt": unknown, "max_tokens": 1})), {200}, "230,000 tokens in 3 MB")
    answer = await ask(bench, message({"prompt": " ".join(text_lines(90_000, 7))[:3_000_000], "max_tokens": 1}))
    bench.check(answer, {400}, "too many tokens in 3 MB")
    bench.expect(b"262,144" in answer.body, f"3 MB are refused without the limit: {answer.body[:200]!r}")
    await framed(bench)
    await endless(bench)


async def framed(bench: Bench) -> None:
    """Bodies in chunks, pipelined requests, and bodies with a wrong length."""
    known = bench.known[1]
    data = json.dumps(known[0]).encode()
    for size in (1, 7, 1000):
        answer = await ask(bench, chunked([data[at : at + size] for at in range(0, len(data), size)]))
        bench.check(answer, {200}, "bodies in chunks")
        check_scores(bench, answer, known)
    async with connection(bench) as (reader, writer):
        writer.write(b"".join(message(each[0]) for each in bench.known[:50]))
        for each in bench.known[:50]:
            answer = await read_answer(reader)
            bench.check(answer, {200}, "pipelined requests")
            check_scores(bench, answer, each)
    right = message(known[0])
    length = f"content-length: {len(data)}".encode()
    for wrong in (b"content-length: 20", b"content-length: -1", b"content-length: 9" * 40, b"content-length: 1_0"):
        bench.check(await ask(bench, right.replace(length, wrong)), {400, 413}, "bodies with a wrong length")
    for extra in ("content-length: 7\r\n", "transfer-encoding: chunked\r\n"):
        bench.check(await ask(bench, message(known[0], head=extra)), {400}, "bodies with two lengths")
    broken = chunked([data]).replace(b"\r\n\r\n", b"\r\n\r\nzz", 1)
    bench.check(await ask(bench, broken), {400}, "broken chunks")


async def endless(bench: Bench) -> None:
    """Heads, and trailers of chunked bodies, that never end are refused before they fill the memory."""
    start = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n"
    trailer = start + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n"
    for what, head, line in (
        ("heads without end", start, b"x: " + b"a" * 1000 + b"\r\n"),
        ("trailers without end", trailer, b"x: " + b"a" * 1000 + b"\r\n"),
        ("trailers of one endless line", trailer + b"x: ", b"a" * 1000),
        ("blank lines without end", b"", b"\r\n" * 500),
    ):
        before = memory(bench)
        if answer := await flooded(bench, head, line):
            bench.check(answer, {400, 431}, what)
        else:
            bench.count(f"{what}: closed before the answer was read")
        bench.expect(memory(bench) < before + 20, f"{what}: memory grew from {before:.0f} to {memory(bench):.0f} MB")


async def flooded(bench: Bench, head: bytes, line: bytes) -> Answer | None:
    """Send a line until the server answers, at most 50 MB; None if it closes the connection."""
    async with connection(bench) as (reader, writer):
        writer.write(head)
        answer = asyncio.ensure_future(read_answer(reader))
        for _ in range(50):
            try:
                writer.write(line * 1000)
                await writer.drain()
            except ConnectionError:
                break
            if answer.done():
                break
        try:
            return await asyncio.wait_for(answer, 5)
        except (ConnectionError, asyncio.IncompleteReadError):  # while the rest was being sent
            return None
        except TimeoutError:
            return Answer(0, {}, b"no answer after 50 MB")


async def broken_connections(bench: Bench) -> None:
    """Half-closed connections, and resets in the middle of a stream."""
    await asyncio.gather(*(half_closed(bench, number) for number in range(60)))
    await asyncio.gather(*(reset(bench) for _ in range(60)))
    await idle(bench)


async def half_closed(bench: Bench, number: int) -> None:
    """The client says that it sends nothing more; the server may answer or close."""
    known = bench.known[number]
    async with connection(bench) as (reader, writer):
        writer.write(message(ENDLESS if number % 2 else known[0]))
        writer.write_eof()
        try:
            data = await reader.read()
        except ConnectionError:
            data = b""
    bench.count("half-closed connections " + ("with an answer" if data else "that the server closed"))


async def reset(bench: Bench) -> None:
    async with connection(bench) as (reader, writer):
        writer.write(message(ENDLESS))
        await reader.read(100)
        own = writer.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    bench.count("streams that were reset")
