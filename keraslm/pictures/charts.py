"""Two small charts as SVG inside a page: the distribution of surprisal, and its course over the lines."""

from __future__ import annotations

import math

import numpy as np

from keraslm.pictures.markup import color
from keraslm.pictures.statistics import FINE, Series, Statistics
from keraslm.report.options import ScoreOptions

_WIDTH, _HEIGHT = 640, 200
_LEFT, _RIGHT, _TOP, _FLOOR = 52, 628, 24, 164  # edges of the plot
_BAR = 2  # bars per bit
_BARS = 40 * _BAR  # at most; the last includes everything above


def histogram(statistics: Statistics, options: ScoreOptions) -> str:
    """Number of words or tokens per half bit of surprisal, with mean and median, in the unit of surprisals."""
    unit, each, scale = options.surprisal_unit, options.counted, options.units_per_bit
    counts = statistics.distribution.reshape(-1, FINE // _BAR).sum(axis=1)
    counts = np.append(counts[: _BARS - 1], counts[_BARS - 1 :].sum())
    used = max([2 * _BAR, *(np.flatnonzero(counts) + 1).tolist()])
    highest = max(int(counts.max()), 1)
    parts = [_axes(0, used / _BAR * scale, highest, f"surprisal in {unit}", f"{each}s")]
    for at, count in enumerate(counts[:used].tolist()):
        if count:
            x, y, right = _x(at / used), _y(count / highest), _x((at + 1) / used)
            upper = "and more" if at == _BARS - 1 else f"to {(at + 1) / _BAR * scale:.4g}"
            title = f"{at / _BAR * scale:.4g} {upper} {unit}: {count:,} {each}s"
            parts.append(
                f'<rect class="{color(at / _BAR)}" x="{x:.1f}" y="{y:.1f}" width="{right - x - 1:.1f}" '
                f'height="{_FLOOR - y:.1f}"><title>{title}</title></rect>'
            )
    mean, median = statistics.mean, statistics.median
    for value, name, after in ((median, "median", mean < median), (mean, "mean", mean >= median)):
        if not math.isnan(value):
            x = _x(min(value * _BAR / used, 1))
            parts.append(_line("mark", x, x, _TOP - 14, _FLOOR))
            parts.append(
                _label(x + (4 if after else -4), _TOP - 6, "start" if after else "end", f"{name} {value * scale:.2f}")
            )
    about = f"mean {mean * scale:.2f} {unit}, median {median * scale:.2f} {unit} per {each}"
    return _svg(f"Histogram of surprisal: {about}.", parts)


def course(series: Series, options: ScoreOptions) -> str:
    """Mean surprisal of each line, or of each block of lines, in the unit of surprisals."""
    per = f"{options.surprisal_unit} per {options.counted}"
    means, lines = np.nan_to_num(series.means(), posinf=0.0) * options.units_per_bit, series.lines()
    highest, first, last = max(float(means.max()), 1.0), float(lines[0]), float(lines[-1])
    places = (lines - first) / max(last - first, 1)
    points = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in zip(places, means / highest, strict=True))
    axes = _axes(first, last, highest, "line", per)
    about = f"Mean surprisal of each {series.block}: from {means.min():.2f} to {means.max():.2f} {per}."
    return _svg(about, [axes, f'<polyline class="course" points="{points}"/>'])


def ticks(low: float, high: float, most: int = 10) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from low to high; whole numbers if possible."""
    rough = max((high - low) / most, 1e-9)
    power = 10.0 ** math.floor(math.log10(rough))
    size = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    size = max(size, 1.0) if high - low >= 2 else size
    return [size * n for n in range(math.ceil(low / size - 1e-9), math.floor(high / size + 1e-9) + 1)]


def _axes(low: float, high: float, top: float, across: str, up: str) -> str:
    span, middle = max(high - low, 1e-9), _y(0.5)
    parts = [_label(_x((value - low) / span), _FLOOR + 15, "middle", f"{value:,g}") for value in ticks(low, high)]
    for y, value in ((_y(value / top), value) for value in ticks(0, top, 6)):
        parts += [_line("grid", _LEFT, _RIGHT, y, y), _label(_LEFT - 5, y + 4, "end", f"{value:,g}")]
    parts.append(_label(_x(0.5), _HEIGHT - 3, "middle", across))
    parts.append(_label(12, middle, "middle", up, f' transform="rotate(-90 12 {middle})"'))
    return "".join(parts)


def _x(part: float) -> float:
    return _LEFT + part * (_RIGHT - _LEFT)


def _y(part: float) -> float:
    return _FLOOR - part * (_FLOOR - _TOP)


def _line(kind: str, x1: float, x2: float, y1: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>'


def _label(x: float, y: float, anchor: str, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{text}</text>'


def _svg(about: str, parts: list[str]) -> str:
    return f'<svg role="img" aria-label="{about}" viewBox="0 0 {_WIDTH} {_HEIGHT}">{"".join(parts)}</svg>'
