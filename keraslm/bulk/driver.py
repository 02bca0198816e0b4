"""A bulk job: plan, skip finished outputs, score the rest in parallel, report the outcomes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from keraslm import arguments
from keraslm.bulk.cluster import score_on_cluster
from keraslm.bulk.job import Job, Outcome, Outcomes, score_shards
from keraslm.bulk.records import pending, unwritable
from keraslm.bulk.shards import SIDE, Shard, groups, plan
from keraslm.config import user_path
from keraslm.errors import InputError, KeraslmError, UsageError
from keraslm.ngram.mixed import DEFAULT_WEIGHT, checked_weight
from keraslm.report.options import ScoreOptions
from keraslm.report.writer import write_scores
from keraslm.scoring.cached import cacheable, complete
from keraslm.scoring.ensemble import open_models
from keraslm.scoring.opening import read_model
from keraslm.system import Log
from keraslm.system.atomic import remove_abandoned
from keraslm.system.locks import folder_lock
from keraslm.system.processes import ProcessDiedError, Workers
from keraslm.system.progress import meter
from keraslm.system.signals import ended_by_sigterm
from keraslm.testtime.settings import HISTORY, CacheSettings
from keraslm.text.files import ERRORS, TextFile, replaced_note


@dataclass(frozen=True)
class BulkResult:
    """The result of a bulk job; `lines` and `tokens` (with end symbols) were scored now."""

    outcomes: tuple[Outcome, ...]  # of the shards that were scored now, in the order of their outputs
    finished: int  # number of shards that were finished before
    seconds: float  # duration of the job

    @property
    def failed(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.failure)

    @property
    def lines(self) -> int:
        return sum(outcome.lines for outcome in self.outcomes)

    @property
    def tokens(self) -> int:
        return sum(outcome.tokens for outcome in self.outcomes)

    def check(self) -> None:
        """Raise one error that lists the failed shards, if there are any.

        Raises:
            InputError: all failed because of their texts (exit code 2).
            KeraslmError: at least one failed for a different reason (exit code 1).
        """
        if not self.failed:
            return
        code = min(outcome.exit_code for outcome in self.failed)
        listed = [f"  {outcome.failure}" for outcome in self.failed]
        message = f"{len(self.failed)} of {len(self.outcomes) + self.finished} shards failed, the others are finished:"
        raise (InputError if code == InputError.exit_code else KeraslmError)(message, *listed)

    def __str__(self) -> str:
        count = len(self.outcomes) - len(self.failed)
        others = [(self.finished, "finished before"), (len(self.failed), "failed")]
        rate = self.tokens / self.seconds if self.seconds else 0.0
        shards = ["1 shard" if count == 1 else f"{count:,} shards", *(f"{n:,} {what}" for n, what in others if n)]
        return f"{', '.join(shards)}; {self.tokens:,} tokens in {self.seconds:.1f} s, {rate:,.0f} tokens per second"


def score_files(
    models: str | Path | Sequence[str | Path],
    files: Sequence[str | Path],
    output: str | Path,
    options: ScoreOptions,
    *,
    workers: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    scheduler: str | None = None,
    errors: str = "strict",
    encoding: str = "utf-8",
    provider: str = "auto",
    gzip: bool = False,
    log: Log = lambda _: None,
    write: Callable[..., None] = write_scores,
    ngram: str | Path | None = None,
    ngram_weight: float = DEFAULT_WEIGHT,
    cache_theta: float | None = None,
    cache_lambda: float | None = None,
    cache_window: int = HISTORY,
) -> BulkResult:
    """Score each of many texts into a file of its own; the bytes do not depend on the number of processes.

    Args:
        models: path of the model file, or of several with the same tokenizer, whose probabilities are averaged.
        files: texts, folders or patterns.
        output: folder of the scores; it is created if it does not exist.
        options: what is scored and how it is written.
        workers: processes on this machine, each with one session on one thread; ignored with `scheduler`.
        resume: skip finished outputs.
        overwrite: replace existing outputs; with `resume`, only those of different texts, models or settings.
        scheduler: use the workers of the Dask scheduler at this address, such as `"tcp://host:8786"`.
        errors: `"strict"` or `"replace"`, for invalid bytes.
        encoding: of the texts.
        provider: `"cpu"`, `"cuda"` or `"auto"`.
        gzip: compress the outputs.
        log: called with one line of progress text.
        write: writes the scores of one text; a function of a module, because processes import it.
        ngram: path of an n-gram model to mix the model with, word by word; see `keraslm.mix`.
        ngram_weight: its share, 0 to 1.
        cache_theta, cache_lambda, cache_window: parameters of a neural cache; see `keraslm.with_cache`. None: no cache.

    Returns:
        the outcome of each shard. A text that cannot be read does not stop the others, and is reported through `log`.

    Raises:
        UsageError: existing outputs, texts with the same name, no texts, or a second job in the folder.
        ModelFileError: a model cannot be used.
        MissingPackageError: `scheduler` needs `distributed`, which is not installed here.
        KeraslmError: the folder cannot be written, or nothing can be scored. Finished outputs are kept.

    Example:
        >>> result = score_files("model.onnx", ["texts/*.txt.gz"], "scores", ScoreOptions(), workers=2)
        >>> result.check()                                       # raises if a text could not be read
        >>> len(result.outcomes), result.tokens
        (8, 73760)
    """
    arguments.integer(workers, "workers", 1)
    arguments.choice(errors, "errors", ERRORS)
    arguments.instance(options, ScoreOptions, "options", "a ScoreOptions")
    start = time.monotonic()
    folder = user_path(arguments.path(output, "output"))
    paths = [user_path(path).absolute() for path in arguments.paths(models, "models")]
    files = arguments.paths(files, "files")
    arguments.not_empty(models=paths, files=files or None, output=output)
    mixture = None
    if ngram is not None:
        weight, place = checked_weight(ngram_weight), user_path(arguments.path(ngram, "ngram")).absolute()
        mixture = place, TextFile(place).digest(), weight
    settings = CacheSettings(cache_window, cache_theta, cache_lambda)
    cache = None if cache_theta is None and cache_lambda is None else complete(settings)
    if cache:
        cacheable(open_models(paths, provider))
    digests = tuple((path, read_model(path)[1]) for path in paths)
    job = Job(digests, options, errors, encoding, provider, gzip, write, mixture, cache)
    shards = plan(files, folder, job.ending, [*paths, *(mixture or ())[:1]])
    with ended_by_sigterm(), _claimed(folder, shards, log):
        todo = pending(shards, job.settings, resume, overwrite)
        scored = score_on_cluster(job, todo, scheduler) if scheduler else score_in_processes(job, todo, workers)
        outcomes = []
        with closing(scored), meter("scoring", sum(shard.size for shard in todo), show=True) as advance:
            for outcome in scored:
                advance(outcome.shard.size)
                if outcome.failure:
                    log(outcome.failure)
                elif outcome.replaced:
                    log(replaced_note(outcome.shard.name, outcome.replaced))
                outcomes.append(outcome)
    outcomes.sort(key=lambda outcome: outcome.shard.output)
    result = BulkResult(tuple(outcomes), len(shards) - len(todo), time.monotonic() - start)
    log(str(result))
    return result


def score_in_processes(job: Job, shards: Sequence[Shard], workers: int) -> Outcomes:
    """Score shards in processes of this machine; yields the outcomes in the order in which they finish.

    If a process dies on a group of shards, each of them is tried again alone.
    """
    if not shards:
        return
    workers, deaths = min(workers, len(shards)), 0
    work = groups(shards, workers)
    with Workers(workers, partial, score_shards, job) as pool:
        while work:
            futures, work = {pool.submit(group): group for group in work}, []
            for future in as_completed(futures):
                group = futures.pop(future)
                try:
                    yield from future.result()
                    deaths = 0
                except ProcessDiedError as error:
                    deaths += 1
                    if deaths > workers:
                        raise KeraslmError(f"{deaths} shards in a row cannot be scored. {error}") from error
                    if len(group) > 1:
                        work += [[shard] for shard in group]
                    else:
                        failure = f"{group[0].name}: {error}"
                        yield Outcome(group[0], failure=failure, exit_code=error.exit_code)


@contextmanager
def _claimed(folder: Path, shards: Sequence[Shard], log: Log) -> Iterator[None]:
    """Create and lock an output folder; remove temporary files before and after."""
    names = {path.name for shard in shards for path in (shard.output, shard.record)}

    def clean() -> None:
        for place in (folder, folder / SIDE):
            remove_abandoned(place, names)

    with ExitStack() as stack:
        try:
            (folder / SIDE).mkdir(parents=True, exist_ok=True)
            stack.enter_context(folder_lock(folder, log, UsageError, "output", f"{SIDE}/lock"))
            clean()
        except OSError as error:
            raise unwritable(folder, error) from error
        try:
            yield
        finally:
            with suppress(OSError):  # of a failing disk; the next job tries again
                clean()
