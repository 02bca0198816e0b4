"""Blocks of a text through several processes, the answers in order."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from keraslm.errors import KeraslmError, TextError
from keraslm.text.files import Block, invalid_byte
from keraslm.text.jobs import CountJob, EncodeJob

_JOBS: dict[str, Any] = {"encode": EncodeJob, "count": CountJob}


def run_blocks(job: str, arguments: tuple[Any, ...], blocks: Iterable[Block], workers: int) -> Iterator[Any]:
    """Do a job with every block of a text.

    Args:
        job: `"encode"` or `"count"`, see `keraslm.text.jobs`.
        arguments: of the job's class.
        blocks: of the text; twice as many as there are workers are held at once.
        workers: processes; 0 does everything in this one.

    Returns:
        the answer to each block, in order; then what each job gives in the end.

    Raises:
        TextError: for the first byte that is not UTF-8, after the answers to the blocks before it.
        KeraslmError: when a worker dies.
    """
    if workers:
        return _in_processes(job, arguments, blocks, workers)
    return _in_this_process(_JOBS[job](*arguments), blocks)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_this_process(job: Any, blocks: Iterable[Block]) -> Iterator[Any]:
    for block in blocks:
        try:
            yield job(block.data)
        except UnicodeDecodeError as error:
            raise invalid_byte(block, error.start) from error
    yield job.finish()


def _in_processes(job: str, arguments: tuple[Any, ...], blocks: Iterable[Block], workers: int) -> Iterator[Any]:
    with ThreadPoolExecutor(workers) as threads:
        processes = [_Process(job, arguments) for _ in range(workers)]
        try:
            idle: SimpleQueue[_Process] = SimpleQueue()
            for process in processes:
                idle.put(process)

            def ask(block: Block) -> Any:
                process = idle.get()
                try:
                    answer = process.ask(block.data)
                finally:
                    idle.put(process)
                if isinstance(answer, UnicodeDecodeError):
                    raise invalid_byte(block, answer.start) from answer
                return answer

            waiting: deque[Future[Any]] = deque()
            try:
                for block in blocks:
                    waiting.append(threads.submit(ask, block))
                    if len(waiting) > 2 * workers:
                        yield waiting.popleft().result()
            except TextError:  # of the file; what came before it is still good
                yield from (future.result() for future in waiting)
                raise
            yield from (future.result() for future in waiting)
            yield from [process.ask(None) for process in processes]
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.stop()


class _Process:
    def __init__(self, job: str, arguments: tuple[Any, ...]):
        environment = os.environ | {
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "keraslm.text.jobs"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self._send((job, arguments))

    def ask(self, data: bytes | None) -> Any:
        assert self._process.stdout is not None
        try:
            self._send(data)
            answer = pickle.load(self._process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            code = self._process.wait()
            raise KeraslmError(f"A process that encodes text ended with code {code}; is there memory left?") from error
        if isinstance(answer, Exception) and not isinstance(answer, UnicodeDecodeError):
            raise answer
        return answer

    def stop(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._process.wait()

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None
        pickle.dump(message, self._process.stdin, protocol=5)
        self._process.stdin.flush()
