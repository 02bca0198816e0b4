"""The learning curve of preset `awd` and a published one: a table and a picture.

    python examples/ptb/awd_curve.py ptb-work/awd/metrics.jsonl [awd.png]

`awd-published.jsonl` holds the first twenty of 147 epochs of Merity's program on PTB (SGD at 30, batches of 20, the
paper's dropout), run by Zhuang et al. 2020 and published with the programs of AdaBelief. Its training perplexities are
those of 200 windows near the end of an epoch, and it was evaluated on the test text, not on the validation text.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from keraslm.runs.metrics import perplexity_axes, read_rows

PUBLISHED = Path(__file__).resolve().with_name("awd-published.jsonl")


def table(own: list[dict[str, Any]], published: list[dict[str, Any]]) -> list[str]:
    """Lines of Markdown, one row per epoch that both runs have."""
    lines = [
        "| epoch | train, here | train, published | valid, here | test, published |",
        "|---|---|---|---|---|",
    ]
    for row, other in zip(own, published, strict=False):
        figures = row["perplexity"], other["train"], row["val_perplexity"], other["test"]
        lines.append(f"| {row['epoch']} | {' | '.join(f'{figure:.1f}' for figure in figures)} |")
    return lines


def picture(own: list[dict[str, Any]], published: list[dict[str, Any]], path: Path) -> None:
    """Draw the perplexities of training and held-out text on a logarithmic scale."""
    figure, axes = perplexity_axes()
    for rows, name, style, color, label in (
        (own, "perplexity", "o-", "#1f77b4", "train, here"),
        (published, "train", "--", "#1f77b4", "train, published"),
        (own, "val_perplexity", "o-", "#d95f02", "valid, here"),
        (published, "test", "--", "#d95f02", "test, published"),
    ):
        epochs = [row["epoch"] for row in rows]
        axes.plot(epochs, [row[name] for row in rows], style, markersize=3.5, color=color, label=label)
    axes.legend(frameon=False, loc="upper right")
    figure.savefig(path, dpi=150, format="png")


def main(metrics: str, png: str = "") -> None:
    own = [row for row in read_rows(Path(metrics)) if "val_perplexity" in row]
    published = read_rows(PUBLISHED)
    print("\n".join(table(own, published)))
    if png:
        picture(own, published, Path(png))


if __name__ == "__main__":
    main(*sys.argv[1:])
