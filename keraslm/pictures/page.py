"""One HTML page that shows a scored text, and needs nothing beside itself: no network, no other file.

What comes from outside (text, tokenizer, names) is escaped, and a Content-Security-Policy lets the browser use the
page's own style and script alone, by their digests. Without the script the coloured text stands all the same.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TextIO

from keraslm import __version__
from keraslm.pictures import scale, svg
from keraslm.pictures.escape import markup, script_data, shown
from keraslm.pictures.markup import line_markup, token_data, word_id
from keraslm.pictures.spans import Laid, lay
from keraslm.pictures.statistics import Statistics
from keraslm.scoring.measures import LineScore
from keraslm.system.atomic import output_file
from keraslm.text.tokenizer import Tokenizer

LIMIT = 200_000  # tokens that a page shows: some 12 MB, which a browser opens in a second or two
_MANY = 500  # lines from which on the browser lays out those in sight alone, and full-page screenshots lose the others
_LONGEST = 40  # characters of a word in the list


class HtmlReport:
    """Gathers scored lines and writes the page. The text waits in temporary files; memory is bounded.

    Args:
        tokenizer: that the lines were scored with.
        title: what was scored.
        facts: what the page says beside the counts, such as `{"model": "model.onnx", "context": "sentence"}`.
        limit: tokens that are shown. The lines after them are counted in every number, but not shown.

    Example:
        >>> report = HtmlReport(scorer.tokenizer, "a.txt", {"model": "model.onnx"})
        >>> for line in scorer.score_lines(lines, distributions=True):
        ...     report.add(line)
        >>> report.write(Path("a.html"))
    """

    def __init__(
        self, tokenizer: Tokenizer, title: str, facts: Mapping[str, str] | None = None, limit: int = LIMIT
    ) -> None:
        self._tokenizer, self._title, self._facts = tokenizer, title, dict(facts or {})
        self._room, self._shown, self._cut = limit, 0, False
        self._statistics = Statistics()
        self._ids: set[int] = set()
        self._width = 0
        self._text: TextIO = tempfile.TemporaryFile("w+", encoding="utf-8", newline="")
        self._data: TextIO = tempfile.TemporaryFile("w+", encoding="utf-8", newline="")
        for spool in (self._text, self._data):
            weakref.finalize(self, spool.close)

    def add(self, line: LineScore) -> None:
        """Add a line; with ranks and entropies where it was scored with `distributions`."""
        laid = lay(line, self._tokenizer)
        self._statistics.add(laid)
        if not self._cut:
            self._show(laid)

    @property
    def note(self) -> str:
        """A sentence where not every line is shown; empty where all are."""
        if not self._cut:
            return ""
        lines = self._statistics.cost.lines
        what = f"the first {self._shown:,} of {lines:,} lines" if self._shown else "the beginning of the first line"
        return f"The page shows {what}; the numbers are those of all."

    def write(self, path: Path) -> None:
        """Write the page.

        Raises:
            UsageError: the path is a folder, or lies in none.
            WriteError: the file cannot be written.
        """
        with output_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as out:
            self._write(out)

    def _show(self, laid: Laid) -> None:
        number = self._statistics.cost.lines
        pieces = int((laid.pieces[:, 3] <= self._room).sum())
        self._cut = pieces < len(laid.pieces)
        if self._cut and self._shown:
            return
        linked = {-word.place[1] for word in self._statistics.words if word.place[0] == -number}
        self._text.write(line_markup(laid, number, linked, pieces))
        for row in token_data(laid, pieces):
            self._data.write(f"{',' if self._width else ''}{row}")
            self._width = row.count(",") + 1
        tokens = int(laid.pieces[pieces - 1, 3]) if pieces else 0
        self._ids.update(laid.score.ids[:tokens].tolist())
        self._room -= tokens
        self._shown += not self._cut

    def _write(self, out: TextIO) -> None:
        head, rest = self._filled().split("<!--TEXT-->")
        middle, end = rest.split("<!--DATA-->")
        ids = sorted(self._ids)
        names = dict(zip(ids, map(shown, self._tokenizer.tokens(ids)), strict=True))
        about = script_data({"names": names, "unk": self._tokenizer.unk_id, "width": self._width})
        for spool, before in ((self._text, head), (self._data, f'{middle}{about[:-1]},"tokens":[')):
            out.write(before)
            spool.seek(0)
            shutil.copyfileobj(spool, out)
        out.write(f"]}}{end}")

    def _filled(self) -> str:
        style, script = _style(), _resource("page.js")
        policy = f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; base-uri 'none'"
        unknown = '<i class="U">underlined</i> is out of vocabulary; ' if self._tokenizer.unk_id >= 0 else ""
        last = scale.STEPS - 1
        steps = "".join(f'<i class="{n}">{at}{"+" * (at == last)}</i>' for at, n in enumerate(scale.NAMES))
        return Template(_resource("page.html")).substitute(
            policy=f"{policy}; form-action 'none'",
            version=__version__,
            title=_one_line(self._title),
            style=style,
            facts=self._summary(),
            note=f'<p class="note" role="note">{self.note}</p>' if self.note else "",
            legend=f"{steps}<span>&nbsp;bits</span>",
            unknown=unknown,
            size="long" if self._shown >= _MANY else "short",
            words=self._words(),
            histogram=svg.histogram(self._statistics),
            course=self._course(),
            script=script,
        )

    def _summary(self) -> str:
        cost = self._statistics.cost
        rows = {name: f"{getattr(cost, name):,}" for name in ("lines", "words", "tokens")}
        if self._tokenizer.unk_id >= 0:
            rows["out of vocabulary"] = f"{cost.oovs:,}"
        for what, value in (("token", cost.perplexity), ("word", cost.perplexity_per_word)):
            rows[f"perplexity a {what}"] = f"{value:,.2f}" if value < 1e9 else f"{value:.3g}"
        rows["bits a character"] = f"{cost.bits_per_character:.4f}"
        rows |= self._facts
        return "".join(f"<div><dt>{_one_line(k)}</dt><dd><bdi>{_one_line(v)}</bdi></dd></div>" for k, v in rows.items())

    def _words(self) -> str:
        rows = []
        for word in self._statistics.words:
            line, piece = -word.place[0], -word.place[1]
            text = word.text if len(word.text) <= _LONGEST else f"{word.text[: _LONGEST - 1]}…"
            oov = ' class="U"' if word.oov else ""
            name = f"<bdi{oov}>{markup(text)}</bdi>"
            link = f'<a href="#{word_id(line, piece)}">{name}</a>' if line <= self._shown else name
            rows.append(f"<li>{link} <span>{word.bits:.1f} bits, line {line:,}</span></li>")
        if not rows:
            return ""
        head = '<section aria-labelledby="words"><h2 id="words">Most surprising words</h2>'
        return f"{head}\n<ol>{''.join(rows)}</ol>\n</section>"

    def _course(self) -> str:
        series = self._statistics.series
        if len(series.sums) < 2:
            return ""
        what = "a line" if series.size == 1 else f"over the lines, {series.size:,} a point"
        head = f'<section aria-labelledby="course"><h2 id="course">Mean surprisal {what}</h2>'
        return f"{head}\n{svg.course(series)}\n</section>"


def _one_line(text: str) -> str:
    """HTML text for places that take no element, such as a title."""
    return markup(shown(text))


def _resource(name: str) -> str:
    return files("keraslm.pictures").joinpath(name).read_text(encoding="utf-8")


def _style() -> str:
    light, dark = (
        "".join(
            f".{name}{{background:{ground};color:{ink};fill:{ground}}}\n"
            for name, (ground, ink) in zip(scale.NAMES, scale.colors(scheme), strict=True)
        )
        for scheme in ("light", "dark")
    )
    return f"{_resource('page.css')}{light}@media screen and (prefers-color-scheme:dark){{\n{dark}}}\n"


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
