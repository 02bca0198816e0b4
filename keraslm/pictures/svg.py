"""Two small charts as SVG that a page holds: the distribution of surprisal, and its course over the lines."""

from __future__ import annotations

import math

import numpy as np

from keraslm.pictures.scale import NAMES, step
from keraslm.pictures.statistics import FINE, Series, Statistics

_WIDTH, _HEIGHT = 640, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 24, 36  # margins
_BAR = 2  # bars a bit
_BARS = 40 * _BAR  # at most; the last takes all above


def histogram(statistics: Statistics) -> str:
    """How many tokens have which surprisal, in half bits, with mean and median."""
    fine = statistics.distribution
    counts = fine.reshape(-1, FINE // _BAR).sum(axis=1)
    counts = np.append(counts[: _BARS - 1], counts[_BARS - 1 :].sum())
    used = max(int(np.flatnonzero(counts)[-1]) + 1, 2 * _BAR) if counts.any() else 2 * _BAR
    highest = max(int(counts.max()), 1)
    bars = []
    for at, count in enumerate(counts[:used].tolist()):
        if count:
            left, right = _across(at / used), _across((at + 1) / used)
            top = _up(count / highest)
            last = at == _BARS - 1
            span = f"{at / _BAR:g} bits and more" if last else f"{at / _BAR:g} to {(at + 1) / _BAR:g} bits"
            bars.append(
                f'<rect class="{NAMES[step(at / _BAR)]}" x="{left:.1f}" y="{top:.1f}" width="{right - left - 1:.1f}" '
                f'height="{_HEIGHT - _BOTTOM - top:.1f}"><title>{span}: {count:,} tokens</title></rect>'
            )
    marks = [
        _mark(min(statistics.median * _BAR / used, 1), f"median {statistics.median:.2f}", "end"),
        _mark(min(statistics.mean * _BAR / used, 1), f"mean {statistics.mean:.2f}", "start"),
    ]
    if statistics.mean < statistics.median:
        marks = [mark.replace('"end"', '"x"').replace('"start"', '"end"').replace('"x"', '"start"') for mark in marks]
    axes = _axes(0, used / _BAR, highest, "surprisal in bits", "tokens")
    about = f"Histogram of surprisal: mean {statistics.mean:.2f} bits, median {statistics.median:.2f} bits a token."
    return _svg(about, axes + "".join(bars) + "".join(marks))


def course(series: Series) -> str:
    """Mean surprisal of each line, or of each block of lines."""
    means, lines = np.nan_to_num(series.means(), posinf=0.0), series.lines()
    highest, first, last = max(float(means.max()), 1.0), float(lines[0]), float(lines[-1])
    places = (lines - first) / max(last - first, 1)
    points = " ".join(f"{_across(x):.1f},{_up(y):.1f}" for x, y in zip(places, means / highest, strict=True))
    what = "each line" if series.size == 1 else f"each {series.size:,} lines"
    axes = _axes(first, last, highest, "line", "bits a token")
    about = f"Mean surprisal of {what}: from {means.min():.2f} to {means.max():.2f} bits a token."
    return _svg(about, axes + f'<polyline class="course" points="{points}"/>')


def _across(part: float) -> float:
    return _LEFT + part * (_WIDTH - _LEFT - _RIGHT)


def _up(part: float) -> float:
    return _HEIGHT - _BOTTOM - part * (_HEIGHT - _BOTTOM - _TOP)


def _svg(about: str, content: str) -> str:
    return f'<svg role="img" aria-label="{about}" viewBox="0 0 {_WIDTH} {_HEIGHT}">{content}</svg>'


def _mark(part: float, label: str, anchor: str) -> str:
    if math.isnan(part):
        return ""
    x, shift = _across(part), 4 if anchor == "start" else -4
    return (
        f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 14}" y2="{_HEIGHT - _BOTTOM}"/>'
        f'<text x="{x + shift:.1f}" y="{_TOP - 6}" text-anchor="{anchor}">{label}</text>'
    )


def _axes(low: float, high: float, top: float, across: str, up: str) -> str:
    found = []
    for value in _ticks(low, high):
        x = _across((value - low) / max(high - low, 1e-9))
        found.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 15}" text-anchor="middle">{value:,g}</text>')
    for value in _ticks(0, top, 6):
        y = _up(value / top)
        found.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        found.append(f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{value:,g}</text>')
    middle = _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) / 2
    found.append(f'<text x="{_across(0.5):.1f}" y="{_HEIGHT - 3}" text-anchor="middle">{across}</text>')
    found.append(f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">{up}</text>')
    return "".join(found)


def _ticks(low: float, high: float, most: int = 10) -> list[float]:
    """Round numbers from low to high: multiples of 1, 2 or 5 times a power of ten, whole ones where it is possible."""
    rough = max((high - low) / most, 1e-9)
    power = 10.0 ** math.floor(math.log10(rough))
    size = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    size = max(size, 1.0) if high - low >= 2 else size
    return [size * n for n in range(math.ceil(low / size - 1e-9), math.floor(high / size + 1e-9) + 1)]
