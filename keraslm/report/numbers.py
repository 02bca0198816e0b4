"""Numbers written as other programs write them, digit by digit.

KenLM prints the fewest digits that give the same float again, with Google's double-conversion: plain where the number
is at least 1e-6 and below 1e21, with an exponent elsewhere. SRILM prints a fixed number of digits as C++ streams do.
Reference: kpu/kenlm, `util/float_to_string.cc`; SRILM, `lm/src/TextStats.cc`.
"""

from __future__ import annotations

import math

import numpy as np

_PLAIN = range(-6, 21)  # exponents that are written out


def shortest_float32(value: float) -> str:
    """The nearest float32, in the fewest digits that give it again.

    Example:
        >>> shortest_float32(-0.1), shortest_float32(1e-7), shortest_float32(-5)
        ('-0.1', '1e-7', '-5')
    """
    with np.errstate(over="ignore"):
        single = np.float32(value)
    return _shown(float(single), np.format_float_scientific(single, trim="-"))


def shortest_float64(value: float) -> str:
    """The same of a float64.

    Example:
        >>> shortest_float64(31.622776601683793), shortest_float64(1e21), shortest_float64(math.nan)
        ('31.622776601683793', '1e21', 'NaN')
    """
    return _shown(value, np.format_float_scientific(value, trim="-"))


def srilm_number(value: float, precision: int) -> str:
    """A number of at most `precision` significant digits, as C's `%g` and C++ streams write it.

    Example:
        >>> srilm_number(0.00001, 7), srilm_number(4664625123.0, 7), srilm_number(-math.inf, 7)
        ('1e-05', '4.664625e+09', '-inf')
    """
    return f"{value:.{precision}g}"


def _shown(value: float, scientific: str) -> str:
    """A number whose shortest digits stand in `-d.ddde+xx`, in double-conversion's notation."""
    if math.isnan(value):
        return "NaN"
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    if math.isinf(value):
        return f"{sign}inf"
    mantissa, _, power = scientific.removeprefix("-").partition("e")
    digits, exponent = mantissa.replace(".", ""), int(power)
    if exponent not in _PLAIN:
        point = "." if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{point}{digits[1:]}e{exponent}"
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    whole, rest = digits[: exponent + 1].ljust(exponent + 1, "0"), digits[exponent + 1 :]
    return f"{sign}{whole}.{rest}" if rest else f"{sign}{whole}"
