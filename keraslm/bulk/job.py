"""One shard, scored in this process: a text in, a file of scores out. Every way of working in parallel calls this."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TextIO

from keraslm.bulk.records import Mark, Record, unwritable
from keraslm.bulk.shards import Shard
from keraslm.errors import MissingPackageError, ModelFileError, TextError
from keraslm.report.options import ScoreOptions
from keraslm.report.writer import score_file, write_scores
from keraslm.scoring.ensemble import open_models
from keraslm.scoring.measures import LineScore
from keraslm.scoring.scorer import Scorer
from keraslm.scoring.session import Session
from keraslm.system.atomic import atomic_path
from keraslm.text.files import TextFile

Models = tuple[tuple[Path, str], ...]  # path and SHA-256 of each

_ENDINGS = {"tsv": ".tsv", "jsonl": ".jsonl"}


class Writer(Protocol):
    """What writes the scores of one text: a function of a module, for processes find it by its name."""

    def __call__(self, scorer: Scorer, lines: Any, options: Any, out: TextIO, *, name: str) -> None: ...


@dataclass(frozen=True)
class Job:
    """What all shards share; picklable.

    Attributes:
        models: absolute path and SHA-256 (hexadecimal) of each model file.
        options: what is scored and how it is written.
        errors: `"strict"` or `"replace"`, for invalid UTF-8.
        provider: `"cpu"`, `"cuda"` or `"auto"`.
        gzip: compress the output.
        write: writes the scores of a text.
    """

    models: Models
    options: ScoreOptions
    errors: str = "strict"
    provider: str = "auto"
    gzip: bool = False
    write: Writer = write_scores

    @property
    def ending(self) -> str:
        """Of the output files."""
        return _ENDINGS.get(self.options.format, ".txt") + (".gz" if self.gzip else "")

    @property
    def settings(self) -> dict[str, Any]:
        """What the bytes of an output depend on, but for the text, as JSON gives it back."""
        options = json.loads(json.dumps(dataclasses.asdict(self.options)))
        model, *others = [digest for _, digest in self.models]
        return {
            "model": model,
            **({"with": others} if others else {}),
            **options,
            "errors": self.errors,
            "gzip": self.gzip,
        }


@dataclass(frozen=True)
class Outcome:
    """What became of a shard.

    Attributes:
        shard: that was scored.
        lines, tokens, replaced: counts of its text; `replaced` lines held invalid UTF-8.
        failure: the sentence that says why there is no output; empty where there is one.
        exit_code: that the failure asks for.
    """

    shard: Shard
    lines: int = 0
    tokens: int = 0
    replaced: int = 0
    failure: str = ""
    exit_code: int = 0


Outcomes = Generator[Outcome, None, None]


def score_shard(job: Job, shard: Shard) -> Outcome:
    """Score one text into its file, which appears whole or not at all; then it is on the disk.

    Returns:
        the counts; or, for a text that cannot be read, the sentence that says why.

    Raises:
        ModelFileError: the model cannot be used, or is not the one that the job began with.
        KeraslmError: the output folder cannot be written.
    """
    scorer = _Counting(_opened(job.models, job.provider))
    text = TextFile(shard.text, job.errors, shard.name)
    try:
        before = _marked(shard)
        with atomic_path(shard.output) as path:
            with score_file(path, job.gzip) as out:
                job.write(scorer, chain(text, [None]), job.options, out, name=shard.name)
            if not before.untouched(shard.text):
                raise TextError(f"{shard.name}: changed while it was scored.")
            counts = scorer.lines, scorer.tokens, text.replaced
            Record(job.settings, before, Mark.of(path), *counts).write(shard.record)
    except (TextError, MissingPackageError) as error:
        return Outcome(shard, failure=str(error), exit_code=error.exit_code)
    except OSError as error:
        raise unwritable(shard.output.parent, error) from error
    return Outcome(shard, *counts)


class _Counting(Scorer):
    """Counts what passes through it, whoever asks for the scores."""

    def __init__(self, session: Session):
        super().__init__(session)
        self.lines = self.tokens = 0

    def score_lines(self, *arguments: Any, **named: Any) -> Iterator[LineScore]:
        for line in super().score_lines(*arguments, **named):
            self.lines += 1
            self.tokens += len(line.ids)
            yield line


def _marked(shard: Shard) -> Mark:
    try:
        return Mark.of(shard.text)
    except OSError as error:
        raise TextError(f"{shard.name}: cannot be read ({error.strerror or error}).") from error


_opening = threading.Lock()


def _opened(models: Models, provider: str) -> Session:
    with _opening:  # a process of a cluster may have several threads
        return _open(models, provider)


@lru_cache(maxsize=1)
def _open(models: Models, provider: str) -> Session:
    session = open_models([path for path, _ in models], provider, threads=1)
    for member, (_, digest) in zip(session.members, models, strict=True):
        if member.digest != digest:
            found = f"SHA-256 {member.digest[:12]}…"
            raise ModelFileError(f"{member.path}: not the file that the job began with ({found}).")
    return session
