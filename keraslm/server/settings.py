"""How a server is set up, and what it refuses."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, fields

from keraslm import arguments
from keraslm.config import CONTEXTS
from keraslm.errors import UsageError


@dataclass(frozen=True)
class Limits:
    """The largest request, and the most work at a time.

    Attributes:
        max_body: bytes of a request.
        max_prompts: prompts of a request, times samples `n`.
        max_tokens: tokens of a request: those of its prompts, and those that it may generate.
        max_logprobs: alternatives per token.
        max_queue: requests that are being answered; more are refused with status 429.
        timeout: seconds until a request is given up, with status 503.
    """

    max_body: int = 4 << 20
    max_prompts: int = 1024
    max_tokens: int = 1 << 18
    max_logprobs: int = 100
    max_queue: int = 256
    timeout: float = 600.0

    def __post_init__(self) -> None:
        for each in fields(self):
            if each.name != "timeout":
                arguments.integer(getattr(self, each.name), each.name, 0 if each.name == "max_logprobs" else 1)
        if not 0 < arguments.number(self.timeout, "timeout") < float("inf"):
            raise UsageError(f"`timeout` is {self.timeout}, but must be above 0 and finite.")


@dataclass(frozen=True)
class Settings:
    """Everything about a server except its model.

    Attributes:
        host, port: where it listens; port 0 chooses a free one.
        name: of the model in answers; None for the name of its file.
        api_key: that requests must carry; None for none.
        workers: processes that compute.
        threads: per worker; None shares the cores among the workers.
        context: how far the state is carried in a prompt; None for that of the training.
        grace: seconds after SIGTERM in which requests are completed.
        cors_origins: web pages, such as `https://example.org`, whose scripts may send requests.
        log_prompts: whether the access log contains prompts.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    name: str | None = None
    api_key: str | None = field(default=None, repr=False)
    workers: int = 1
    threads: int | None = None
    context: str | None = None
    grace: float = 20.0
    cors_origins: tuple[str, ...] = ()
    log_prompts: bool = False
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        arguments.integer(self.workers, "workers", 1)
        if self.threads is not None:
            arguments.integer(self.threads, "threads", 1)
        if arguments.integer(self.port, "port", 0) > 65535:
            raise UsageError(f"`port` is {self.port}, but must be at most 65535.")
        if self.context is not None:
            arguments.choice(self.context, "context", CONTEXTS)
        if not 0 <= arguments.number(self.grace, "grace") < float("inf"):
            raise UsageError(f"`grace` is {self.grace}, but must be 0 or more and finite.")
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise UsageError("`api_key` has characters that an HTTP header cannot carry; use printable ASCII.")

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
