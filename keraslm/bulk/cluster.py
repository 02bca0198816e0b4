"""Work on a Dask cluster: the same as in local processes, by the same functions, on any number of machines."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from keraslm.bulk.job import Job, Outcome, Outcomes, score_shards
from keraslm.bulk.shards import Shard, groups
from keraslm.errors import KeraslmError, UsageError
from keraslm.system.backend import require
from keraslm.system.processes import ProcessDiedError

_PATIENCE = 10  # seconds for the scheduler's first answer


def score_on_cluster(job: Job, shards: Sequence[Shard], scheduler: str) -> Outcomes:
    """Score shards on a Dask cluster whose machines find the models, texts and output folder at the same paths.

    Yields the outcomes in the order in which they finish. Dask gives the shard of a lost worker to a different one, at
    most as often as its setting `allowed-failures`.
    """
    require("distributed", extra="cluster", purpose="`scheduler`")
    if not shards:
        return
    with _connected(scheduler) as client:
        from distributed import as_completed

        # Not pure: a shard that is submitted again is scored again, even if the scheduler has a result.
        work = groups(shards, _slots(client))
        futures = {client.submit(score_shards, job, group, pure=False): group for group in work}
        lost: list[Shard] = []
        for future in as_completed(futures, loop=client.loop):
            # Without its future, Dask does not compute a finished shard again when its worker is lost.
            group = futures.pop(future)
            outcomes = _answer(future, scheduler, "Pass `resume=True` to continue.")
            del future
            if outcomes is None:
                lost += group
            else:
                yield from outcomes
        # Dask also gives up shards that only waited on the lost workers. Each of them is tried again alone.
        for shard in lost:
            future = client.submit(score_shards, job, [shard], pure=False)
            failure = f"{shard.name}: the Dask workers that scored it were lost, each time. Is there memory left?"
            lost_again = [Outcome(shard, failure=failure, exit_code=KeraslmError.exit_code)]
            yield from _answer(future, scheduler, "Pass `resume=True` to continue.") or lost_again


def map_on_cluster(function: Callable[[Any], Any], items: Iterable[Any], scheduler: str) -> Iterator[Any]:
    """The answers of a function on a Dask cluster, in the order of the items, as `Workers.map` gives them.

    At most two items per thread of the cluster, and one more, are in memory.
    """
    with _connected(scheduler) as client:
        waiting: deque[tuple[Any, Any]] = deque()

        def answer() -> Any:
            future, item = waiting.popleft()
            found = _answer(future, scheduler)
            if found is None:  # perhaps it only waited on a lost worker
                found = _answer(client.submit(function, item, pure=False), scheduler)
            if found is None:
                raise ProcessDiedError("The Dask workers were lost, each time. Is there memory left?")
            return found

        for item in items:
            waiting.append((client.submit(function, item, pure=False), item))
            if len(waiting) > 2 * _slots(client):
                yield answer()
        while waiting:
            yield answer()


@contextmanager
def _connected(scheduler: str) -> Iterator[Any]:
    """A client of the scheduler at an address."""
    require("distributed", extra="cluster", purpose="`scheduler`")
    from distributed import Client
    from distributed.comm import resolve_address

    try:
        resolve_address(scheduler)  # here, because a client that fails with it prints a traceback
        client = Client(scheduler, timeout=_PATIENCE, set_as_default=False)
    except ValueError as error:
        raise UsageError(f"{scheduler!r} is no address of a Dask scheduler, such as tcp://host:8786.") from error
    except OSError as error:
        raise KeraslmError(f"{scheduler}: no Dask scheduler answers. Start one with: dask scheduler") from error
    with _quiet(), client:
        yield client


def _slots(client: Any) -> int:
    """Number of tasks that the cluster does at a time."""
    return max(1, sum(client.nthreads().values()))


def _answer(future: Any, scheduler: str, advice: str = "") -> Any:
    """The answer of a worker; None if Dask gave up the task because its workers were lost."""
    from distributed import CancelledError, KilledWorker

    try:
        return future.result()
    except KilledWorker:
        return None
    except CancelledError as error:
        raise KeraslmError(f"{scheduler}: the Dask scheduler has gone. {advice}".rstrip()) from error
    except ImportError as error:
        raise KeraslmError(f"A Dask worker lacks a module ({error}). Install the same keraslm on each.") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask from logging the traceback of a lost connection, which is reported as an error."""
    levels = {logger: logger.level for logger in map(logging.getLogger, ("distributed", "distributed.client"))}
    try:
        for logger in levels:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
