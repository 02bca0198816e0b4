"""Running sums in two float32 numbers, right to about 1e-13 after any number of steps, on devices without float64."""

from __future__ import annotations

from typing import Any

from keras import ops


def two_sum(high: Any, low: Any, value: Any) -> tuple[Any, Any]:
    """Add a value to the sum `high + low`, with `abs(low)` at most half a unit in the last place of `high`.

    A float32 sum of a long text loses the digits of each window: 1e9 + 20 is 1e9. Here the rounding error of each
    addition is computed exactly and kept in `low`. A sum that is not finite has a `low` of 0.

    Reference: Knuth, The Art of Computer Programming, volume 2, section 4.2.2, theorem B; Dekker 1971, "A
    Floating-Point Technique for Extending the Available Precision".
    """
    total = high + value
    part = total - high
    error = (high - (total - part)) + (value - part)
    finite = ops.isfinite(total)
    rest = ops.where(finite, low + error, 0.0)
    high = total + rest
    return high, ops.where(finite, rest - (high - total), 0.0)


def window_sum(values: Any) -> Any:
    """The sum of a float32 array, right to its last digits: what is summed are the distances from the mean.

    A plain sum of equal numbers is off by up to 4e-6, depending on the backend, in the same direction in each window.
    """
    if len(values.shape) == 0:
        return values
    count = ops.cast(ops.size(values), "float32")
    mean = ops.sum(values) / ops.maximum(count, 1.0)
    return ops.where(ops.isfinite(mean), mean * count + ops.sum(values - mean), mean)
