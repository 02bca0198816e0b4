"""The picture of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keraslm.system.atomic import atomic_path, writing


def perplexity_axes() -> tuple[Any, Any]:
    """A figure, to be saved as a PNG, and its axes: perplexity by epoch, on a logarithmic scale with plain numbers."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set(xlabel="epoch", ylabel="perplexity", yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(ScalarFormatter())
    axes.grid(alpha=0.3, which="both")
    return figure, axes


def learning_curve(epochs: list[dict[str, Any]], path: Path) -> None:
    """Draw training and validation perplexity by epoch, on a logarithmic scale, as a PNG.

    Args:
        epochs: epoch rows of `metrics.jsonl`.
        path: where the PNG goes.
    """
    figure, axes = perplexity_axes()
    numbers = [row["epoch"] for row in epochs]
    for name, label, color in (("perplexity", "train", "#1f77b4"), ("val_perplexity", "valid", "#d95f02")):
        values = [float(row[name]) for row in epochs if name in row]
        if len(values) == len(numbers):
            axes.plot(numbers, values, marker="o", markersize=3.5, label=label, color=color)
            axes.annotate(
                f"{values[-1]:.1f}", (numbers[-1], values[-1]), (6, 0), textcoords="offset points", va="center"
            )
    figure.legend(frameon=False, loc="outside upper right", ncols=2)  # "best" warns where it takes long
    axes.margins(x=0.12)
    with writing(path), atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
