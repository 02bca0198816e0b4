"""A scored line as HTML: an element a piece, coloured by surprisal, and its numbers as data beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from keraslm.perplexity import bits
from keraslm.pictures.escape import markup
from keraslm.pictures.scale import NAMES, step
from keraslm.pictures.spans import Laid

OOV, END = "U", "E"  # classes beside that of the colour


def word_id(line: int, piece: int) -> str:
    """Name of the element of a piece that is linked to."""
    return f"w{line}-{piece}"


def line_markup(laid: Laid, number: int, linked: set[int], pieces: int) -> str:
    """The HTML of a line.

    Args:
        laid: the line.
        number: of the line, from 1.
        linked: pieces that get an `id`.
        pieces: how many are shown; the last of all is the line's end.
    """
    return f"<div\nid={number}>{''.join(_elements(laid, number, linked, pieces))}</div>"


def token_data(laid: Laid, pieces: int) -> Iterator[str]:
    """The numbers of each shown token as JSON: id, log-probability in nats, and, where they are known, rank and entropy
    in bits. What is not finite is null.
    """
    line, tokens = laid.score, int(laid.pieces[pieces - 1, 3]) if pieces else 0
    columns = [[str(i) for i in line.ids[:tokens].tolist()], [_number(p, 4) for p in line.logprobs[:tokens].tolist()]]
    if line.ranks is not None and line.entropies is not None:
        columns.append([str(rank) for rank in line.ranks[:tokens].tolist()])
        columns.append([_number(bits(-entropy), 2) for entropy in line.entropies[:tokens].tolist()])
    return map(",".join, zip(*columns, strict=True))


def _elements(laid: Laid, number: int, linked: set[int], pieces: int) -> Iterator[str]:
    text, at = laid.score.text, 0
    end = len(laid.pieces) - 1
    rows = zip(laid.pieces[:pieces].tolist(), laid.piece_bits.tolist(), strict=False)
    for piece, ((begin, until, first, last), surprisal) in enumerate(rows):
        part = text[begin:until]
        blank = len(part) - len(part.lstrip()) if not part.isspace() else 0  # it stays uncoloured before a word
        if at < begin + blank:
            yield markup(text[at : begin + blank])
        classes = NAMES[step(surprisal)] if math.isfinite(surprisal) else NAMES[-1]
        if laid.score.oov[first:last].any():
            classes += f" {OOV}"
        if piece == end:
            classes += f" {END}"
        count = f" data-n={last - first}" if last - first > 1 else ""
        name = f" id={word_id(number, piece)}" if piece in linked else ""
        yield f'<i class="{classes}"{count}{name}>{markup(part[blank:])}</i>'
        at = until


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "null"
