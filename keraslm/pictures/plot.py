"""Surprisal as one PNG: of each word of a short text, of each line of a long text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from keraslm.pictures.markup import shown
from keraslm.pictures.spans import Laid, lay
from keraslm.pictures.statistics import Statistics
from keraslm.report.options import ScoreOptions
from keraslm.scoring.measures import LineScore
from keraslm.system.backend import require
from keraslm.system.outputs import output_file
from keraslm.text.tokenizer import Tokenizer

LABELLED = 80  # largest number of pieces with labels
DRAWN = 4096  # largest number of pieces drawn for a text of few lines
_BLUE, _ORANGE = "#1f77b4", "#d95f02"
_LONGEST = 24  # characters of a label
_BLANKS = str.maketrans({" ": "␣", "\t": "⇥"})


class SurprisalPlot:
    """Gathers scored lines and draws them in bounded memory.

    A text of at most 80 pieces (words, subwords or characters) has one labelled point per piece, a text of fewer than
    eight lines one point per piece, and any other text the mean and the middle half of each line or block of lines.

    Used as `keraslm.pictures.page.HtmlReport`. Raises a `MissingPackageError` if matplotlib is not installed.
    """

    def __init__(self, tokenizer: Tokenizer, title: str, options: ScoreOptions | None = None) -> None:
        require("matplotlib", extra="plot", purpose="A plot of surprisal")
        self._tokenizer, self._title, self._options = tokenizer, title, options or ScoreOptions()
        self._statistics = Statistics()
        self._pieces: list[tuple[str, float, bool]] = []  # text, surprisal, whether it is out of vocabulary
        self._count = 0

    def add(self, line: LineScore) -> None:
        laid = lay(line, self._tokenizer, self._options.by_words)
        self._statistics.add(laid)
        self._count += len(laid.pieces)
        room = DRAWN - len(self._pieces)
        surprisals = (laid.piece_bits * self._options.units_per_bit).tolist()
        self._pieces += zip(_labels(laid, room), surprisals, laid.oov.tolist(), strict=False)

    def write(self, path: Path) -> None:
        """Draw the picture; raises `UsageError` without a folder to write to, `WriteError` if writing fails."""
        from matplotlib.figure import Figure

        wide = 10 if self._count > LABELLED else 7 + 0.1 * max(0, self._count - 30)
        figure = Figure(figsize=(wide, 4.2), layout="constrained")
        axes = figure.subplots()
        cost = self._statistics.cost
        if self._count <= LABELLED or cost.lines < 8:
            self._draw_pieces(axes)
        else:
            self._draw_lines(axes)
        perplexity = f"perplexity {self._statistics.perplexity:,.2f} per {self._options.counted}"
        axes.set_title(f"{_plain(self._title)}: {perplexity}", fontsize="medium")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3, axis="y")
        with output_file(path) as temporary:
            figure.savefig(temporary, dpi=150, format="png")

    def _draw_pieces(self, axes: Any) -> None:
        values = [value if math.isfinite(value) else math.nan for _, value, _ in self._pieces]
        what, unit = "word" if self._options.by_words else "word, subword or character", self._options.surprisal_unit
        if self._count > LABELLED:
            axes.plot(range(1, len(values) + 1), values, linewidth=0.7, color=_BLUE)
            rest = f" (the first {len(values):,} of {self._count:,})" if len(values) < self._count else ""
            axes.set(xlabel=f"{what}{rest}", ylabel=f"surprisal ({unit})")
            axes.margins(x=0)
            return
        axes.plot(range(len(values)), values, marker="o", markersize=3.5, linewidth=1.2, color=_BLUE)
        if unknown := [at for at, (_, _, oov) in enumerate(self._pieces) if oov]:
            axes.plot(unknown, [values[at] for at in unknown], "s", color=_ORANGE, label="out of vocabulary")
            axes.figure.legend(frameon=False, loc="outside upper right")  # "best" can be slow, and warns then
        axes.set_xticks(range(len(values)), [text for text, _, _ in self._pieces], rotation=90, fontsize="small")
        axes.margins(x=0.01)
        axes.set(xlabel="text (↵ is the end of a line)", ylabel=f"surprisal ({unit})")

    def _draw_lines(self, axes: Any) -> None:
        series, scale, each = self._statistics.series, self._options.units_per_bit, self._options.counted
        places, low, high = series.lines(), series.quantiles(0.25) * scale, series.quantiles(0.75) * scale
        axes.fill_between(places, low, high, alpha=0.25, color=_BLUE, linewidth=0, label=f"middle half of the {each}s")
        axes.plot(places, series.means() * scale, linewidth=1, color=_BLUE, label=f"mean of each {series.block}")
        mean = self._statistics.mean * scale
        axes.axhline(mean, linewidth=1, linestyle="--", color=_ORANGE, label=f"mean of all {each}s")
        axes.legend(frameon=False, ncols=3, fontsize="small", loc="upper center")
        axes.set(xlabel="line", ylabel=f"surprisal ({self._options.surprisal_unit} per {each})")
        axes.margins(x=0, y=0.12)


def _labels(laid: Laid, room: int) -> list[str]:
    parts = [laid.score.text[begin:end] for begin, end in laid.pieces[:-1, :2][:room].tolist()]
    return [*(_plain(part.strip() or part) for part in parts), "↵"][:room]


def _plain(text: str) -> str:
    """A label; matplotlib would read formulas between dollar signs."""
    text = shown(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…")
    return (text.translate(_BLANKS) if text.isspace() else text).replace("$", r"\$")
