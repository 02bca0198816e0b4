"""Worker processes that apply one function; a process that dies is replaced and its work is repeated.

Each process is driven by one thread, through a pipe. The processes are spawned; a fork would copy the threads and locks
of the framework that trains.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import ForkingPickler
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

    Attributes:
        deaths: number of processes that died.

    Example:
        >>> with Workers(2, partial, pow, 2) as workers:
        ...     list(workers.map(range(4)))
        [1, 2, 4, 8]
    """

    def __init__(self, count: int, make: Callable[..., Callable[[Any], Any]], *arguments: Any):
        self.deaths = 0
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
                except _DiedError:
                    self.deaths += 1
                    ending = worker.stop()
            raise ProcessDiedError(f"The process {ending}, {TRIES} times. Is there memory left?")
        finally:
            self._idle.put(worker)


class _DiedError(Exception):
    """The process ended before it answered."""


class _RemoteError(Exception):
    """The traceback of an error in a process, as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class _Worker:
    def __init__(self, make: Callable[..., Any], arguments: tuple[Any, ...]):
        self._make, self._arguments = make, arguments
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None  # closed when nothing refers to it: a thread may wait for an answer
        self._closed = False

    def apply(self, item: Any) -> Any:
        if self._process is None:
            self._start()
            try:
                self._ask((self._make, self._arguments))
            except _DiedError:
                raise
            except BaseException:
                self.stop()
                raise
        return self._ask(item)

    def stop(self, for_good: bool = False) -> str:
        """Kill the process; returns how it ended."""
        with _starting:
            self._closed = for_good or self._closed
            process, self._process, self._pipe = self._process, None, None
        if process is None:
            return "did not start"
        process.kill()
        process.join()
        code = process.exitcode or 0
        names = {number.value: number.name for number in signal.Signals}
        return f"was killed by {names.get(-code, -code)}" if code < 0 else f"ended with code {code}"

    def _ask(self, message: Any) -> Any:
        pipe = self._pipe
        if pipe is None:
            raise CancelledError
        try:
            pipe.send(message)
            data = pipe.recv_bytes()
        except (EOFError, OSError) as error:
            raise _DiedError from error
        trace, answer = pickle.loads(data)
        if trace is None:
            return answer
        raise answer from _RemoteError(trace)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        with _starting:
            if self._closed:
                raise CancelledError
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there,))
            try:
                with _isolated():
                    if hasattr(signal, "pthread_sigmask"):  # the child inherits it: Ctrl-C is for this process
                        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
                    process.start()
            except OSError as error:
                raise KeraslmError(f"A process cannot be started ({error}). Use fewer `workers`.") from error
            finally:
                there.close()  # of this process: the pipe ends when the child does
            self._process, self._pipe = process, here


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


def _work(pipe: Connection) -> None:
    """Make the function from the first message, and apply it to each later one."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    function: Callable[[Any], Any] | None = None
    with suppress(EOFError, BrokenPipeError):  # the parent has ended, or wants no more
        while True:
            message = pipe.recv_bytes()
            try:
                with _import_errors():
                    if function is None:
                        make, arguments = pickle.loads(message)
                        function, answer = make(*arguments), None
                    else:
                        answer = function(pickle.loads(message))
                data = ForkingPickler.dumps((None, answer))
            except BaseException as error:
                data = _pickled_error(error)
            pipe.send_bytes(data)


def _pickled_error(error: BaseException) -> Any:
    trace = "".join(traceback.format_exception(error))
    try:
        return ForkingPickler.dumps((trace, error))
    except Exception:
        return ForkingPickler.dumps((trace, RuntimeError(f"{type(error).__name__}: {error}")))


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(0)


@contextmanager
def _import_errors() -> Iterator[None]:
    """Explain the failed import of a package here: the other process gets no traceback."""
    try:
        yield
    except Exception as error:
        if explained := broken_package(error):
            raise explained from error
        raise
