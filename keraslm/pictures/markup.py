"""Scored lines as HTML: text that stays text, and one element per piece, coloured by surprisal."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from keraslm.pictures.spans import Laid
from keraslm.report.options import ScoreOptions

NAMES = "abcdefghijklmnop"  # CSS classes of the colours, one per bit of surprisal; the last includes everything above

# Background of each colour, and the classes with white text: equal steps of lightness in Oklab (Ottosson 2020).
# Lightness, chroma and hue run from 0.985, 0.012, 100 to 0.38, 0.17, 5, and from 0.27, 0.03, 290 to 0.93, 0.13, 455.
SCHEMES = {
    "light": (
        "#fcfaf1 #f6edcd #f0deb3 #ebce9d #e6be88 #e0ad76 #db9d65 #d48c57 "
        "#cd7b4c #c66a43 #bd593d #b34839 #a83637 #9d2336 #900736 #7d0338",
        "lmnop",
    ),
    "dark": (
        "#262434 #362b47 #473353 #5a3b5e #6d4465 #814d6b #95576f #a86170 "
        "#bb6d70 #cc7b6f #db896d #e89a6b #f3ab6a #fbbe6c #fed37a #fee892",
        "abcdefg",
    ),
}

# Controls except the tab; marks, embeddings, overrides and isolates of the bidirectional algorithm; line and paragraph
# separators; halves of surrogate pairs; noncharacters. HTML cannot hold some, others would rearrange the page.
_ODD = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)


def color(surprisal: float) -> str:
    """The class of the colour for a surprisal in bits."""
    return NAMES[int(surprisal)] if surprisal < len(NAMES) else NAMES[-1]  # NaN too


def color_rules(scheme: str) -> str:
    """The CSS rules of the `"light"` or the `"dark"` colours."""
    grounds, white = SCHEMES[scheme]
    return "".join(
        f".{name}{{background:{ground};color:{'#ffffff' if name in white else '#000000'};fill:{ground}}}\n"
        for name, ground in zip(NAMES, grounds.split(), strict=True)
    )


def shown(text: str) -> str:
    """The text with a picture such as `␀` or `[U+202E]` for each character that a page cannot hold."""
    return _ODD.sub(lambda found: _picture(found[0]), text)


def markup(text: str) -> str:
    """The text as HTML, with such pictures in `<u>`."""
    return _ODD.sub(lambda found: f"<u>{_picture(found[0])}</u>", html.escape(text))


def script_data(value: Any) -> str:
    """JSON for a script element: ASCII, without `<`, `>` and `&`."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return re.sub("[<>&]", lambda found: f"\\u{ord(found[0]):04x}", text)


def line_markup(laid: Laid, number: int, linked: set[int], pieces: int, options: ScoreOptions) -> str:
    """The HTML of a line, with one element for each of the first `pieces`; those in `linked` have an `id`.

    `data-n` is the number of tokens if it is not 1, `data-s` the surprisal of a word.
    """

    def attributes(piece: int, tokens: int, surprisal: float) -> str:
        count = f" data-n={tokens}" if tokens != 1 else ""
        if options.by_words:
            count += f" data-s={_number(surprisal * options.units_per_bit)}"
        return count + (f" id=w{number}-{piece}" if piece in linked else "")

    return f"<div\nid={number}>{pieces_markup(laid, pieces, attributes)}</div>"


def pieces_markup(laid: Laid, pieces: int, attributes: Callable[[int, int, float], str]) -> str:
    """The HTML of the first `pieces` of a line, one element for each.

    `attributes` returns those of a piece from its number, its number of tokens and its surprisal in bits.
    """
    text, at, parts = laid.score.text, 0, []
    rows = zip(laid.pieces[:pieces].tolist(), laid.piece_bits.tolist(), laid.oov.tolist(), strict=False)
    for piece, ((begin, until, first, last), surprisal, oov) in enumerate(rows):
        part = text[begin:until]
        blank = len(part) - len(part.lstrip()) if not part.isspace() else 0  # it stays uncoloured before a word
        classes = [color(surprisal)] if not (oov and math.isnan(surprisal)) else []
        classes += ["U"] * oov + ["E"] * (piece == len(laid.pieces) - 1)  # out of vocabulary, line end
        own = attributes(piece, last - first, surprisal)
        parts.append(
            f'{markup(text[at : begin + blank])}<i class="{" ".join(classes)}"{own}>{markup(part[blank:])}</i>'
        )
        at = until
    return "".join(parts)


def token_data(laid: Laid, tokens: int, options: ScoreOptions) -> Iterator[str]:
    """Each of the first tokens as JSON numbers: id, log-probability, and, if known, rank and entropy."""
    line = laid.score
    logprobs = line.logprobs[:tokens] * options.logprob_scale + 0.0
    columns = [[str(i) for i in line.ids[:tokens].tolist()], list(map(_number, logprobs.tolist()))]
    if line.ranks is not None and line.entropies is not None:
        columns.append([str(rank) for rank in line.ranks[:tokens].tolist()])
        columns.append(list(map(_number, (line.entropies[:tokens] * options.surprisal_scale).tolist())))
    return map(",".join, zip(*columns, strict=True))


def _number(value: float) -> str:
    return f"{value:.6f}" if math.isfinite(value) else "null"  # with the decimals of a table


def _picture(character: str) -> str:
    number = ord(character)
    if number < 0x20:
        return chr(0x2400 + number)
    return "␡" if number == 0x7F else f"[U+{number:04X}]"
