"""A histogram of perplexities as a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keraslm.system.outputs import output_file

_BLUE, _ORANGE = "#1f77b4", "#d95f02"


def draw_histogram(
    path: Path, counts: NDArray[np.int64], edges: NDArray[np.float64], marks: Sequence[float] = ()
) -> None:
    """Draw a histogram over the decimal logarithm of perplexity.

    Args:
        path: of the picture.
        counts: number of documents per bar, integers of shape `(bars,)`.
        edges: decimal logarithms of perplexity, of shape `(bars + 1,)`.
        marks: perplexities that are marked by lines.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.stairs(counts, 10.0**edges, fill=True, color=_BLUE)
    low, high = _range([*edges, *np.log10(marks)])
    axes.set_xscale("log")
    axes.set_xlim(10**low, 10**high)
    axes.xaxis.set_major_locator(LogLocator(subs=_steps(high - low)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    for number, value in enumerate(sorted(marks)):
        axes.axvline(value, color=_ORANGE, linestyle="--", linewidth=1.2)
        above = axes.get_xaxis_transform()  # perplexity, and height as a share
        side = {0: "right", len(marks) - 1: "left"}.get(number, "center") if len(marks) > 1 else "center"
        axes.text(value, 1.02, f"{value:,.5g}", transform=above, ha=side, fontsize="small", color=_ORANGE)
    axes.set(xlabel="perplexity per token (logarithmic)", ylabel="documents")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3, axis="y")
    with output_file(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The limits of the axis: a factor of two, at least."""
    low, high = min(values), max(values)
    room = max(0.02 * (high - low), (0.3 - (high - low)) / 2)
    return low - room, high + room


def _steps(decades: float) -> tuple[float, ...]:
    """The numbers on the axis, in the first decade."""
    return (1,) if decades > 3 else (1, 2, 5) if decades > 1 else (1, 1.2, 1.5, 2, 3, 4, 5, 7)
