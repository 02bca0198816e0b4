"""Shards, scored in this process: texts in, a file of scores per text out."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from keraslm.bulk.records import Mark, Record, unwritable
from keraslm.bulk.shards import Shard
from keraslm.errors import MissingPackageError, ModelFileError, TextError
from keraslm.ngram.mixed import MixedScorer
from keraslm.ngram.model import Ngram
from keraslm.ngram.opening import load_ngram
from keraslm.report.options import ScoreOptions
from keraslm.report.writer import score_file, write_records, write_scores
from keraslm.scoring.cached import CachedSession
from keraslm.scoring.ensemble import open_models
from keraslm.scoring.measures import LineScore
from keraslm.scoring.scorer import Scorer
from keraslm.scoring.session import Session
from keraslm.system.atomic import replace_all, temporary_file
from keraslm.testtime.settings import CacheSettings
from keraslm.text.files import TextFile

Models = tuple[tuple[Path, str], ...]  # path and SHA-256 of each
_LATER = ("eos", "separator", "frequencies", "table")  # options of `ScoreOptions`
Mixture = tuple[Path, str, float]  # path and SHA-256 of an n-gram model, and its weight


@dataclass(frozen=True)
class Job:
    """Models (by absolute path and hexadecimal SHA-256) and settings that all shards share; see `score_files`."""

    models: Models
    options: ScoreOptions
    errors: str = "strict"
    encoding: str = "utf-8"
    provider: str = "auto"
    gzip: bool = False
    write: Callable[..., None] = write_scores
    mixture: Mixture | None = None
    cache: CacheSettings | None = None

    @property
    def ending(self) -> str:
        name = self.options.format if self.options.format in ("tsv", "csv", "jsonl") else "txt"
        return f".{name}.gz" if self.gzip else f".{name}"

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Everything except the text that the bytes of an output depend on, as JSON values.

        Options that earlier versions did not have are left out if they have their default: old records still fit.
        """
        (_, model), *others = self.models
        members = {"model": model} | ({"with": [digest for _, digest in others]} if others else {})
        options = json.loads(json.dumps(dataclasses.asdict(self.options)))
        for name in (name for name in _LATER if options[name] == getattr(ScoreOptions, name)):
            del options[name]
        if self.options.frequencies:
            options["frequencies"] = TextFile(self.options.frequencies).digest()
        encoding = {} if self.encoding == "utf-8" else {"encoding": self.encoding}
        mixture = {"ngram": self.mixture[1], "ngram_weight": self.mixture[2]} if self.mixture else {}
        cache = vars(self.cache) if self.cache else {}
        return {**members, **mixture, **cache, **options, "errors": self.errors, **encoding, "gzip": self.gzip}


@dataclass(frozen=True)
class Outcome:
    """The result of scoring a shard."""

    shard: Shard
    lines: int = 0
    tokens: int = 0
    replaced: int = 0  # lines that contain invalid UTF-8
    failure: str = ""  # why there is no output, in a sentence
    exit_code: int = 0  # of the command line, for that failure


Outcomes = Generator[Outcome, None, None]


def score_shards(job: Job, shards: Sequence[Shard]) -> list[Outcome]:
    """Score texts into one file each, in a worker process.

    The files appear together, when all texts are scored; each is complete. A record is on the disk before its output
    has its name.
    """
    outcomes, records, outputs = [], [], []
    with ExitStack() as stack, _writing(shards[0].output.parent):
        for shard in shards:
            with ExitStack() as own:
                output = own.enter_context(temporary_file(shard.output))
                outcome, made = _score(job, shard, output)
                outcomes.append(outcome)
                if made:
                    record = own.enter_context(temporary_file(shard.record))
                    made.write(record)
                    records.append((record, shard.record))
                    outputs.append((output, shard.output))
                    stack.push(own.pop_all())
        replace_all(records, outputs)
    return outcomes


def _score(job: Job, shard: Shard, output: Path) -> tuple[Outcome, Record | None]:
    """Score one text into the file `output`; also returns its record, unless it failed."""
    session = session_of(job.models, job.provider)
    counting = _BulkScorer(CachedSession(session, job.cache) if job.cache else session)
    scorer = MixedScorer(counting, _ngram(*job.mixture[:2]), job.mixture[2]) if job.mixture else counting
    text = TextFile(shard.text, job.errors, job.encoding, name=shard.name)
    try:
        with text.reading():
            before = Mark.of(shard.text)
        with score_file(output, job.gzip) as out:
            if job.options.table:
                write_records(scorer, [text], job.options, out)
            else:
                job.write(scorer, chain(text, [None]), job.options, out, name=shard.name)
        if not before.untouched(shard.text):
            raise TextError(f"{shard.name}: changed while it was scored.")
    except (TextError, MissingPackageError) as error:
        return Outcome(shard, failure=str(error), exit_code=error.exit_code), None
    counts = counting.lines, counting.tokens, text.replaced
    return Outcome(shard, *counts), Record(job.settings, before, Mark.of(output), *counts)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(folder, error) from error


class FileScorer(Scorer):
    """A scorer of complete files: nobody waits for the first answer, so the first block is as long as the others."""

    first_lines = sys.maxsize


class _BulkScorer(FileScorer):
    def __init__(self, session: Session):
        super().__init__(session)
        self.lines = self.tokens = 0

    def score_lines(self, *arguments: Any, **named: Any) -> Iterator[LineScore]:
        for line in super().score_lines(*arguments, **named):
            self.lines += 1
            self.tokens += len(line.ids)
            yield line


@lru_cache(maxsize=1)
def session_of(models: Models, provider: str) -> Session:
    """The open models, in a worker process; a ModelFileError if one has changed since the job began."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    session = open_models([path for path, _ in models], provider, threads=1)
    for member, (_, digest) in zip(session.members, models, strict=True):
        if member.digest != digest:
            raise ModelFileError(f"{member.path}: the file has changed since the job began.")
    return session


@lru_cache(maxsize=1)
def _ngram(path: Path, digest: str) -> Ngram:
    ngram = load_ngram(path)
    if ngram.digest != digest:
        raise ModelFileError(f"{path}: the file has changed since the job began.")
    return ngram
