"""One HTML page that shows a scored text. It needs no network and no other file.

All content is escaped, and a Content-Security-Policy allows only the page's own style and script, by their digests.
The coloured text is also visible without the script.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from keraslm.perplexity import BASES, UNITS
from keraslm.pictures import charts, parts
from keraslm.pictures.markup import line_markup, markup, script_data, shown, token_data
from keraslm.pictures.spans import Laid, lay
from keraslm.pictures.statistics import Statistics
from keraslm.report.options import ScoreOptions
from keraslm.scoring.measures import LineScore
from keraslm.system import VERSION
from keraslm.system.outputs import output_file
from keraslm.text.tokenizer import Tokenizer

LIMIT = 200_000  # tokens that a page shows: about 12 MB, which a browser opens in one or two seconds
_MANY = 500  # number of lines from which the browser lays out only visible lines
_LONGEST = 40  # characters of a word in the list


class HtmlReport:
    """Gathers scored lines and writes the page.

    The top of the page shows `title` and `facts`; `limit` tokens are shown and kept in memory. The numbers are those
    that `write_scores` writes with the same `options`, if the page is one of its watchers.

    Example:
        >>> report = HtmlReport(scorer.tokenizer, "a.txt", {"model": "model.onnx"}, options=options)
        >>> write_scores(scorer, lines, options, out, watchers=[report.add])
        >>> report.write(Path("a.html"))
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        title: str,
        facts: Mapping[str, str] | None = None,
        limit: int = LIMIT,
        options: ScoreOptions | None = None,
    ) -> None:
        self._tokenizer, self._title, self._facts = tokenizer, title, dict(facts or {})
        self._options = options or ScoreOptions()
        self._room, self._shown, self._cut = limit, 0, False
        self._statistics = Statistics()
        self._lines: list[str] = []  # HTML
        self._tokens: list[str] = []  # numbers of each token, JSON
        self._ids: set[int] = set()

    def add(self, line: LineScore) -> None:
        """Add a line; the page shows ranks and entropies if it was scored with `distributions=True`."""
        laid = lay(line, self._tokenizer, self._options.by_words)
        self._statistics.add(laid)
        if not self._cut:
            self._show(laid)

    @property
    def note(self) -> str:
        """A sentence if the page does not show every line; empty otherwise."""
        if not self._cut:
            return ""
        lines = self._statistics.cost.lines
        what = f"the first {self._shown:,} of {lines:,} lines" if self._shown else "the beginning of the first line"
        return f"The page shows {what}; the numbers are those of the whole text."

    def write(self, path: Path) -> None:
        """Write the page; raises `UsageError` without a folder to write to, `WriteError` if writing fails."""
        with output_file(path) as temporary:
            temporary.write_text(self.page(), encoding="utf-8", newline="")

    def page(self) -> str:
        style, script = parts.style(_resource("page.css")), parts.script(_resource("page.js"))
        ids, series, unk_id = sorted(self._ids), self._statistics.series, self._tokenizer.unk_id
        left_out = ", left out" if self._options.unk == "exclude" else ""
        course = f"Mean surprisal of each {series.block}"
        names = dict(zip(ids, map(shown, self._tokenizer.tokens(ids)), strict=True))
        width = self._tokens[0].count(",") + 1 if self._tokens else 0
        about = script_data({"names": names, "unk": unk_id, "width": width, **self._units()})
        return Template(_resource("page.html")).substitute(
            policy=parts.policy(style, script),
            version=VERSION,
            title=parts.plain(self._title),
            style=style,
            facts=self._summary(),
            note=f'<p class="note" role="note">{self.note}</p>' if self.note else "",
            legend=parts.legend(),
            unknown=f'<i class="U">underlined</i> is out of vocabulary{left_out}; ' if unk_id >= 0 else "",
            size="long" if self._shown >= _MANY else "short",
            text="".join(self._lines),
            words=self._words(),
            histogram=charts.histogram(self._statistics, self._options),
            course=_section("course", course, charts.course(series, self._options)) if len(series.lines()) > 1 else "",
            data=f'{about[:-1]},"tokens":[{",".join(self._tokens)}]}}',
            script=script,
        )

    def _show(self, laid: Laid) -> None:
        pieces = int((laid.pieces[:, 3] <= self._room).sum())
        self._cut = pieces < len(laid.pieces)
        if self._cut and self._shown:
            return
        number, tokens = self._statistics.cost.lines, int(laid.pieces[pieces - 1, 3]) if pieces else 0
        linked = {-word.minus_piece for word in self._statistics.words if word.minus_line == -number}
        self._lines.append(line_markup(laid, number, linked, pieces, self._options))
        self._tokens += token_data(laid, tokens, self._options)
        self._ids.update(laid.score.ids[:tokens].tolist())
        self._room -= tokens
        self._shown += not self._cut

    def _units(self) -> dict[str, Any]:
        """Units of log-probabilities and of surprisals: names and sizes in nats; whether OOVs are left out."""
        bases = self._options.bases
        excluded = self._options.unk == "exclude"
        return {"units": [UNITS[base] for base in bases], "nats": [BASES[base] for base in bases], "excluded": excluded}

    def _summary(self) -> str:
        cost, excluded = self._statistics.cost, self._options.unk == "exclude"
        rows = {"lines": f"{cost.lines:,}", "words": f"{cost.words:,}", "tokens": f"{cost.predicted:,}"}
        if self._tokenizer.unk_id >= 0:
            rows["out of vocabulary"] = f"{cost.oovs:,}{', left out' if excluded else ''}"
        perplexities = {"token": cost.perplexity, "word": cost.perplexity_per_word}
        if excluded:  # the number of known words is known only if words are scored
            del perplexities["word"]
        if self._options.by_words:
            perplexities["word"] = self._statistics.perplexity
        for unit, value in perplexities.items():
            rows[f"perplexity per {unit}"] = f"{value:,.2f}" if value < 1e9 else f"{value:.3g}"
        rows["bits per character"] = f"{cost.bits_per_character:.4f}"
        return parts.facts(rows | self._facts)

    def _words(self) -> str:
        rows = []
        for word in self._statistics.words:
            line, piece = -word.minus_line, -word.minus_piece
            text = word.text if len(word.text) <= _LONGEST else f"{word.text[: _LONGEST - 1]}…"
            oov = ' class="U"' if word.oov else ""
            name = f"<bdi{oov}>{markup(text)}</bdi>"
            link = f'<a href="#w{line}-{piece}">{name}</a>' if line <= self._shown else name
            surprisal = f"{word.bits * self._options.units_per_bit:.1f} {self._options.surprisal_unit}"
            rows.append(f"<li>{link} <span>{surprisal}, line {line:,}</span></li>")
        return _section("words", "Most surprising words", f"<ol>{''.join(rows)}</ol>") if rows else ""


def _section(name: str, title: str, content: str) -> str:
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{title}</h2>\n{content}\n</section>'


def _resource(name: str) -> str:
    return parts.resource("keraslm.pictures", name)
