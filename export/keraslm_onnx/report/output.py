"""Where scores go: standard output, or a file that appears when it is whole."""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from keraslm.atomic import atomic_path
from keraslm.errors import KeraslmError, UsageError


@contextmanager
def opened_output(path: Path | None) -> Iterator[TextIO]:
    """A text file to write scores to, UTF-8 with LF; gzip where the name ends with `.gz`. None is standard output.

    The file replaces an older one when the block ends well; otherwise nothing changes. Equal scores give equal bytes:
    the gzip header holds no time and no name.

    Raises:
        UsageError: the path is a folder, or lies in none.
        KeraslmError: it cannot be written.
    """
    if path is None:
        yield sys.stdout
        return
    checked_place(path)
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as raw:
            binary = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else raw
            with io.TextIOWrapper(io.BufferedWriter(binary), encoding="utf-8", newline="\n") as text:
                yield text
    except OSError as error:
        raise KeraslmError(f"{path}: cannot be written ({error.strerror or error}).") from error


def checked_place(path: Path | None) -> None:
    """Refuse the path of an output before any work is done for it.

    Raises:
        UsageError: it is a folder, or lies in none.
    """
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise UsageError(f"{path}: give the name of a file in a folder that exists.")
