"""What an output file was made of: a small JSON file for each, by which a later run knows what is finished.

A record is written just before its output is renamed into place, and holds the output's digest: whichever of the two a
crash leaves behind, the shard counts as finished only where both are there and fit.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keraslm.bulk.shards import SIDE, Shard
from keraslm.errors import KeraslmError, UsageError
from keraslm.system.atomic import atomic_path, remove_temporaries

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Mark:
    """A file's content, told by its digest; and, as long as it is not touched, by its size and time of change.

    Attributes:
        bytes: size.
        changed: nanoseconds since 1970.
        sha256: hexadecimal.
    """

    bytes: int
    changed: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Mark:
        """Mark a file as it is now."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            status = os.fstat(file.fileno())
        return cls(status.st_size, status.st_mtime_ns, digest)

    def untouched(self, path: Path) -> bool:
        """Whether a file has this size and time of change."""
        status = path.stat()
        return (status.st_size, status.st_mtime_ns) == (self.bytes, self.changed)

    def fits(self, path: Path) -> bool:
        """Whether a file holds this; it is read only where its size or time do not answer."""
        if path.stat().st_size != self.bytes:
            return False
        return self.untouched(path) or Mark.of(path).sha256 == self.sha256


@dataclass(frozen=True)
class Record:
    """What an output was made of.

    Attributes:
        settings: everything but the text that its bytes depend on: the model's digest and the options.
        text, output: the two files.
        lines, tokens, replaced: counts of the text; `replaced` lines held invalid UTF-8.
    """

    settings: dict[str, Any]
    text: Mark
    output: Mark
    lines: int
    tokens: int
    replaced: int

    def write(self, path: Path) -> None:
        """Write the record, whole or not at all."""
        values = {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """The record at a path; None where there is none that can be read."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values.pop("format_version") != FORMAT_VERSION:
                return None
            text, output = Mark(**values.pop("text")), Mark(**values.pop("output"))
            found = cls(text=text, output=output, **values)
            return found if found._is_whole() else None
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    def _is_whole(self) -> bool:
        """Whether every value is of its type."""
        marks = (self.text, self.output)
        numbers = [self.lines, self.tokens, self.replaced, *(n for mark in marks for n in (mark.bytes, mark.changed))]
        return (
            isinstance(self.settings, dict)
            and all(type(number) is int for number in numbers)
            and all(isinstance(mark.sha256, str) for mark in marks)
        )

    def difference(self, settings: dict[str, Any], shard: Shard) -> str:
        """How this record differs from a job of today, in words; empty where it does not."""
        names = dict.fromkeys([*self.settings, *settings])
        found = [
            f"{name} {_shown(self.settings.get(name))}, now {_shown(settings.get(name))}"
            for name in names
            if self.settings.get(name) != settings.get(name)
        ]
        if not self.text.fits(shard.text):
            found.append(f"another {shard.name}")
        return "; ".join(found)


def pending(
    shards: Sequence[Shard], settings: dict[str, Any], *, resume: bool = False, overwrite: bool = False
) -> list[Shard]:
    """The shards that are still to be scored.

    Args:
        shards: of the job.
        settings: of the job, as a record holds them.
        resume: leave out what is finished.
        overwrite: outputs of anything else may be replaced.

    Raises:
        UsageError: an output that may not be replaced: any without `resume`, one of something else with it.
        KeraslmError: an output that cannot be read.
    """
    found = []
    for shard in shards:
        try:
            if not _is_finished(shard, settings, resume, overwrite):
                found.append(shard)
        except OSError as error:
            raise KeraslmError(f"{shard.output} cannot be compared with {shard.name} ({error}).") from error
    return found


def _is_finished(shard: Shard, settings: dict[str, Any], resume: bool, overwrite: bool) -> bool:
    if not shard.output.exists():
        return False
    if not resume:
        if overwrite:
            return False
        raise UsageError(
            f"{shard.output} is there already. Pass --resume to keep what is finished, --overwrite to score it again, "
            "or choose another --output."
        )
    record = Record.read(shard.record)
    difference = record.difference(settings, shard) if record else "no record says of what"
    if record and not difference:
        return record.output.fits(shard.output)
    if overwrite:
        return False
    raise UsageError(
        f"{shard.output} was made of something else: {difference}. Resume with what it was made of, choose another "
        "--output, or add --overwrite to score it again."
    )


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_shown, value)) or "none"
    text = "" if value is None else str(value)
    return (f"{text[:12]}…" if len(text) == 64 else text) or "none"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make an output folder and keep other jobs out of it.

    Raises:
        UsageError: another job is writing there.
        KeraslmError: the folder cannot be made or written.
    """
    try:
        (folder / SIDE).mkdir(parents=True, exist_ok=True)
        lock = (folder / SIDE / "lock").open("w")
    except OSError as error:
        raise unwritable(folder, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"{folder} is locked by another keraslm that scores into it. Wait for it, or choose another --output."
            ) from error
        except OSError as error:
            raise unwritable(folder, error) from error
        yield


def remove_abandoned(shards: Iterable[Shard]) -> None:
    """Remove temporary files that killed processes have left."""
    remove_temporaries(path for shard in shards for path in (shard.output, shard.record))


def unwritable(folder: Path, error: OSError) -> KeraslmError:
    """The error for an output folder that cannot be written."""
    return KeraslmError(
        f"{folder} cannot be written ({error.strerror or error}). What is finished in it is whole: pass --resume to go "
        "on when this is mended."
    )
