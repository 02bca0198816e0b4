"""Draw the pictures of the tutorials: docs/tutorials/*.svg. `make tutorials` runs it.

The colours can be read on white and on black. At a width of 400 pixels the letters are 12 pixels high.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

PAGES = Path(__file__).parent / "tutorials"
LETTERS = "abcdefghijklmnopqrstuvwxyz."
FILLS = ("#bfdbfe", "#fde68a", "#bbf7d0")  # one per row; dark letters stand on them
INK, LABEL, FORWARD, BACK = "#111827", "#77808d", "#3b82f6", "#e0700b"
WIDTH = 540


def text(x: float, y: float, words: str, colour: str = LABEL, anchor: str = "middle", size: int = 16) -> str:
    return f'<text x="{x:g}" y="{y:g}" fill="{colour}" text-anchor="{anchor}" font-size="{size}">{words}</text>'


def cell(x: float, y: float, size: float, letter: str, fill: str) -> str:
    place = f'x="{x:g}" y="{y:g}" width="{size:g}" height="{size:g}"'
    return f'<rect {place} fill="{fill}" stroke="{INK}" stroke-width="0.6"/>' + text(
        x + size / 2, y + size / 2 + 5.5, letter, INK
    )


def line(x1: float, y1: float, x2: float, y2: float, colour: str = LABEL, more: str = "") -> str:
    return f'<path d="M{x1:g} {y1:g}L{x2:g} {y2:g}" stroke="{colour}" stroke-width="2" fill="none" {more}/>'


def arrow(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    """An arrow along one of the axes."""
    dx, dy = (x2 > x1) - (x2 < x1), (y2 > y1) - (y2 < y1)
    x, y = x2 - 7 * dx, y2 - 7 * dy
    head = f"M{x2:g} {y2:g}L{x - 4 * dy:g} {y - 4 * dx:g}L{x + 4 * dy:g} {y + 4 * dx:g}Z"
    return line(x1, y1, x, y, colour) + f'<path d="{head}" fill="{colour}"/>'


def rows() -> str:
    """The stream of 27 letters, and the same letters in 3 rows of 9 with two windows of 4 inputs."""
    size, big, left, top = 19.5, 40, 84, 100
    parts = [text(WIDTH / 2, 16, "the text")]
    parts += [cell(6 + size * i, 26, size, letter, FILLS[i // 9]) for i, letter in enumerate(LETTERS)]
    for row in range(3):
        y = top + (big + 8) * row
        parts.append(text(left - 12, y + 25, f"row {row}", anchor="end"))
        parts += [cell(left + big * i, y, big, LETTERS[9 * row + i], FILLS[row]) for i in range(9)]
    bottom = top + 3 * (big + 8)
    for window in range(2):
        x = left + 4 * big * window
        parts.append(text(x + 2 * big, top - 14, f"window {window}"))
        frame = f'x="{x + 2:g}" y="{top - 5:g}" width="{4 * big - 4:g}" height="{bottom - top + 2:g}" rx="6"'
        parts.append(f'<rect {frame} fill="none" stroke="{FORWARD}" stroke-width="2.5"/>')
    parts += [
        arrow(left + 3 * big, bottom + 14, left + 5 * big, bottom + 14, FORWARD),
        text(left + 4 * big, bottom + 34, "the state after window 0 starts window 1", FORWARD),
    ]
    return svg(bottom + 42, parts)


def cut() -> str:
    """Row 0 through both windows: forward arrows everywhere, backward arrows within the windows."""
    step, box, left, top = 62, 34, 36, 76
    parts, bottom = [], top + box
    for i, letter in enumerate("abcdefgh"):
        x = left + step * i
        parts += [
            cell(x, top, box, "", FILLS[0]) + text(x + box / 2, top + 22, "h c", INK, size=14),
            arrow(x + box / 2, bottom + 26, x + box / 2, bottom + 2, LABEL),
            text(x + box / 2, bottom + 42, letter),
            arrow(x + box / 2, top - 2, x + box / 2, top - 24, LABEL),
            text(x + box / 2, top - 30, "bcdefghi"[i]),
        ]
        if i:
            parts.append(arrow(x - step + box, top + 10, x, top + 10, FORWARD))
        if i % 4:
            parts.append(arrow(x, top + 25, x - step + box, top + 25, BACK))
    middle = left + 3.5 * step + box / 2
    parts += [
        line(middle, 24, middle, bottom + 48, BACK, 'stroke-dasharray="5 4"'),
        text(middle - 2 * step, 16, "window 0"),
        text(middle + 2 * step, 16, "window 1"),
        text(middle, 16, "cut", BACK),
        text(left, bottom + 74, "&#8594; the state, forward", FORWARD, "start"),
        text(WIDTH - left, bottom + 74, "&#8592; the gradient, back", BACK, "end"),
    ]
    return svg(bottom + 84, parts)


def bits() -> str:
    """The surprisal of each token, from the recorded output in first-model.md."""
    page = (PAGES / "first-model.md").read_text(encoding="utf-8")
    found = re.findall(r"^1\t\d+\t(\S+)\t\S+\t(\S+)$", page, re.MULTILINE)
    longest, parts = max(float(value) for _, value in found), []
    for i, (token, value) in enumerate(found):
        y, length = 30 * i, 320 * float(value) / longest
        parts += [
            text(112, y + 21, escape(token), anchor="end"),
            f'<rect x="124" y="{y + 5}" width="{length:.1f}" height="22" rx="3" fill="{FORWARD}"/>',
            text(132 + length, y + 21, f"{float(value):.1f}", anchor="start"),
        ]
    return svg(30 * len(found) + 24, [*parts, text(124, 30 * len(found) + 16, "surprisal in bits", anchor="start")])


def svg(height: float, parts: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}"'
    return "\n".join([f'{head} font-family="sans-serif">', *parts, "</svg>"]) + "\n"


PICTURES = {"rows.svg": rows, "cut.svg": cut, "bits.svg": bits}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (PAGES / name).write_text(draw(), encoding="utf-8")
        print(f"written docs/tutorials/{name}")
