"""The colours of surprisal: one for each bit, from 0 to 15 and more.

Each scheme is a straight way through lightness in Oklab (Ottosson 2020, https://bottosson.github.io/posts/oklab/), away
from its page's own colour: whoever sees no hue still sees the order, and equal steps look equal. The text on a colour
is black or white, whichever contrasts more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

STEPS = 16  # bits; the last takes all above
NAMES = "abcdefghijklmnop"  # of the classes in the page, one a step

_OKLAB_TO_LMS = ((1, 0.3963377774, 0.2158037573), (1, -0.1055613458, -0.0638541728), (1, -0.0894841775, -1.2914855480))
_LMS_TO_RGB = (
    (4.0767416621, -3.3077115913, 0.2309699292),
    (-1.2684380046, 2.6097574011, -0.3413193965),
    (-0.0041960863, -0.7034186147, 1.7076147010),
)
# Lightness, chroma and hue (degrees) of the first and the last step.
_WAYS = {"light": ((0.985, 0.012, 100.0), (0.38, 0.17, 5.0)), "dark": ((0.27, 0.03, 290.0), (0.93, 0.13, 455.0))}


def step(bits: float) -> int:
    """Which colour a surprisal has.

    Example:
        >>> step(0.3), step(7.9), step(33.0)
        (0, 7, 15)
    """
    return int(bits) if bits < STEPS else STEPS - 1


def colors(scheme: str) -> list[tuple[str, str]]:
    """Background and text of each step, as `#rrggbb`.

    Args:
        scheme: `"light"` or `"dark"`.
    """
    first, last = _WAYS[scheme]
    found = []
    for at in range(STEPS):
        part = at / (STEPS - 1)
        parts = (part, part**0.6, part)  # colourful soon, so that the middle is no brown
        lightness, chroma, hue = (a + p * (b - a) for a, b, p in zip(first, last, parts, strict=True))
        rgb = _in_gamut(lightness, chroma, math.radians(hue))
        luminance = 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]
        # WCAG 2: (luminance + 0.05) / 0.05 against black, 1.05 / (luminance + 0.05) against white.
        found.append((_hexadecimal(rgb), "#000000" if (luminance + 0.05) ** 2 > 0.05 * 1.05 else "#ffffff"))
    return found


def _in_gamut(lightness: float, chroma: float, hue: float) -> list[float]:
    """Linear sRGB of a colour, or of the nearest one less colourful that a screen can show."""
    while True:
        lab = (lightness, chroma * math.cos(hue), chroma * math.sin(hue))
        rgb = _times(_LMS_TO_RGB, [value**3 for value in _times(_OKLAB_TO_LMS, lab)])
        if chroma < 0.001 or all(-0.0005 <= value <= 1.0005 for value in rgb):
            return [min(max(value, 0.0), 1.0) for value in rgb]
        chroma *= 0.97


def _times(matrix: Sequence[Sequence[float]], vector: Sequence[float]) -> list[float]:
    return [math.fsum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def _hexadecimal(linear: Sequence[float]) -> str:
    encoded = (12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055 for v in linear)
    return "#" + "".join(f"{round(255 * value):02x}" for value in encoded)
