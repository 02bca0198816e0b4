"""`metrics.jsonl` of a run: one JSON object a line, appended whole or not at all."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from keraslm.system.atomic import writing
from keraslm.errors import RunError, shown


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, in order; none where there is no file.

    A last line without its newline is left out: the process was killed while it wrote it.

    Raises:
        RunError: a line is not a JSON object, or has a perplexity that is not a finite number.
    """
    if not path.is_file():
        return []
    try:
        *lines, _ = path.read_bytes().split(b"\n")
        rows = [json.loads(line) for line in lines if line]
        if not all(isinstance(row, dict) for row in rows):
            raise TypeError("a line is not an object")
        for row in rows:
            for name in ("perplexity", "val_perplexity"):
                _check_figure(name, row.get(name, 1.0))
        return rows
    except (OSError, ValueError, OverflowError, RecursionError, TypeError) as error:
        raise RunError(f"{path}: not one JSON object a line ({error}).") from error


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Append a line; where the disk does not take all of it, the file becomes what it was.

    Raises:
        WriteError: it cannot be written.
    """
    data = memoryview(f"{json.dumps(row)}\n".encode())
    with writing(path, "The rows before are kept."), path.open("ab", buffering=0) as file:
        size = file.tell()
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            with suppress(OSError):
                file.truncate(size)
            raise


def _check_figure(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{name} is {shown(value)}, not a finite number")
