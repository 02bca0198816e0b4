"""The metrics of an epoch: means over any number of tokens. Shapes: `B` rows, `T` steps, `V` vocabulary."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import keras
from keras import ops

from keraslm import replicas
from keraslm.network.losses import token_nats
from keraslm.optimizers.sums import two_sum, window_sum


class _Quotient(keras.metrics.Metric):
    """The weighted mean of the values of all replicas, from sums in two float32 numbers each.

    `SUMS` names their variables, which are the same in each replica.
    """

    SUMS: ClassVar[tuple[str, str]] = ("total", "count")  # of the weighted values, and of the weights

    def __init__(self, name: str, dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self._sums = [
            tuple(
                self.add_variable((), "zeros", "float32", aggregation="only_first_replica", name=f"{name}{part}")
                for part in ("", "_low")
            )
            for name in self.SUMS
        ]

    def result(self) -> Any:
        (total, total_low), (count, count_low) = (map(ops.convert_to_tensor, pair) for pair in self._sums)
        mean = ops.divide_no_nan(total, count)
        # To the first order; without it, the rounding of both sums would change the last digits of a perplexity.
        more = ops.divide_no_nan(total_low, count) - mean * ops.divide_no_nan(count_low, count)
        return ops.where(ops.isfinite(more), mean + more, mean)

    def mean(self) -> float:
        """The mean in float64; NaN without values. On JAX, the variables must be synchronised."""
        total, count = (sum(float(ops.convert_to_numpy(part)) for part in pair) for pair in self._sums)
        return total / count if count else math.nan

    def _add(self, values: Any, weights: Any) -> None:
        values = ops.cast(values, "float32")
        if weights is None:
            added = [window_sum(values), ops.cast(ops.size(values), "float32")]
        else:
            weights = ops.broadcast_to(ops.cast(weights, "float32"), ops.shape(values))
            added = [window_sum(values * weights), window_sum(weights)]
        for variables, value in zip(self._sums, replicas.total(added), strict=True):
            high, low = map(ops.convert_to_tensor, variables)
            for variable, part in zip(variables, two_sum(high, low, value), strict=True):
                variable.assign(part)


@keras.saving.register_keras_serializable(package="keraslm")
class Mean(_Quotient):
    """`keras.metrics.Mean` for any number of values; in Keras' float32, the mean of 1e8 tokens is off by a percent.

    Example:
        >>> metric = Mean()
        >>> metric.update_state([1.0, 4.0], sample_weight=[2.0, 1.0])
        >>> metric.mean()
        2.0
    """

    def __init__(self, name: str = "mean", dtype: Any = None):
        super().__init__(name, dtype)

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        self._add(values, sample_weight)


@keras.saving.register_keras_serializable(package="keraslm")
class Perplexity(_Quotient):
    """Keras metric `exp(nats / tokens)` over all tokens since the last reset, each counted with its weight.

    It accepts logits `(B, T, V)` or nats `(B, T)`. Its sums are exact to 1e-7 for any number of tokens.
    """

    SUMS = ("nats", "tokens")

    def __init__(self, name: str = "perplexity", dtype: Any = None):
        super().__init__(name, dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self._add(token_nats(y_true, y_pred), sample_weight)

    def result(self) -> Any:
        return ops.exp(super().result())
