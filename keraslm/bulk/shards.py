"""Which text becomes which file of the output folder. A shard is one text, scored whole by one process.

texts/a.txt.gz   ->   DIR/a.txt.tsv              the scores: there, and then whole
                      DIR/.keraslm/a.txt.tsv.json    its record: what it was made of
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keraslm.errors import UsageError
from keraslm.text.files import STDIN, TextFiles

SIDE = ".keraslm"  # folder of the records, in the output folder
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


@dataclass(frozen=True)
class Shard:
    """One text and the file that its scores go to.

    Attributes:
        name: of the text, as it was given: what messages call it.
        text: its path, from the root, so that every process finds it.
        output: path of the scores, from the root.
        size: bytes of the text as it lies on the disk.
    """

    name: str
    text: Path
    output: Path
    size: int

    @property
    def record(self) -> Path:
        """Where it is written what the output was made of."""
        return self.output.parent / SIDE / f"{self.output.name}.json"


def plan(files: Sequence[str | Path], output: Path, ending: str) -> list[Shard]:
    """The shards of some texts, the largest first, so that no long one is left to the end.

    Args:
        files: texts or patterns.
        output: folder of the scores.
        ending: of the output files, such as `".tsv"`.

    Raises:
        UsageError: no file, standard input or a pipe, two texts of one name, or a text that scores would overwrite.
        TextError: a text that is not there.

    Example:
        >>> [shard.output.name for shard in plan(["small.txt", "large.txt.gz"], Path("scores"), ".tsv")]
        ['large.txt.tsv', 'small.txt.tsv']
    """
    if STDIN in map(str, files):
        raise UsageError("Standard input cannot be scored into a folder: give files, or leave out --output.")
    if not files:
        raise UsageError("No texts to score into the folder: give files.")
    shards: dict[Path, Shard] = {}
    for file in TextFiles([str(file) for file in files]).files:
        path = Path(file.path).absolute()
        size = file.size()
        if not path.is_file():
            raise UsageError(f"{file.name} is no plain file, and a shard is read more than once: write it to a file.")
        place = output.absolute() / f"{_plain_name(path)}{ending}"
        if place in shards:
            raise UsageError(
                f"{shards[place].name} and {file.name} would both be scored into {output / place.name}. Give each text "
                "once, and texts of one name to folders of their own."
            )
        shards[place] = Shard(file.name, path, place, size)
    for shard in shards.values():
        if shard.text in shards:
            raise UsageError(f"{shard.name} is a text and would be overwritten by scores: choose another --output.")
    return sorted(shards.values(), key=lambda shard: (-shard.size, shard.output))


def _plain_name(path: Path) -> str:
    return path.stem if path.suffix in _COMPRESSED else path.name
