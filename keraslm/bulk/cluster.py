"""Shards over a Dask cluster: the same work by the same function, on any number of machines."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from keraslm.bulk.job import Job, Outcome, Outcomes, score_shard
from keraslm.bulk.shards import Shard
from keraslm.errors import KeraslmError, UsageError
from keraslm.system.backend import require

_PATIENCE = 10  # seconds for the scheduler's first answer


def score_on_cluster(job: Job, shards: Sequence[Shard], scheduler: str) -> Outcomes:
    """Score shards on a Dask cluster, whose machines see model, texts and output folder at the same paths.

    Args:
        job: what all shards share.
        shards: in the order in which they are begun.
        scheduler: address, such as `"tcp://host:8786"`.

    Returns:
        the outcomes, as they come; whoever stops early closes them. Dask gives the shard of a lost worker
        to another one, as often as its `allowed-failures` says.

    Raises:
        MissingPackageError: `distributed` is not installed here.
        UsageError: an address that is none.
        KeraslmError: no scheduler answers, it goes away, or the model or the output folder cannot be used.
    """
    require("distributed", extra="cluster", purpose="--scheduler")
    return _outcomes(job, shards, scheduler)


def _outcomes(job: Job, shards: Sequence[Shard], scheduler: str) -> Outcomes:
    from distributed import Client, as_completed

    if not shards:
        return
    try:
        client = Client(scheduler, timeout=_PATIENCE, set_as_default=False)
    except ValueError as error:
        raise UsageError(f"{scheduler!r} is no address of a Dask scheduler; one looks like tcp://host:8786.") from error
    except OSError as error:
        raise KeraslmError(f"{scheduler}: no Dask scheduler answers. Start one with: dask scheduler") from error
    with _quiet(), client:
        # Not pure: a shard that is asked for again is scored again, whatever the scheduler remembers.
        futures = {client.submit(score_remotely, job, shard, pure=False): shard for shard in shards}
        lost = []
        for future in as_completed(futures, loop=client.loop):
            # Forgotten once it is read: Dask would compute again what a worker that is lost later has finished.
            shard = futures.pop(future)
            outcome = _outcome(future, scheduler)
            del future
            if outcome:
                yield outcome
            else:
                lost.append(shard)
        # Dask blames what only waited on the lost workers too. Alone, each shard answers for itself.
        for shard in lost:
            yield _outcome(client.submit(score_remotely, job, shard, pure=False), scheduler) or _failure(shard)


def score_remotely(job: Job, shard: Shard) -> Outcome:
    """`score_shard` in a process that Dask has started."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return score_shard(job, shard)


def _outcome(future: Any, scheduler: str) -> Outcome | None:
    """What a worker answered; None when Dask has given the shard up, because its workers were lost."""
    from distributed import CancelledError, KilledWorker

    try:
        outcome = future.result()
    except KilledWorker:
        return None
    except CancelledError as error:
        raise KeraslmError(f"{scheduler}: the Dask scheduler has gone. Pass --resume to go on.") from error
    except ImportError as error:
        raise KeraslmError(f"A Dask worker lacks a module ({error}). Install the same keraslm on each.") from error
    assert isinstance(outcome, Outcome)
    return outcome


@contextmanager
def _quiet() -> Iterator[None]:
    """Dask logs a lost connection with its traceback; here it is an error with a sentence."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _failure(shard: Shard) -> Outcome:
    failure = f"{shard.name}: the Dask workers that scored it were lost, each time. Is there memory left?"
    return Outcome(shard, failure=failure, exit_code=KeraslmError.exit_code)
