"""The whole of a bulk job: plan, leave out what is finished, score the rest in parallel, tell what became of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from keraslm.bulk.cluster import score_on_cluster
from keraslm.bulk.job import Job, Outcome, Outcomes, Writer
from keraslm.bulk.processes import score_in_processes
from keraslm.bulk.records import claimed, pending, remove_abandoned, unwritable
from keraslm.bulk.shards import Shard, plan
from keraslm.errors import InputError, KeraslmError, UsageError
from keraslm.report.options import ScoreOptions
from keraslm.report.writer import write_scores
from keraslm.scoring.opening import read_model
from keraslm.system.signals import ended_by_sigterm
from keraslm.text.meter import meter

Log = Callable[[str], None]


@dataclass(frozen=True)
class BulkResult:
    """What became of a bulk job.

    Attributes:
        outcomes: of the shards that were scored now, in the order of their outputs.
        finished: shards that were finished before and left as they are.
        seconds: that the job took.
    """

    outcomes: tuple[Outcome, ...]
    finished: int
    seconds: float

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """Shards that have no output."""
        return tuple(outcome for outcome in self.outcomes if outcome.failure)

    @property
    def lines(self) -> int:
        """Scored now."""
        return sum(outcome.lines for outcome in self.outcomes)

    @property
    def tokens(self) -> int:
        """Scored now, the end symbol of each line counted."""
        return sum(outcome.tokens for outcome in self.outcomes)

    @property
    def replaced(self) -> int:
        """Lines scored now that held invalid UTF-8."""
        return sum(outcome.replaced for outcome in self.outcomes)

    def check(self) -> None:
        """Raise one error that lists the shards that failed, if any did.

        Raises:
            InputError: their texts are at fault (exit code 2).
            KeraslmError: something failed at run time (exit code 1).
        """
        if not self.failed:
            return
        code = min(outcome.exit_code for outcome in self.failed)
        listed = [f"  {outcome.failure}" for outcome in self.failed]
        total = len(self.outcomes) + self.finished
        message = f"{len(self.failed)} of {total} shards failed, the others are finished:"
        raise (InputError if code == InputError.exit_code else KeraslmError)(message, *listed)

    def __str__(self) -> str:
        count = len(self.outcomes) - len(self.failed)
        others = [(self.finished, "finished before"), (len(self.failed), "failed")]
        rate = self.tokens / self.seconds if self.seconds else 0.0
        shards = ["1 shard" if count == 1 else f"{count:,} shards", *(f"{n:,} {what}" for n, what in others if n)]
        return f"{', '.join(shards)}; {self.tokens:,} tokens in {self.seconds:.1f} s, {rate:,.0f} tokens a second"


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
    provider: str = "auto",
    gzip: bool = False,
    log: Log = lambda _: None,
    write: Writer = write_scores,
) -> BulkResult:
    """Score each of many texts into a file of its own; the bytes do not depend on how many processes do it.

    Args:
        models: path of the model file, or paths of several with the same tokenizer: scores are of the mean then.
        files: texts or patterns.
        output: folder of the scores, made where it is missing.
        options: what is scored and how it is written.
        workers: processes on this machine, each with one session on one thread; without `scheduler` only.
        resume: leave out what is finished.
        overwrite: replace what is there; with `resume`, only what was made of something else.
        scheduler: address of a Dask scheduler whose workers do it instead, such as `"tcp://host:8786"`.
        errors: `"strict"` or `"replace"`, for invalid UTF-8.
        provider: `"cpu"`, `"cuda"` or `"auto"`.
        gzip: compress the outputs.
        log: is told what a user should know, a sentence at a time.
        write: writes the scores of one text.

    Returns:
        what became of each shard. A text that cannot be read fails alone, and is reported through `log`.

    Raises:
        UsageError: outputs in the way, texts of one name, or no texts.
        ModelFileError: the model cannot be used.
        KeraslmError: the folder cannot be written, or nothing can be scored. What is finished stays.

    Example:
        >>> result = score_files("model.onnx", ["texts/*.txt.gz"], "scores", ScoreOptions(), workers=2)
        >>> result.check()                                       # raises if a text could not be read
        >>> len(result.outcomes), result.tokens
        (8, 73760)
    """
    if workers < 1:
        raise UsageError(f"workers is {workers}, but must be at least 1.")
    begun = time.monotonic()
    folder = Path(output)
    paths = [Path(name).absolute() for name in ([models] if isinstance(models, str | Path) else models)]
    job = Job(tuple((path, read_model(path)[1]) for path in paths), options, errors, provider, gzip, write)
    shards = plan(files, folder, job.ending)
    with ended_by_sigterm(), claimed(folder):
        try:
            remove_abandoned(shards)
        except OSError as error:
            raise unwritable(folder, error) from error
        todo = pending(shards, job.settings, resume=resume, overwrite=overwrite)
        try:
            scored = score_on_cluster(job, todo, scheduler) if scheduler else score_in_processes(job, todo, workers)
            with closing(scored):
                outcomes = _told(scored, todo, log)
        finally:
            with suppress(OSError):  # of a disk that fails; the next job tries again
                remove_abandoned(todo)
    outcomes.sort(key=lambda outcome: outcome.shard.output)
    result = BulkResult(tuple(outcomes), len(shards) - len(todo), time.monotonic() - begun)
    log(str(result))
    return result


def _told(outcomes: Outcomes, shards: Sequence[Shard], log: Log) -> list[Outcome]:
    found = []
    with meter("scoring", sum(shard.size for shard in shards), show=True) as advance:
        for outcome in outcomes:
            advance(outcome.shard.size)
            if outcome.failure:
                log(outcome.failure)
            elif outcome.replaced:
                log(f"{outcome.shard.name}: {outcome.replaced} lines held invalid UTF-8, read as U+FFFD")
            found.append(outcome)
    return found
