"""Surprisal as one PNG: over the words of a short text, over the lines of a long one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from keraslm.pictures.escape import shown
from keraslm.pictures.spans import Laid, lay
from keraslm.pictures.statistics import Statistics
from keraslm.scoring.measures import LineScore
from keraslm.system.atomic import output_file
from keraslm.system.backend import require
from keraslm.text.tokenizer import Tokenizer

LABELLED = 80  # pieces that are drawn with their text below them
DRAWN = 4096  # tokens of a text of few lines that are drawn one by one
FEW = 8  # lines
_BLUE, _ORANGE = "#1f77b4", "#d95f02"
_LONGEST = 24  # characters of a label
_BLANKS = str.maketrans({" ": "␣", "\t": "⇥"})


class SurprisalPlot:
    """Gathers scored lines and draws them; memory is bounded.

    A text of at most 80 words, subwords or characters has each below its point, one of less than eight lines a point a
    token, and any other the mean of each line (or block of lines) in the band of its middle half.

    Args:
        tokenizer: that the lines were scored with.
        title: what was scored.

    Raises:
        MissingPackageError: matplotlib is not installed.

    Example:
        >>> plot = SurprisalPlot(scorer.tokenizer, "a.txt")
        >>> for line in scorer.score_lines(lines):
        ...     plot.add(line)
        >>> plot.write(Path("surprisal.png"))
    """

    def __init__(self, tokenizer: Tokenizer, title: str) -> None:
        require("matplotlib", extra="plot", purpose="--plot")
        self._tokenizer, self._title = tokenizer, title
        self._statistics = Statistics()
        self._labels: list[tuple[str, float, bool]] = []  # text, bits, whether it is out of vocabulary
        self._tokens: list[float] = []

    def add(self, line: LineScore) -> None:
        """Add a line."""
        laid = lay(line, self._tokenizer)
        self._statistics.add(laid)
        room = LABELLED + 1 - len(self._labels)
        self._labels += _labels(laid, room) if room > 0 else []
        self._tokens += laid.bits[: DRAWN - len(self._tokens)].tolist()

    def write(self, path: Path) -> None:
        """Draw the picture.

        Raises:
            UsageError: the path is a folder, or lies in none.
            WriteError: the file cannot be written.
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        wide = 7 + 0.1 * max(0, len(self._labels) - 30) if len(self._labels) <= LABELLED else 10
        figure = Figure(figsize=(wide, 4.2), layout="constrained")
        axes = figure.subplots()
        cost = self._statistics.cost
        if len(self._labels) <= LABELLED:
            self._draw_pieces(axes)
        elif cost.lines < FEW:
            self._draw_tokens(axes)
        else:
            self._draw_lines(axes)
        axes.set_title(f"{_plain(self._title)}: perplexity {cost.perplexity:,.2f} a token", fontsize="medium")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3, axis="y")
        FigureCanvasAgg(figure)
        with output_file(path) as temporary:
            figure.savefig(temporary, dpi=150, format="png")

    def _draw_pieces(self, axes: Any) -> None:
        places = range(len(self._labels))
        values = [bits for _, bits, _ in self._labels]
        axes.plot(places, values, marker="o", markersize=3.5, linewidth=1.2, color=_BLUE)
        unknown = [at for at in places if self._labels[at][2]]
        if unknown:
            axes.plot(unknown, [values[at] for at in unknown], "s", color=_ORANGE, label="out of vocabulary")
            axes.figure.legend(frameon=False, loc="outside upper right")  # "best" warns where it takes long
        axes.set_xticks(places, [text for text, _, _ in self._labels], rotation=90, fontsize="small")
        axes.margins(x=0.01)
        axes.set(xlabel="text (↵ is the end of a line)", ylabel="surprisal (bits)")

    def _draw_tokens(self, axes: Any) -> None:
        drawn, all_of_them = len(self._tokens), self._statistics.cost.tokens
        axes.plot(range(1, drawn + 1), self._tokens, linewidth=0.7, color=_BLUE)
        rest = f" (the first {drawn:,} of {all_of_them:,})" if drawn < all_of_them else ""
        axes.set(xlabel=f"token{rest}", ylabel="surprisal (bits)")
        axes.margins(x=0)

    def _draw_lines(self, axes: Any) -> None:
        series = self._statistics.series
        places, low, high = series.lines(), series.quantiles(0.25), series.quantiles(0.75)
        axes.fill_between(places, low, high, alpha=0.25, color=_BLUE, linewidth=0, label="middle half of the tokens")
        what = "line" if series.size == 1 else f"{series.size:,} lines"
        axes.plot(places, series.means(), linewidth=1, color=_BLUE, label=f"mean of each {what}")
        axes.axhline(self._statistics.mean, linewidth=1, linestyle="--", color=_ORANGE, label="mean of all tokens")
        axes.legend(frameon=False, ncols=3, fontsize="small", loc="upper center")
        axes.set(xlabel="line", ylabel="surprisal (bits a token)")
        axes.margins(x=0, y=0.12)


def _labels(laid: Laid, room: int) -> list[tuple[str, float, bool]]:
    found = []
    end = len(laid.pieces) - 1
    for at, (begin, until, first, last) in enumerate(laid.pieces[:room].tolist()):
        text = laid.score.text[begin:until]
        text = "↵" if at == end else (text.strip() or text)
        oov = bool(laid.score.oov[first:last].any())
        bits = float(laid.piece_bits[at])
        found.append((_plain(text), bits if math.isfinite(bits) else math.nan, oov))
    return found


def _plain(text: str) -> str:
    """A label as it stands there: matplotlib would read formulas between dollar signs."""
    text = shown(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…")
    return (text.translate(_BLANKS) if text.isspace() else text).replace("$", r"\$")
