"""Shards on a Dask cluster: the same work by the same function, on any number of machines."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from keraslm.bulk.job import Job, Outcome, Outcomes, score_shard
from keraslm.bulk.shards import Shard
from keraslm.errors import KeraslmError, UsageError
from keraslm.system.backend import require

_PATIENCE = 10  # seconds for the scheduler's first answer


def score_on_cluster(job: Job, shards: Sequence[Shard], scheduler: str) -> Outcomes:
    """Score shards on a Dask cluster whose machines find the models, texts and output folder at the same paths.

    Yields the outcomes in the order in which they finish. Dask gives the shard of a lost worker to a different one, at
    most as often as its setting `allowed-failures`.
    """
    require("distributed", extra="cluster", purpose="`scheduler`")
    from distributed import Client, as_completed

    if not shards:
        return
    try:
        client = Client(scheduler, timeout=_PATIENCE, set_as_default=False)
    except ValueError as error:
        raise UsageError(f"{scheduler!r} is no address of a Dask scheduler, such as tcp://host:8786.") from error
    except OSError as error:
        raise KeraslmError(f"{scheduler}: no Dask scheduler answers. Start one with: dask scheduler") from error
    with _quiet(), client:
        # Not pure: a shard that is submitted again is scored again, even if the scheduler has a result.
        futures = {client.submit(score_shard, job, shard, pure=False): shard for shard in shards}
        lost = []
        for future in as_completed(futures, loop=client.loop):
            # Without its future, Dask does not compute a finished shard again when its worker is lost.
            shard = futures.pop(future)
            outcome = _outcome(future, scheduler)
            del future
            if outcome:
                yield outcome
            else:
                lost.append(shard)
        # Dask also gives up shards that only waited on the lost workers. Each of them is tried again alone.
        for shard in lost:
            future = client.submit(score_shard, job, shard, pure=False)
            failure = f"{shard.name}: the Dask workers that scored it were lost, each time. Is there memory left?"
            yield _outcome(future, scheduler) or Outcome(shard, failure=failure, exit_code=KeraslmError.exit_code)


def _outcome(future: Any, scheduler: str) -> Outcome | None:
    """The answer of a worker; None if Dask gave up the shard because its workers were lost."""
    from distributed import CancelledError, KilledWorker

    try:
        outcome = future.result()
    except KilledWorker:
        return None
    except CancelledError as error:
        raise KeraslmError(f"{scheduler}: the Dask scheduler has gone. Pass `resume=True` to continue.") from error
    except ImportError as error:
        raise KeraslmError(f"A Dask worker lacks a module ({error}). Install the same keraslm on each.") from error
    assert isinstance(outcome, Outcome)
    return outcome


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
