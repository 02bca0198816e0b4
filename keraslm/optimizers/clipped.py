"""The optimizers. `updates_jax`, `updates_tensorflow` and `updates_torch` hold the updates of the weights.

Keras' own optimizers make more passes over the weights, accept no sparse gradients on torch, cannot average weights
from a given step on, and do not keep the norm, which is needed to report a diverged training run.
"""

from __future__ import annotations

import importlib
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from keraslm import replicas
from keraslm.optimizers.sums import two_sum

NEVER = 2**31 - 1  # a number of steps that no training reaches


class ClippedOptimizer(keras.optimizers.Optimizer):
    """An optimizer whose gradient is clipped by its global norm; `rule` names a function of `updates_*`.

    These variables are updated on the device, so that no step has to wait for the host:

        finite_steps     steps before the first gradient whose norm is NaN or infinite; equals `iterations` until then
        gradient_norm    norm of the last of these gradients, before clipping
        mean_norm        mean of these norms since the epoch began; `mean_norm_low` holds the digits beyond float32
        epoch_start      number of steps before this epoch; a callback assigns it
        window_factors   with `windows`: factor on the learning rate for each window of an epoch
        averages_from    with `averaging`: number of steps before the first whose weights are averaged; `NEVER` at first
        <weight>_average with `averaging`: the mean of a weight after each of these steps
        <weight>_sum     with `accumulate`: sum of the gradients since the last step; `part` counts them

    The rate of a step is `learning_rate * window_factors[iterations % windows]`, from a table because on JAX variables
    can be assigned only between epochs.

    Args:
        learning_rate: step size, or a schedule.
        clip_norm: largest global norm of the gradient; None means no clipping.
        weight_decay: share of every weight that is subtracted per step, times the rate of the step; not clipped.
        windows: length of `window_factors`; None means no table.
        averaging: whether to average the weights.
        accumulate: number of gradients whose mean is the gradient of a step. All variables above change once per step.

    Attributes:
        takes_sparse_gradients: whether a gradient may list only the rows of a table that were looked up.

    References: for clipping, Pascanu, Mikolov and Bengio 2013; for averages, Polyak and Juditsky 1992.
    """

    takes_sparse_gradients = False
    rule = ""

    def __init__(
        self,
        learning_rate: Any = 1.0,
        clip_norm: float | None = None,
        weight_decay: float = 0.0,
        windows: int | None = None,
        averaging: bool = False,
        accumulate: int = 1,
        name: str | None = None,
    ):
        super().__init__(learning_rate=learning_rate, name=name)
        self.clip_norm, self.decay = clip_norm, weight_decay
        self.windows, self.averaging, self.accumulate = windows, averaging, accumulate
        self.finite_steps = self._scalar("finite_steps", "int")
        self.gradient_norm = self._scalar("gradient_norm")
        self.mean_norm = self._scalar("mean_norm")
        self.mean_norm_low = self._scalar("mean_norm_low")
        self.epoch_start = self._scalar("epoch_start", "int")
        self.window_factors = None
        if windows:
            self.window_factors = self.add_variable((windows,), "ones", "float32", name="window_factors")
        if averaging:
            self.averages_from = self._scalar("averages_from", "int")
            self.averages_from.assign(NEVER)
        self.averages: list[keras.Variable] = []
        self.sums: list[keras.Variable] = []
        self.part = self._scalar("part", "int") if accumulate > 1 else None

    def _scalar(self, name: str, dtype: str = "float32") -> keras.Variable:
        return self.add_variable((), dtype=dtype, aggregation="only_first_replica", name=name)

    def build(self, variables: list[keras.Variable]) -> None:
        if not self.built:
            super().build(variables)
            self.averages = self._for_each(variables, "average") if self.averaging else []
            self.sums = self._for_each(variables, "sum") if self.accumulate > 1 else []

    def _for_each(self, variables: list[keras.Variable], name: str) -> list[keras.Variable]:
        return [self.add_variable_from_reference(v, name=name) for v in variables]

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        if not self.built:
            self.build(list(trainable_variables))
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        pairs = [(v, g) for v, g in zip(variables, grads, strict=True) if g is not None]
        used, gradients = [v for v, _ in pairs], [g for _, g in pairs]
        if self.accumulate == 1:
            self.step(used, gradients)
        else:
            sums = [self.sums[self._get_variable_index(v)] for v in used]
            self._updates().accumulate(self, used, gradients, sums)

    def _updates(self) -> Any:
        return importlib.import_module(f"keraslm.optimizers.updates_{keras.backend.backend()}")

    def step(self, variables: list[keras.Variable], gradients: list[Any]) -> None:
        """Update variables by their gradients, which are averaged over the replicas before they are clipped."""
        updates = self._updates()
        gradients, norm = updates.with_norm(replicas.reduced(gradients))
        self._follow(norm)
        rate, factor = self.learning_rate, 1.0
        if self.window_factors is not None:
            window = self.iterations.value % self.windows
            rate = ops.convert_to_tensor(rate) * ops.take(self.window_factors.value, window)
        if self.clip_norm is not None:
            # NaN for a norm that is not finite, so that divergence is visible in the weights.
            factor = self.clip_norm / ops.maximum(norm, self.clip_norm) + (norm - norm)
        getattr(updates, self.rule)(self, variables, gradients, rate, factor)
        if self.averages:
            number = ops.maximum(self.iterations.value + 1 - self.averages_from.value, 1)  # 1 before the averaging
            updates.average(self.averages, self._trainable_variables, 1.0 / ops.cast(number, "float32"))
        self.iterations.assign_add(1)

    def _follow(self, norm: Any) -> None:
        """Count a step and keep its norm, unless this norm or an earlier one is not finite."""
        steps, kept = self.finite_steps.value, self.gradient_norm.value
        mean, low = self.mean_norm.value, self.mean_norm_low.value
        counts = ops.isfinite(norm) & (steps == self.iterations.value)
        number = ops.cast(self.iterations.value + 1 - self.epoch_start.value, "float32")  # of the epoch, from 1
        self.finite_steps.assign(steps + ops.cast(counts, steps.dtype))
        self.gradient_norm.assign(ops.where(counts, norm, kept))
        moved = two_sum(mean, low, ((norm - mean) - low) / number)
        for variable, new, old in zip((self.mean_norm, self.mean_norm_low), moved, (mean, low), strict=True):
            variable.assign(ops.where(counts, new, old))

    def value_of(self, name: str) -> Any:
        """The number in a scalar variable, such as `"iterations"`. On JAX, the variables must be synchronised."""
        return ops.convert_to_numpy(getattr(self, name)).item()

    def averaged(self) -> dict[str, NDArray[Any]]:
        """Return the average of every weight by its path; empty before anything was averaged.

        On JAX, the variables must be synchronised.
        """
        if not self.averages or self.value_of("iterations") <= self.value_of("averages_from"):
            return {}
        pairs = zip(self._trainable_variables, self.averages, strict=True)
        return {weight.path: np.array(ops.convert_to_numpy(average)) for weight, average in pairs}

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        own = {name: getattr(self, name) for name in ("clip_norm", "windows", "averaging", "accumulate")}
        return {"name": config["name"], "learning_rate": config["learning_rate"], "weight_decay": self.decay, **own}


@keras.saving.register_keras_serializable(package="keraslm")
class ClippedSGD(ClippedOptimizer):
    """SGD on the clipped gradient, as `keras.optimizers.SGD(learning_rate, global_clipnorm=clip_norm)`:

        w -= rate * (weight_decay * w + gradient * min(1, clip_norm / norm))

    Example:
        >>> model.compile(ClippedSGD(1.0, clip_norm=5.0), loss=SequenceLoss())
    """

    takes_sparse_gradients = True
    rule = "sgd"


@keras.saving.register_keras_serializable(package="keraslm")
class ClippedAdamW(ClippedOptimizer):
    """AdamW on the clipped gradient. At step t, with g the gradient times min(1, clip_norm / norm):

        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g ** 2
        w -= rate * (weight_decay * w + m / (1 - beta_1 ** t) / (sqrt(v / (1 - beta_2 ** t)) + 1e-8))

    References: Kingma and Ba 2015, Loshchilov and Hutter 2019.
    """

    rule = "adamw"
    epsilon = 1e-8  # Kingma and Ba 2015, algorithm 1

    def __init__(
        self, learning_rate: Any = 1e-3, *arguments: Any, beta_1: float = 0.9, beta_2: float = 0.999, **keywords: Any
    ):
        super().__init__(learning_rate, *arguments, **keywords)
        self.betas = beta_1, beta_2

    def build(self, variables: list[keras.Variable]) -> None:
        if not self.built:
            super().build(variables)
            self._moments = self._for_each(variables, "mean"), self._for_each(variables, "mean_square")

    def moments(self, variables: list[keras.Variable]) -> tuple[list[keras.Variable], ...]:
        """The variables m and v of each weight."""
        return tuple([own[self._get_variable_index(v)] for v in variables] for own in self._moments)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "beta_1": self.betas[0], "beta_2": self.betas[1]}
