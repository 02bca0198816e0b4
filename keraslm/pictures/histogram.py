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

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.stairs(counts, 10.0**edges, fill=True, color=_BLUE)
    axes.set_xscale("log")
    for value in marks:
        axes.axvline(value, color=_ORANGE, linestyle="--", linewidth=1.2)
        above = axes.get_xaxis_transform()  # perplexity, and height as a share
        axes.text(value, 1.02, f"{value:.4g}", transform=above, ha="center", fontsize="small", color=_ORANGE)
    axes.set(xlabel="perplexity", ylabel="documents")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3, axis="y")
    with output_file(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
