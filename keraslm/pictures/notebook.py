"""A scored text that a notebook shows, coloured by surprisal: a fragment of HTML without a script."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from functools import partial
from typing import Literal

from keraslm import arguments
from keraslm.config import Context
from keraslm.perplexity import Base
from keraslm.pictures.markup import color_rules, pieces_markup, shown
from keraslm.pictures.parts import legend, resource, within
from keraslm.pictures.spans import Laid, lay
from keraslm.report.options import ScoreOptions, Spaces, Unk
from keraslm.report.scored import scored_lines
from keraslm.report.writer import summarize
from keraslm.scoring.scorer import Scorer
from keraslm.text.tokenizer import EOS

LIMIT = 10_000  # tokens that a notebook shows: about 1 MB
_LINES, _PIECES = 20, 40  # of the text for a terminal

_CLASS = "keraslm-text"
# The dark themes of Colab, of Sphinx pages, of VS Code and of JupyterLab.
_DARK = (
    ':is(html[theme="dark"],html[data-theme="dark"],body[data-theme="dark"],body.vscode-dark,'
    'body[data-jp-theme-light="false"])'
)


class ScoredText:
    """A scored text. The last value of a notebook's cell is shown: each word or token coloured by its surprisal.

    The number of each is shown where the pointer is. The colours are absolute, one per bit, as on the page that
    `keraslm score --html` writes. A terminal shows the numbers as text.

    Args:
        text: a text of one line or of several, or an iterable of lines.
        level: `"token"` or `"word"`.
        base, context, unk, spaces: as for `ScoreOptions`.

    Attributes:
        lines: a `LineScore` per line; with ranks and entropies.
        options: the `ScoreOptions`.

    Raises:
        UsageError: an unknown value, or values that contradict each other.
        ArgumentTypeError: `text` is no text.

    Example:
        >>> keraslm.ScoredText(scorer, "the cat sat")
        ScoredText: 1 line, 4 tokens, perplexity 9.487; surprisal in bits
        1  the 2.81  cat 2.39  sat 3.39  <eos> 4.39
    """

    def __init__(
        self,
        scorer: Scorer,
        text: str | Iterable[str],
        level: Literal["token", "word"] = "token",
        base: Base | None = None,
        context: Context = "sentence",
        unk: Unk = "include",
        spaces: Spaces = "before",
    ):
        arguments.instance(scorer, Scorer, "scorer", "a Scorer")
        arguments.choice(level, "level", ("token", "word"))
        self.options = ScoreOptions(level, base=base, unk=unk, context=context, spaces=spaces)
        lines = text.removesuffix("\n").split("\n") if isinstance(text, str) else arguments.texts(text, "text")
        self.lines = list(scored_lines(scorer, lines, self.options, distributions=True))
        self._tokenizer = scorer.tokenizer

    def __repr__(self) -> str:
        rows = [f"{type(self).__name__}: {self._summary()}; surprisal in {self.options.surprisal_unit}"]
        for number, line in enumerate(self.lines[:_LINES], 1):
            laid = lay(line, self._tokenizer, self.options.by_words)
            pieces = range(min(len(laid.pieces), _PIECES))
            parts = [f"{self._name(laid, piece)} {self._surprisal(laid, piece):.2f}" for piece in pieces]
            more = ["..."] * (len(laid.pieces) > _PIECES)
            rows.append("  ".join([str(number), *parts, *more]))
        if len(self.lines) > _LINES:
            rows.append(f"... {len(self.lines) - _LINES:,} more lines")
        return "\n".join(rows)

    def _repr_html_(self) -> str:
        room = LIMIT
        rows: list[str] = []
        for line in self.lines:
            laid = lay(line, self._tokenizer, self.options.by_words)
            pieces = int((laid.pieces[:, 3] <= room).sum())
            if rows and pieces < len(laid.pieces):
                break
            title = partial(self._title, laid)
            rows.append(f"<div>{pieces_markup(laid, pieces, lambda piece, *_, title=title: title(piece))}</div>")
            room -= len(line.ids)
        cut = f"; only the first {LIMIT:,} tokens are shown" if room < 0 or len(rows) < len(self.lines) else ""
        key = f"<p>{legend()} bits per {self.options.counted}; {self._summary()}{cut}</p>"
        return f'<div class="{_CLASS}"><style>\n{_style()}</style>{"".join(rows)}{key}</div>'

    def _summary(self) -> str:
        cost = summarize(self.lines)
        lines = f"{cost.lines:,} line{'s' * (cost.lines != 1)}"
        return f"{lines}, {cost.predicted:,} tokens, perplexity {cost.perplexity:,.4g}"

    def _name(self, laid: Laid, piece: int) -> str:
        """A word, or the tokens of a piece."""
        begin, end, first, last = laid.pieces[piece].tolist()
        if self.options.by_words:
            return shown(laid.score.text[begin:end]) or EOS
        return shown(" ".join(self._tokenizer.tokens(laid.score.ids[first:last])))

    def _surprisal(self, laid: Laid, piece: int) -> float:
        return float(laid.piece_bits[piece]) * self.options.units_per_bit

    def _title(self, laid: Laid, piece: int) -> str:
        """The numbers of a piece, as an attribute that a browser shows where the pointer is."""
        first, last = laid.pieces[piece, 2:].tolist()
        surprisal, ranks = self._surprisal(laid, piece), laid.score.ranks
        facts = ["left out" if math.isnan(surprisal) else f"{surprisal:.3f} {self.options.surprisal_unit}"]
        facts += ["out of vocabulary"] * bool(laid.oov[piece])
        if last - first > 1:
            facts.append(f"{last - first} tokens")
        elif ranks is not None and not self.options.by_words:
            facts.append(f"rank {ranks[first]:,}")
        text = html.escape(f"{self._name(laid, piece)}: {', '.join(facts)}")
        return f' title="{text}"'


def _style() -> str:
    """The style sheet; it applies to nothing else in the notebook."""
    rules = resource("keraslm.pictures", "marks.css") + resource("keraslm.pictures", "notebook.css")
    box = f".{_CLASS}"
    return within(box, rules + color_rules("light")) + within(f"{_DARK} {box}", color_rules("dark"))
