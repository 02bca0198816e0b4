"""Where scores go: standard output, or a file that appears when it is complete."""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from keraslm.system.atomic import output_file


@contextmanager
def opened_output(path: Path | None) -> Iterator[TextIO]:
    """A text file to write scores to, gzip if the name ends with `.gz`; standard output if `path` is None.

    The file replaces an existing one when the block ends without an error; otherwise nothing changes.

    Raises:
        UsageError: the path is a folder, or its folder does not exist.
        WriteError: the file cannot be written.
    """
    if path is None:
        yield sys.stdout
        return
    with output_file(path) as temporary, score_file(temporary, packed=path.suffix == ".gz") as out:
        yield out


@contextmanager
def score_file(path: Path, packed: bool) -> Iterator[TextIO]:
    """A text file in UTF-8 with LF, gzip if `packed`. Equal scores give equal bytes: no header has a time or a name."""
    with path.open("wb") as raw:
        binary = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if packed else raw
        with io.TextIOWrapper(io.BufferedWriter(binary), encoding="utf-8", newline="\n") as out:
            yield out
