"""Wrong requests of the load test: changed values, changed bytes, and HTTP that is none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from tests.torture.serve_bench import PATIENCE, Answer, Bench, connection, message, read_answer

REFUSED = range(400, 500)
SECONDS = 1.0  # until a changed request counts as one of which the server expects more
TOGETHER = 16  # requests at a time
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    10**9,
    10**30,
    1.5,
    -0.0,
    1e308,
    "",
    "a",
    "\ud800",
    "\udc00a\n",
    "\0",
    [],
    {},
]
VALUES += [
    [[]],
    [1, "a"],
    [10**7],
    [-1],
    [2**31],
    [2**64],
    [None],
    [[1], []],
    {"5": 1},
    {"5": 1e9},
    {"x": None},
    "a" * 999,
]
BASES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "a b", "max_tokens": 3, "seed": 1},
    "/score": {"text": "a b\nc", "alternatives": 2},
    "/predict": {"text": "a b", "count": 3},
    "/tokenize": {"prompt": "a b"},
    "/detokenize": {"tokens": [1, 2, 3]},
}
NAMES = ["prompt", "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "logprobs", "echo", "n"]
NAMES += ["stream", "stream_options", "logit_bias", "ignore_eos", "return_token_ids", "model", "best_of", "typo"]


async def fuzzed(bench: Bench, count: int) -> None:
    """Every answer to a wrong request is 200 or 4xx, and an error has the JSON of errors."""
    await _all(bench, "changed values", [changed_values(bench) for _ in range(count)])
    await _all(bench, "chosen bodies", [message(body, path) for path in BASES for body in bodies()])
    await _all(bench, "changed bytes", [changed_bytes(bench) for _ in range(count // 2)], complete=False)
    await _all(bench, "chosen heads", heads(), complete=False)


async def _all(bench: Bench, what: str, requests: Iterable[bytes], complete: bool = True) -> None:
    left = iter(requests)

    async def one_after_another() -> None:
        for data in left:
            answer = await answered(bench, data, PATIENCE if complete else SECONDS)
            if answer is None:
                bench.count(f"{what}: no answer, the server waits for more")
                bench.expect(not complete, f"{what}: no answer to {data[:200]!r}")
            else:
                bench.check(answer, {200, *REFUSED}, what)
                check_stream(bench, answer)

    await asyncio.gather(*(one_after_another() for _ in range(TOGETHER)))


async def answered(bench: Bench, data: bytes, seconds: float) -> Answer | None:
    """The answer; None if there is none in time."""
    async with connection(bench) as (reader, writer):
        writer.write(data)
        try:
            return await asyncio.wait_for(read_answer(reader), seconds)
        except TimeoutError:
            return None
        except (ConnectionError, asyncio.IncompleteReadError):
            return Answer(0, {}, b"closed without an answer: " + data[:200])


def check_stream(bench: Bench, answer: Answer) -> None:
    if answer.headers.get("content-type") == "text/event-stream":
        events = answer.body.decode().strip().split("\n\n")
        bench.expect(events[-1] == "data: [DONE]", f"a stream ends with {events[-1]!r}")


def changed_values(bench: Bench) -> bytes:
    """A valid request with other values of some fields, and sometimes with other bytes in its body."""
    rng = bench.rng
    path = rng.choice(["/v1/completions"] * 4 + [*BASES])
    fields = dict(BASES[path])
    for name in rng.sample(NAMES if path == "/v1/completions" else [*fields, "model", "typo"], rng.randint(1, 2)):
        fields[name] = rng.choice(VALUES)
    body = json.dumps(fields).encode()
    return message(noisy(bench, body) if rng.random() < 0.25 else body, path)


def changed_bytes(bench: Bench) -> bytes:
    """A valid request with other bytes anywhere, also in its head."""
    path = bench.rng.choice([*BASES])
    return noisy(bench, message(BASES[path], path))


def noisy(bench: Bench, data: bytes) -> bytes:
    rng, found = bench.rng, bytearray(data)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(found))
        found[place : place + rng.randint(0, 2)] = rng.randbytes(rng.randint(0, 2))
    return bytes(found)


def bodies() -> list[bytes]:
    """Bodies that are hard to read."""
    deep = [b"[" * 100_000, b'{"prompt":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b'{"a":' * 50_000]
    numbers = [b"1" * 5000, b"1e999", b"-1e999", b"NaN", b"Infinity", b"1e-999", b"-0", b"1" * 400 + b".5"]
    values = [b'{"prompt":"a","text":"a","tokens":[0],"max_tokens":%s}' % number for number in numbers]
    values += [b'{"prompt":[%s]}' % number for number in numbers] + [b'{"tokens":[%s]}' % number for number in numbers]
    texts = [b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xff\xfe"', b'"\xed\xa0\x80"', b'"\\u0000"', b'"\n"', b'"a']
    values += [b'{"%s":%s}' % (name, text) for name in (b"prompt", b"text") for text in texts]
    return [*deep, *values, b"", b" ", b"null", b"[]", b'"a"', b"{}", b"{}{}", b"\xef\xbb\xbf{}", "{}".encode("utf-16")]


def heads() -> list[bytes]:
    """Requests that are not valid HTTP, or unusual."""
    body = json.dumps(BASES["/v1/completions"]).encode()
    tail = b"host: localhost\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    lines = [
        b"POST /v1/completions HTTP/3.0",
        b"POST /v1/completions HTTP/0.9",
        b"POST /v1/completions",
        b"FOO / HTTP/1.1",
    ]
    lines += [
        b"POST http://[::1/x HTTP/1.1",
        b"POST /%00%ff%zz HTTP/1.1",
        b"POST /\xff\xfe HTTP/1.1",
        b"POST * HTTP/1.1",
    ]
    lines += [
        b"POST //v1//completions HTTP/1.1",
        b"POST /../../etc/passwd HTTP/1.1",
        b"POST /v1/completions?\xff HTTP/1.1",
    ]
    lines += [b"POST ? HTTP/1.1", b"POST  / HTTP/1.1", b"DELETE /score HTTP/1.1", b"GET /v1/completions HTTP/1.1"]
    lines += [b"POST /v1/chat/completions HTTP/1.1", b"POST /" + b"a" * 60_000 + b" HTTP/1.1", b"CONNECT a:1 HTTP/1.1"]
    lines += [
        b"POST /v1/completions HTTP/1.0",
        b"POST http://localhost/v1/completions HTTP/1.1",
        b"\0" * 50,
        b"\x16\x03\x01",
    ]
    fields = [
        b"host",
        b": a",
        b"a b: c",
        b"x: \0",
        b"x: a\rb",
        b"content-type: \xff",
        b"expect: 100-continue",
        b"expect: x",
    ]
    fields += [b"upgrade: websocket\r\nconnection: upgrade", b"upgrade: h2c\r\nconnection: upgrade, http2-settings"]
    fields += [b"connection: close", b"content-encoding: gzip", b"transfer-encoding: gzip", b"authorization: \xff\xff"]
    found = [line + b"\r\n" + tail for line in lines]
    found += [b"POST /v1/completions HTTP/1.1\r\n" + field + b"\r\n" + tail for field in fields]
    found += [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n",
        b"\r\n\r\nGET / HTTP/1.1\r\n",
    ]
    return found
