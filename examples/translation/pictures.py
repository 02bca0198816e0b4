"""Pictures of a translation system: where it looks, and how its validation improves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from keraslm.runs.metrics import read_rows
from keraslm.system.outputs import output_file
from keraslm.text.tokenizer import EOS, Tokenizer

if TYPE_CHECKING:
    from examples.translation.run import TranslationRun


def draw_attention(run: TranslationRun, sentence: str, image: Path) -> None:
    """Translate a sentence greedily and draw the weight of each source token for each target token as a PNG."""
    from examples.translation.run import translate  # loads Keras, which curves do not need
    from examples.translation.search import Search

    rows: list[np.ndarray] = []
    [[best]] = translate(run.network, run.config, run.tokenizer, [sentence], Search(), rows)
    [source] = run.tokenizer.encode_source([sentence], run.config.data.reverse_source)
    across = names(run.tokenizer.source, source)
    down = names(run.tokenizer.target, [*best.tokens, run.tokenizer.target.eos_id])
    figure = Figure(figsize=(1.5 + 0.45 * len(across), 1.5 + 0.35 * len(down)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(np.array(rows)[: len(down), : len(across)], cmap="Greys", vmin=0.0, vmax=1.0)
    axes.set_xticks(range(len(across)), across, rotation=90)
    axes.set_yticks(range(len(down)), down)
    save(figure, image)


def names(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """The text of each token, without the blank that it may begin with."""
    return [EOS if number == tokenizer.eos_id else tokenizer.decode([number]).strip() for number in ids]


def draw_curves(metrics: Sequence[Path], image: Path) -> None:
    """Draw the validation BLEU by epoch of several `metrics.jsonl`, named after their folders or files, as a PNG."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for path in metrics:
        rows = [row for row in read_rows(path) if "val_bleu" in row]
        name = path.parent.name if path.name == "metrics.jsonl" else path.name.removesuffix(".metrics.jsonl")
        axes.plot([row["epoch"] for row in rows], [row["val_bleu"] for row in rows], marker="o", ms=3.5, label=name)
    axes.set(xlabel="epoch", ylabel="validation BLEU, greedy")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    save(figure, image)


def save(figure: Figure, image: Path) -> None:
    with output_file(image) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
