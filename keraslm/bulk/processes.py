"""Shards through several processes of this machine, which are watched: one that dies is replaced."""

from __future__ import annotations

import contextlib
import os
import pickle
import selectors
import signal
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any

from keraslm.bulk.job import Job, Outcome, Outcomes
from keraslm.bulk.shards import Shard
from keraslm.errors import KeraslmError

TRIES = 3  # of a shard whose process dies


def score_in_processes(job: Job, shards: Sequence[Shard], workers: int) -> Outcomes:
    """Score shards, each by the first process that is free.

    Args:
        job: what all shards share.
        shards: in the order in which they are begun.
        workers: processes, each with a session of its own on one thread.

    Returns:
        the outcomes, as they come; whoever stops early closes them. A shard whose process dies is tried `TRIES` times.

    Raises:
        KeraslmError: the model or the output folder cannot be used, or processes die whatever they score.
    """
    return _Pool(job, shards, workers).outcomes()


class _Pool:
    def __init__(self, job: Job, shards: Sequence[Shard], workers: int):
        self._job, self._workers = job, min(workers, len(shards))
        self._waiting, self._tries = deque(shards), Counter[Shard]()
        self._deaths = 0  # since the last answer

    def outcomes(self) -> Outcomes:
        with selectors.DefaultSelector() as selector:
            try:
                for _ in range(self._workers):
                    self._start(selector)
                while selector.get_map():
                    for key, _ in selector.select():
                        yield from self._answered(key.data, selector)
            finally:
                for key in [*selector.get_map().values()]:
                    key.data.stop()

    def _start(self, selector: selectors.BaseSelector) -> None:
        worker = _Worker(self._job)
        selector.register(worker.answers, selectors.EVENT_READ, worker)
        worker.give(self._waiting.popleft())

    def _answered(self, worker: _Worker, selector: selectors.BaseSelector) -> Iterator[Outcome]:
        answer = worker.answer()
        if answer is None:
            selector.unregister(worker.answers)
            worker.stop()
            yield from self._died(worker)
            if self._waiting:
                self._start(selector)
            return
        self._deaths = 0
        yield answer
        if self._waiting:
            worker.give(self._waiting.popleft())
        else:
            selector.unregister(worker.answers)
            worker.stop()

    def _died(self, worker: _Worker) -> Iterator[Outcome]:
        shard, ending = worker.shard, worker.ending()
        self._deaths += 1
        if self._deaths >= TRIES * (self._workers + 1):
            raise KeraslmError(f"{self._deaths} scoring processes in a row {ending}. Is there memory left?")
        self._tries[shard] += 1
        if self._tries[shard] < TRIES:
            self._waiting.appendleft(shard)
            return
        failure = f"{shard.name}: the process that scored it {ending}, {TRIES} times. Is there memory left?"
        yield Outcome(shard, failure=failure, exit_code=KeraslmError.exit_code)


class _Worker:
    shard: Shard

    def __init__(self, job: Job):
        environment = os.environ | {
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        command = [sys.executable, "-m", "keraslm.bulk.worker"]
        pipe = subprocess.PIPE
        try:
            # In a group of its own: Ctrl-C is for the driver, which ends its workers.
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, process_group=0)
        except OSError as error:
            raise KeraslmError(f"A scoring process cannot be started ({error}). Try fewer --workers.") from error
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self.answers = self._process.stdin, self._process.stdout
        self._send(job)

    def give(self, shard: Shard) -> None:
        self.shard = shard
        self._send(shard)

    def answer(self) -> Outcome | None:
        """The outcome that is waiting; None when the process has died."""
        try:
            answer = pickle.load(self.answers)
        except (OSError, EOFError, pickle.UnpicklingError):
            return None
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Outcome)
        return answer

    def ending(self) -> str:
        """How the process ended, in words."""
        code = self._process.wait()
        if code >= 0:
            return f"ended with code {code}"
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
        return f"was killed by signal {-code}"

    def stop(self) -> None:
        self._process.kill()
        for pipe in (self._requests, self.answers):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self._process.wait()

    def _send(self, message: Any) -> None:
        # A process that has died already is found by its answer.
        with contextlib.suppress(BrokenPipeError):
            pickle.dump(message, self._requests, protocol=5)
            self._requests.flush()
