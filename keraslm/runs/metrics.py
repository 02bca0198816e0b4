"""`metrics.jsonl` of a run, one JSON object per line, and the learning curve drawn from it."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from keraslm.errors import RunError, shown
from keraslm.system.atomic import atomic_path, writing


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, if it exists. The unfinished last line of a killed process is ignored."""
    if not path.is_file():
        return []
    try:
        *lines, _ = path.read_bytes().split(b"\n")
        rows = [json.loads(line) for line in lines if line]
        if not all(isinstance(row, dict) for row in rows):
            raise TypeError("a line is not an object")
        for row in rows:
            for name in ("perplexity", "val_perplexity"):
                value = row.get(name, 1.0)
                if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                    raise TypeError(f"{name} is {shown(value)}, not a finite number")
        return rows
    except (OSError, ValueError, OverflowError, RecursionError, TypeError) as error:
        raise RunError(f"{path}: not one JSON object per line ({error}).") from error


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Append a line; a `WriteError` leaves the file as it was."""
    data = memoryview(f"{json.dumps(row)}\n".encode())
    with writing(path, "The previous rows are kept."), path.open("ab", buffering=0) as file:
        size = file.tell()
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            with suppress(OSError):
                file.truncate(size)
            raise


def perplexity_axes() -> tuple[Any, Any]:
    """A figure, to be saved as a PNG, and its axes: perplexity by epoch, on a logarithmic scale."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel="epoch", ylabel="perplexity", yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(ScalarFormatter())
    axes.grid(alpha=0.3, which="both")
    return figure, axes


_LINES = {
    "perplexity": ("train", "#1f77b4"),
    "val_perplexity": ("valid", "#d95f02"),
    "also_val_perplexity": ("also valid", "#7570b3"),
}


def learning_curve(epochs: list[dict[str, Any]], path: Path) -> None:
    """Draw training and validation perplexities by epoch, from rows of `metrics.jsonl`, as a PNG."""
    figure, axes = perplexity_axes()
    numbers = [row["epoch"] for row in epochs]
    for name, (label, color) in _LINES.items():
        values = [float(row[name]) for row in epochs if name in row]
        if len(values) == len(numbers):
            axes.plot(numbers, values, marker="o", markersize=3.5, label=label, color=color)
            last = f"{values[-1]:.{1 if values[-1] >= 10 else 2}f}"
            axes.annotate(last, (numbers[-1], values[-1]), (6, 0), textcoords="offset points", va="center")
    figure.legend(frameon=False, loc="outside upper right", ncols=3)  # "best" can be slow, and then warns
    axes.margins(x=0.12)
    with writing(path), atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
