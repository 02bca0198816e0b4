"""The record of an output file: a small JSON file with its model, text, settings and digest.

A record is in place before its output is. A shard is finished only if both exist and agree.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keraslm.bulk.shards import Shard
from keraslm.errors import KeraslmError, UsageError

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Mark:
    """Identifies the content of a file; `untouched` and `fits` compare it with a file."""

    bytes: int
    changed: int  # nanoseconds since 1970
    sha256: str  # hexadecimal

    @classmethod
    def of(cls, path: Path) -> Mark:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            status = os.fstat(file.fileno())
        return cls(status.st_size, status.st_mtime_ns, digest)

    def untouched(self, path: Path) -> bool:
        status = path.stat()
        return (status.st_size, status.st_mtime_ns) == (self.bytes, self.changed)

    def fits(self, path: Path) -> bool:
        if path.stat().st_size != self.bytes:
            return False
        return self.untouched(path) or Mark.of(path).sha256 == self.sha256


@dataclass(frozen=True)
class Record:
    """The files, the `Job.settings` and the counts of one output."""

    settings: dict[str, Any]
    text: Mark
    output: Mark
    lines: int
    tokens: int
    replaced: int

    def write(self, path: Path) -> None:
        """Write the record into a temporary file, which the caller renames."""
        values = {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """The record in a file; None if there is none or it is damaged."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values.pop("format_version") != FORMAT_VERSION:
                return None
            text, output = Mark(**values.pop("text")), Mark(**values.pop("output"))
            return cls(text=text, output=output, **values) if isinstance(values["settings"], dict) else None
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    def difference(self, settings: dict[str, Any], shard: Shard) -> str:
        """The differences between this record and the current job, for messages; empty if there are none."""
        found = [
            f"{name} {_shown(self.settings.get(name))}, now {_shown(settings.get(name))}"
            for name in dict.fromkeys([*self.settings, *settings])
            if self.settings.get(name) != settings.get(name)
        ]
        if not self.text.fits(shard.text):
            found.append(f"a different {shard.name}")
        return "; ".join(found)


def pending(shards: Sequence[Shard], settings: dict[str, Any], resume: bool, overwrite: bool) -> list[Shard]:
    """The shards that still have to be scored; a UsageError if an output exists and may not be replaced."""
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
    if not shard.record.exists():
        raise UsageError(
            f"{shard.output} exists and was not written by an earlier job: it has no record. Move it elsewhere, or "
            "choose a different `output`."
        )
    if overwrite and not resume:
        return False
    if not resume:
        raise UsageError(
            f"{shard.output} exists. Pass `resume=True` to keep what is finished, `overwrite=True` to score it again, "
            "or choose a different `output`."
        )
    record = Record.read(shard.record)
    difference = record.difference(settings, shard) if record else "its record is damaged"
    if record and not difference:
        return record.output.fits(shard.output)
    if overwrite:
        return False
    raise UsageError(
        f"{shard.output} was made of something else: {difference}. Resume with the same settings, choose a different "
        "`output`, or add `overwrite=True` to score it again."
    )


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_shown, value)) or "none"
    text = "" if value is None else str(value)
    return (f"{text[:12]}…" if len(text) == 64 else text) or "none"


def unwritable(folder: Path, error: OSError) -> KeraslmError:
    return KeraslmError(
        f"{folder} cannot be written ({error.strerror or error}). Finished outputs are intact: solve the problem and "
        "pass `resume=True`."
    )
