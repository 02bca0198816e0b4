"""Worker processes that apply one function; a process that dies is replaced and its work is repeated.

Each worker is a `ProcessPoolExecutor` of one process, driven by one thread, so that a dead process breaks only its own
executor. The processes are spawned; a fork would copy the threads and locks of the framework that trains.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import Any

from keraslm.errors import KeraslmError
from keraslm.system.backend import broken_package

TRIES = 3  # of a piece of work whose process dies


class ProcessDiedError(KeraslmError):
    """The process that did a piece of work died, `TRIES` times."""


class Workers:
    """Processes that apply one function to many items.

    `make(*arguments)` makes the function, once per process. Everything is pickled. Processes start when they are
    needed; they are killed at the end of the block, and end when this process dies.

    Futures and iterators raise what the function raised, `ProcessDiedError` for an item whose process died `TRIES`
    times, and `KeraslmError` if a process cannot be started.

    Example:
        >>> with Workers(2, partial, pow, 2) as workers:
        ...     list(workers.map(range(4)))
        [1, 2, 4, 8]
    """

    def __init__(self, count: int, make: Callable[..., Callable[[Any], Any]], *arguments: Any):
        self._threads = ThreadPoolExecutor(count)
        self._workers = [_Worker(make, arguments) for _ in range(count)]
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.stop(for_good=True)
        self._threads.shutdown()

    def submit(self, item: Any) -> Future[Any]:
        """Apply the function to an item in the first process that is free; items start in order."""
        return self._threads.submit(self._apply, item)

    def map(self, items: Iterable[Any]) -> Iterator[Any]:
        """The results, in the order of the items; at most two items per process are in memory."""
        waiting: deque[Future[Any]] = deque()
        for item in items:
            waiting.append(self.submit(item))
            if len(waiting) > 2 * len(self._workers):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _apply(self, item: Any) -> Any:
        worker = self._idle.get()
        try:
            for _ in range(TRIES):
                try:
                    return worker.apply(item)
                except BrokenExecutor:
                    ending = worker.stop()
            raise ProcessDiedError(f"The process {ending}, {TRIES} times. Is there memory left?")
        finally:
            self._idle.put(worker)


class _Worker:
    def __init__(self, make: Callable[..., Any], arguments: tuple[Any, ...]):
        self._make, self._arguments = make, arguments
        self._executor: ProcessPoolExecutor | None = None
        self._closed = False

    def apply(self, item: Any) -> Any:
        if self._executor is None:
            self._start()
            try:
                self._submit(_make_function, self._make, self._arguments)
            except Exception as error:
                if not isinstance(error, BrokenExecutor):
                    self.stop()
                raise
        return self._submit(_apply_function, item)

    def stop(self, for_good: bool = False) -> str:
        """Kill the process; returns how it ended."""
        with _starting:
            self._closed = for_good or self._closed
            executor, self._executor = self._executor, None
            if executor is None:
                return "did not start"
            self._context.process.kill()
        executor.shutdown()
        code = self._context.process.exitcode or 0
        names = {number.value: number.name for number in signal.Signals}
        return f"was killed by {names.get(-code, -code)}" if code < 0 else f"ended with code {code}"

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        executor = self._executor
        if executor is None:
            raise CancelledError
        return executor.submit(function, *arguments).result()

    def _start(self) -> None:
        with _starting:
            if self._closed:
                raise CancelledError
            self._context = _Context()
            try:
                with _isolated():
                    executor = ProcessPoolExecutor(1, self._context, _begin)
                    if hasattr(signal, "pthread_sigmask"):  # the child inherits it: Ctrl-C is for this process
                        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
                    executor.submit(os.getpid)  # starts the process
                self._executor = executor
            except OSError as error:
                raise KeraslmError(f"A process cannot be started ({error}). Use fewer `workers`.") from error


class _Context(SpawnContext):
    """Remembers the process that an executor starts."""

    process: SpawnProcess

    def Process(self, *arguments: Any, **named: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802
        self.process = SpawnProcess(*arguments, **named)
        return self.process


_starting = threading.Lock()


@contextmanager
def _isolated() -> Iterator[None]:
    """Processes started in the block do not import the main program, nor anything from the working directory."""
    main, path, safe = sys.modules["__main__"], [*sys.path], os.environ.get("PYTHONSAFEPATH")
    own, here = Path(__file__).parents[2], Path.cwd()
    sys.modules["__main__"] = ModuleType("__main__")
    sys.path[:] = [entry for entry in path if entry and (Path(entry).resolve() != here or here == own)]
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        sys.modules["__main__"], sys.path[:] = main, path
        del os.environ["PYTHONSAFEPATH"]
        if safe is not None:
            os.environ["PYTHONSAFEPATH"] = safe


def available_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# In a worker process

_function: Callable[[Any], Any]


def _begin() -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(0)


def _make_function(make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    global _function
    with _import_errors():
        _function = make(*arguments)


def _apply_function(item: Any) -> Any:
    with _import_errors():
        return _function(item)


@contextmanager
def _import_errors() -> Iterator[None]:
    """Explain the failed import of a package here: the other process gets no traceback."""
    try:
        yield
    except Exception as error:
        if explained := broken_package(error):
            raise explained from error
        raise
