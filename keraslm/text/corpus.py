"""Lines of text: from a file, standard input, a folder of splits, or the corpus that every CPython carries.

A line ends at LF only, as `wc -l` counts; CR LF is accepted and the CR dropped. U+2028, form feed and the like stay
characters of the line (`str.splitlines` would split there). A byte order mark at the start of a file is dropped, and
the last line counts whether or not LF follows it.
"""

from __future__ import annotations

import gzip
import io
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from keraslm.config import DataConfig
from keraslm.errors import TextError

STDIN = "-"

_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_SPLIT_NAMES = {
    "train": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "dev": "valid",
    "test": "test",
}


class TextFile:
    """The lines of one UTF-8 text, plain or gzip (told by its first bytes), read as a stream.

    Args:
        path: a file, or `"-"` for standard input.
        errors: `"strict"` raises at the first invalid byte; `"replace"` puts U+FFFD and counts the lines.

    Attributes:
        replaced: lines in which a byte was replaced, in the pass that ran last.

    Example:
        >>> for line in TextFile("text.txt"):
        ...     print(line)
    """

    def __init__(self, path: str | Path, errors: str = "strict"):
        self.path = str(path)
        self.errors = errors
        self.replaced = 0

    @property
    def name(self) -> str:
        """What messages call this text."""
        return "standard input" if self.path == STDIN else self.path

    def __iter__(self) -> Iterator[str]:
        """Yield each line, without its line end.

        Raises:
            TextError: no such file, a byte that is not UTF-8, or damaged compression.
        """
        offset, self.replaced = 0, 0
        try:
            with ExitStack() as opened:
                for number, raw in enumerate(self._open(opened), 1):
                    yield self._decode(raw, number, offset)
                    offset += len(raw)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise TextError(f"{self.name}: the gzip data are damaged or cut short ({error}).") from error
        except OSError as error:
            raise TextError(f"{self.name}: cannot be read ({error.strerror or error}).") from error

    def _open(self, opened: ExitStack) -> IO[bytes]:
        # Standard input as it is: a second buffer around it would wait until it is full.
        source = sys.stdin.buffer if self.path == STDIN else opened.enter_context(open(self.path, "rb"))
        raw = cast(io.BufferedReader, source if hasattr(source, "peek") else io.BufferedReader(cast(Any, source)))
        packed = raw.peek(len(_GZIP)).startswith(_GZIP)
        return cast(IO[bytes], opened.enter_context(gzip.GzipFile(fileobj=raw))) if packed else raw

    def _decode(self, raw: bytes, number: int, offset: int) -> str:
        line = raw.removesuffix(b"\n").removesuffix(b"\r") if raw.endswith(b"\n") else raw
        skipped = 0
        if number == 1 and line.startswith(_BOM):
            line, skipped = line[len(_BOM) :], len(_BOM)
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError as error:
            if self.errors == "replace":
                self.replaced += 1
                return line.decode("utf-8", "replace")
            raise TextError(
                f"{self.name}:{number}:{error.start + skipped + 1}: byte 0x{line[error.start]:02x} is not valid UTF-8 "
                f"(byte {offset + error.start + skipped} of the text). "
                "Convert the text to UTF-8, or pass --errors replace to read it with U+FFFD there."
            ) from error


@dataclass(frozen=True)
class Splits:
    """Paths of the texts of a corpus; `valid` and `test` may be missing."""

    train: str
    valid: str | None = None
    test: str | None = None


def find_splits(folder: str | Path) -> Splits:
    """Find the train, valid and test files of a folder by their names.

    A file belongs to a split when one part of its name, cut at `.`, `_` and `-`, is the split's name:
    `train.txt`, `ptb.valid.txt.gz`, `wiki.test.tokens`; `val`, `validation` and `dev` stand for `valid`.

    Raises:
        TextError: no such folder, no train file, or two files for one split.
    """
    root = Path(folder)
    if not root.is_dir():
        raise TextError(f"{root}: no such folder. --data expects a folder with train, valid and test files.")
    found: dict[str, str] = {}
    for path in sorted(p for p in root.iterdir() if p.is_file()):
        for split in {_SPLIT_NAMES[part] for part in re.split(r"[._-]", path.name.lower()) if part in _SPLIT_NAMES}:
            if split in found:
                raise TextError(f"{root}: both {Path(found[split]).name} and {path.name} look like the {split} text.")
            found[split] = str(path)
    if "train" not in found:
        names = ", ".join(sorted(p.name for p in root.iterdir())[:8]) or "nothing"
        raise TextError(f"{root}: no training text (train.txt, ptb.train.txt.gz, ...). The folder holds: {names}.")
    return Splits(found["train"], found.get("valid"), found.get("test"))


class EmbeddedText:
    """The language reference that CPython ships for `help()`, without blank lines: a corpus on every machine.

    The text differs a little between Python versions. The last tenth of each topic's lines is the validation text.

    Args:
        split: `"train"` or `"valid"`.
    """

    replaced = 0

    def __init__(self, split: str):
        self.split = split
        self.name = f"pydoc_data.topics ({split})"

    def __iter__(self) -> Iterator[str]:
        from pydoc_data.topics import topics

        for topic in sorted(topics):
            lines = [line.strip() for line in topics[topic].split("\n") if line.strip()]
            cut = len(lines) - len(lines) // 10
            yield from lines[:cut] if self.split == "train" else lines[cut:]


Text = TextFile | EmbeddedText


def open_texts(config: DataConfig) -> tuple[Text, Text | None]:
    """The training and the validation text that a configuration names.

    Raises:
        TextError: a folder without a training text, or standard input, which cannot be read twice.
    """
    if not config.train and not config.data:
        return EmbeddedText("train"), EmbeddedText("valid")
    splits = find_splits(config.data) if config.data else Splits(config.train, config.valid or None)
    if STDIN in (splits.train, splits.valid):
        raise TextError("Training reads its text more than once, so it cannot come from standard input. Give a file.")
    return TextFile(splits.train, config.errors), TextFile(splits.valid, config.errors) if splits.valid else None
