"""The output file of each text. A shard is one text, scored by one process.

texts/a.txt.gz   ->   DIR/a.txt.tsv                  the scores; the file is complete once it exists
                      DIR/.keraslm/a.txt.tsv.json    its record
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keraslm.errors import UsageError
from keraslm.system.outputs import places
from keraslm.text.files import TextFiles
from keraslm.text.paths import PACKED, STDIN

SIDE = ".keraslm"  # folder of the records, in the output folder
_SMALL = 1 << 18  # bytes of the texts of a group of more than one shard
_MOST = 32  # shards in a group
_PER_PROCESS = 8  # groups, at least, so that no process waits long for the others at the end


@dataclass(frozen=True)
class Shard:
    """One text and the file for its scores."""

    name: str  # of the text in messages, as it was given
    text: Path  # absolute
    output: Path  # absolute
    size: int  # bytes of the text on the disk

    @property
    def record(self) -> Path:
        return self.output.parent / SIDE / f"{self.output.name}.json"


def plan(files: Sequence[str | Path], output: Path, ending: str, models: Sequence[Path] = ()) -> list[Shard]:
    """The shards of texts or patterns, the largest first, so that no large text starts last.

    Raises:
        UsageError: no file, standard input or a pipe, two texts with one name, or a text that scores would overwrite.
        TextError: a text that does not exist.
    """
    if STDIN in map(str, files):
        raise UsageError("Standard input cannot be scored into a folder: give files, or leave out `output`.")
    if not files:
        raise UsageError("No texts to score into the folder: give files.")
    shards: dict[Path, Shard] = {}
    for file in TextFiles(files).files:
        path = Path(file.path).absolute()
        size = file.size()
        if not path.is_file():
            raise UsageError(f"{file.name} is no plain file, but a shard is read more than once: write it to a file.")
        name = path.stem if path.suffix in PACKED else path.name
        place = output.absolute() / f"{name}{ending}"
        if place in shards:
            raise UsageError(
                f"{shards[place].name} and {file.name} would both be scored into {output / place.name}. Give each text "
                "once, and score texts with the same name into different folders."
            )
        shards[place] = Shard(file.name, path, place, size)
    written = {place for shard in shards.values() for path in (shard.output, shard.record) for place in places(path)}
    for shard in shards.values():
        if not written.isdisjoint(places(shard.text)):
            raise UsageError(f"{shard.name} is a text and would be overwritten by scores: choose a different `output`.")
    for model in models:
        if not written.isdisjoint(places(model)):
            raise UsageError(f"{model} would be overwritten by scores: choose a different `output`.")
    return sorted(shards.values(), key=lambda shard: (-shard.size, shard.output))


def groups(shards: Sequence[Shard], processes: int) -> list[list[Shard]]:
    """Consecutive small shards together, because files that are flushed together cost little more than one."""
    most = min(_MOST, max(1, len(shards) // (_PER_PROCESS * processes)))
    found: list[list[Shard]] = []
    size = 0
    for shard in shards:
        size += shard.size
        if not found or len(found[-1]) == most or size > _SMALL:
            found.append([])
            size = shard.size
        found[-1].append(shard)
    return found
