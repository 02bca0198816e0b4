"""Start a server, load the model, and end when the system asks for it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from keraslm.errors import KeraslmError, UsageError
from keraslm.server.app import Service, make_app
from keraslm.server.batching import Batcher
from keraslm.server.model import Model
from keraslm.server.protocol import Protocol
from keraslm.server.rows import Facts
from keraslm.server.settings import Settings
from keraslm.server.texts import Texts
from keraslm.server.work import Engine
from keraslm.system.processes import Workers, available_cores
from keraslm.text.tokenizer import Tokenizer

KEEP_ALIVE = 30  # seconds that an idle connection stays open
BACKLOG = 2048  # connections that wait to be accepted
LAST = 2  # seconds for answers to requests that were given up


def serve(models: Sequence[Path], provider: str, settings: Settings, log: Callable[[str], None]) -> None:
    """Serve a model file, or several as an ensemble, until SIGTERM or SIGINT.

    Args:
        log: called with remarks for the user.

    Raises:
        UsageError: the address cannot be used.
        ModelFileError: a file cannot be opened.
    """
    threads = settings.threads or max(1, available_cores() // settings.workers)
    _raise_file_limit()
    logging.getLogger("uvicorn").addHandler(logging.NullHandler())  # the access log says what is to be said
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads would take the time of the workers
    sys.setswitchinterval(0.001)  # seconds: an answer of a worker waits no longer for the interpreter
    with _bound(settings) as listener, Workers(settings.workers, Engine, list(models), provider, threads) as workers:
        if settings.api_key is None and not settings.is_local:
            log(
                f"Everyone who reaches {settings.host} can use this server: `host` is not this machine's loopback "
                "address, and there is no `api_key`."
            )
        life = _Life(settings, workers, models, log)
        with asyncio.Runner(loop_factory=life.config.get_loop_factory()) as runner:
            runner.run(life.run(listener))


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # signals are handled below


class _Life:
    """The life of a server: loading, serving, draining."""

    def __init__(self, settings: Settings, workers: Workers, models: Sequence[Path], log: Callable[[str], None]):
        self._settings, self._workers, self._log = settings, workers, log
        self._name = settings.name or models[0].stem
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._service = Service(self._settings)
        self.config = uvicorn.Config(
            make_app(self._service),
            http=Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=LAST,
        )
        self._server = _Server(self.config)

    async def run(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                loop.add_signal_handler(number, self._on_signal)
            except NotImplementedError:  # Windows
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(self._on_signal))
        host, port = listener.getsockname()[:2]
        self._start(self._load(f"http://{f'[{host}]' if ':' in host else host}:{port}"))
        await self._server.serve([listener])
        if self._failure:
            raise self._failure

    def _start(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load(self, address: str) -> None:
        """Let all workers open the model; the server ends if one cannot."""
        count = self._settings.workers
        try:
            answers = [asyncio.wrap_future(self._workers.submit(None)) for _ in range(count)]
            facts: Facts = (await asyncio.gather(*answers))[0]
            context = self._settings.context or facts.context
            texts = Texts(Tokenizer.from_json(facts.tokenizer))
            batcher = Batcher(self._workers, count, facts.rows)
            self._service.model = Model(self._name, facts, texts, batcher, context)
            self._log(f"serving {self._name} at {address}")
        except KeraslmError as error:
            self._failure, self._server.should_exit = error, True

    def _on_signal(self) -> None:
        if self._service.draining:
            self._service.stopping.set()  # the second signal
            return
        self._service.draining = True
        self._start(self._drain())

    async def _drain(self) -> None:
        """Wait for the requests that are being answered, then end."""
        if self._service.active:
            self._log(f"completing {self._service.active} requests, for {self._settings.grace:g} seconds at most")
        loop = asyncio.get_running_loop()
        until = loop.time() + self._settings.grace
        while self._service.active and loop.time() < until and not self._service.stopping.is_set():
            await asyncio.sleep(0.02)
        self._service.stopping.set()
        self._server.should_exit = True


@contextmanager
def _bound(settings: Settings) -> Iterator[socket.socket]:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)  # asyncio sends at once only if the protocol is named
    except OSError as error:
        raise UsageError(f"`host` {settings.host!r} is no address of this machine ({error.strerror}).") from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise UsageError(
                f"Cannot listen at {settings.host}, `port` {settings.port} ({error.strerror}). "
                "Choose a different `port`; 0 finds a free one."
            ) from error
        yield listener


def _raise_file_limit() -> None:
    """Allow as many open connections as the system does."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1 << 16 if hard == resource.RLIM_INFINITY else min(hard, 1 << 16)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
