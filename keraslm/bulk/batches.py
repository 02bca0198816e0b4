"""Batches of texts and their costs, in the order of the batches: by this process, by several, or by a Dask cluster."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from keraslm.bulk.cluster import map_on_cluster
from keraslm.bulk.job import FileScorer, Models, session_of
from keraslm.perplexity import TextCost
from keraslm.scoring.ensemble import open_models
from keraslm.scoring.scorer import Scorer
from keraslm.scoring.texts import score_texts
from keraslm.system.processes import Workers

Batch = Sequence[str]


def costs_in_order(
    models: Models, batches: Iterable[Batch], provider: str = "auto", workers: int = 1, scheduler: str | None = None
) -> Iterator[list[TextCost]]:
    """The costs of the texts of each batch, which depend on that batch only.

    Batches are read as they are needed: at most two per process, and one more, are in memory.

    Args:
        models: path and SHA-256 of each model file.
        batches: texts that are scored side by side, each with the state of its own lines.
        provider: where onnxruntime computes.
        workers: number of processes, each with one session on one thread; 1 is this process.
        scheduler: address of a Dask scheduler, whose workers are used instead.

    Raises:
        ProcessDiedError: a process died, each time that it scored the first batch without costs.
    """
    score = partial(_costs_in_worker, models, provider)
    if scheduler is not None:
        yield from map_on_cluster(score, batches, scheduler)
    elif workers == 1:
        scorer = FileScorer(open_models([path for path, _ in models], provider, threads=1))
        for batch in batches:
            yield batch_costs(scorer, batch)
    else:
        with Workers(workers, partial, _costs_in_worker, models, provider) as pool:
            yield from pool.map(batches)


def batch_costs(scorer: Scorer, texts: Batch) -> list[TextCost]:
    """The cost of each text; all texts are scored together, whatever the number of their lines."""
    return [score.cost for score in score_texts(scorer, texts, lines_ahead=sys.maxsize)]


def _costs_in_worker(models: Models, provider: str, texts: Batch) -> list[TextCost]:
    return batch_costs(FileScorer(session_of(models, provider)), texts)
