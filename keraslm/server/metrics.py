"""Counters for Prometheus, and the access log."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)  # seconds


class Metrics:
    """The numbers of `/metrics`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "keraslm_requests", "Requests that were answered.", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "keraslm_request_seconds",
            "Seconds until a request was answered.",
            ["path"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.tokens = Counter(
            "keraslm_tokens", "Tokens of prompts, and of completions.", ["kind"], registry=self.registry
        )
        self.active = Gauge("keraslm_active_requests", "Requests that are being answered.", registry=self.registry)
        self.waiting = Gauge("keraslm_waiting_rows", "Texts that wait for a worker.", registry=self.registry)
        self.deaths = Gauge("keraslm_worker_deaths", "Workers that died and were replaced.", registry=self.registry)

    def text(self) -> bytes:
        return generate_latest(self.registry)

    def add(self, record: Record) -> None:
        """Count an answered request."""
        self.requests.labels(record.path, record.status).inc()
        self.seconds.labels(record.path).observe(record.seconds)
        for kind in ("prompt", "completion"):
            self.tokens.labels(kind).inc(getattr(record, f"{kind}_tokens"))


@dataclass
class Record:
    """What is known of a request when it has been answered. `path` is that of the route, `status` 499 for a client
    that is gone."""

    id: str
    client: str
    method: str
    path: str
    started: float = field(default_factory=time.perf_counter)
    status: int = 0
    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    stream: bool = False
    error: str | None = None
    prompt: Any = None

    def end(self) -> None:
        self.seconds = time.perf_counter() - self.started

    def line(self) -> str:
        """A line of the access log, JSON."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        found = {"time": now, "id": self.id, "client": self.client, "method": self.method, "path": self.path}
        found |= {"status": self.status, "seconds": round(self.seconds, 4)}  # type: ignore[dict-item]
        optional = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "stream": self.stream,
            "error": self.error,
            "prompt": self.prompt,
        }
        return json.dumps(found | {name: value for name, value in optional.items() if value})


def log(record: Record) -> None:
    """Write a line to standard error; a reader that is gone does not stop the server."""
    try:
        sys.stderr.write(record.line() + "\n")
        sys.stderr.flush()
    except OSError:
        pass
