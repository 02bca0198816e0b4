"""What the optimizers share: the gradient's norm and its clipping, the rate of a step, decay, averages of the weights.

The norm is kept, with the number of steps until it ceased to be finite: what a training that diverged is asked for.
"""

from __future__ import annotations

import importlib
import math
from types import ModuleType
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

NEVER = 2**31 - 1  # a number of steps that no training reaches


class AdamWStep(NamedTuple):
    """What a step of `ClippedAdamW` is told beside weights, gradients and moments.

    Attributes:
        rate: of this step.
        factor: of the clipping.
        decay: share of every weight that is taken off, times the rate.
        number: of the step, from 1; float32.
        betas: decays of the mean of gradients and of their squares.
        epsilon: added to the root of the latter.
    """

    rate: Any
    factor: Any
    decay: float
    number: Any
    betas: tuple[float, float]
    epsilon: float


class ClippedOptimizer(keras.optimizers.Optimizer):
    """An optimizer whose gradient is clipped by its global norm; the rule of the update is a subclass's.

    Variables follow the step on the device, so that nobody has to look at each one:

        finite_steps     steps before the first gradient whose norm is NaN or infinite; equals `iterations` until then
        gradient_norm    norm of the last gradient that was counted, before clipping
        mean_norm        mean of these norms since the epoch began
        epoch_start      steps before the epoch; whoever knows epochs assigns it
        window_factors   with `windows`: factor on the learning rate at each window of an epoch
        averages_from    with `averaging`: steps before the first whose weights are averaged; `NEVER` at first
        <weight>_average with `averaging`: the mean of a weight after each of these steps

    The rate of a step is `learning_rate * window_factors[iterations % windows]`. It is a table because variables can
    only be assigned between the epochs of a training on JAX, where they have no values within one.

    Args:
        learning_rate: step size, or a schedule.
        clip_norm: largest global norm of the gradient; None means no clipping.
        weight_decay: share of every weight that is taken off at a step, times the rate of the step; neither in the
            gradient's norm nor clipped (Loshchilov and Hutter 2019, "decoupled").
        windows: length of `window_factors`; None means no table.
        averaging: keep the averages of the weights, one more pass over them a step.

    Attributes:
        takes_sparse_gradients: whether a gradient may be the list of a table's rows that a window has looked up.

    References: Pascanu, Mikolov and Bengio 2013 for the clipping; Polyak and Juditsky 1992 for the averages.
    """

    takes_sparse_gradients = False

    def __init__(
        self,
        learning_rate: Any,
        clip_norm: float | None = None,
        weight_decay: float = 0.0,
        windows: int | None = None,
        averaging: bool = False,
        name: str = "optimizer",
    ):
        super().__init__(learning_rate=learning_rate, name=name)
        self.clip_norm, self.decay = clip_norm, weight_decay
        self.windows, self.averaging = windows, averaging
        self.finite_steps = self._scalar("finite_steps", "int")
        self.gradient_norm = self._scalar("gradient_norm")
        self.mean_norm = self._scalar("mean_norm")
        self.epoch_start = self._scalar("epoch_start", "int")
        self.window_factors = None
        if windows:
            self.window_factors = self.add_variable((windows,), "ones", "float32", name="window_factors")
        if averaging:
            self.averages_from = self._scalar("averages_from", "int")
            self.averages_from.assign(NEVER)
        self.averages: list[keras.Variable] = []

    def _scalar(self, name: str, dtype: str = "float32") -> keras.Variable:
        return self.add_variable((), dtype=dtype, aggregation="only_first_replica", name=name)

    def build(self, variables: list[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        if self.averaging:
            self.averages = [self.add_variable_from_reference(v, name="average") for v in variables]

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Update variables by their gradients, in the order in which the optimizer was built."""
        if not self.built:
            self.build(list(trainable_variables))
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        pairs = [(v, g) for v, g in zip(variables, grads, strict=True) if g is not None]
        updates = _updates()
        gradients, norm = updates.with_norm([g for _, g in pairs])
        self._follow(norm)
        rate, factor = self._rate(), _clip_factor(norm, self.clip_norm)
        self._update(updates, [v for v, _ in pairs], gradients, rate, factor)
        if self.averages:
            updates.average(self.averages, self._trainable_variables, self._averaging_share())
        self.iterations.assign_add(1)

    def _update(self, updates: ModuleType, variables: list[Any], gradients: list[Any], rate: Any, factor: Any) -> None:
        """Change the variables.

        Args:
            updates: the module of this backend.
            variables: the weights.
            gradients: theirs, as `with_norm` gives them.
            rate: of this step.
            factor: of the clipping.
        """
        raise NotImplementedError

    def _rate(self) -> Any:
        if self.window_factors is None:
            return self.learning_rate
        factor = ops.take(self.window_factors.value, self.iterations.value % self.windows)
        return ops.convert_to_tensor(self.learning_rate) * factor

    def _follow(self, norm: Any) -> None:
        """Count a step and keep its norm, unless it or one before it is not finite."""
        steps, kept, mean = self.finite_steps.value, self.gradient_norm.value, self.mean_norm.value
        counts = ops.isfinite(norm) & (steps == self.iterations.value)
        number = ops.cast(self.iterations.value + 1 - self.epoch_start.value, "float32")  # of the epoch, from 1
        self.finite_steps.assign(steps + ops.cast(counts, steps.dtype))
        self.gradient_norm.assign(ops.where(counts, norm, kept))
        self.mean_norm.assign(ops.where(counts, mean + (norm - mean) / number, mean))

    def _averaging_share(self) -> Any:
        """What the newest weights are of their mean: one over their number; 1 before there is anything to average."""
        number = ops.maximum(self.iterations.value + 1 - self.averages_from.value, 1)
        return 1.0 / ops.cast(number, "float32")

    def averaged(self) -> dict[str, NDArray[Any]]:
        """The average of every weight, by the weight's path; empty before anything was averaged.

        On JAX with the variables synchronised.
        """
        if not self.averages or int(self.iterations) <= int(self.averages_from):
            return {}
        pairs = zip(self._trainable_variables, self.averages, strict=True)
        return {weight.path: np.array(ops.convert_to_numpy(average)) for weight, average in pairs}

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {
            "name": config["name"],
            "learning_rate": config["learning_rate"],
            "clip_norm": self.clip_norm,
            "weight_decay": self.decay,
            "windows": self.windows,
            "averaging": self.averaging,
        }


def _updates() -> ModuleType:
    """How this backend changes weights."""
    return importlib.import_module(f"keraslm.optimizers.updates_{keras.backend.backend()}")


def _clip_factor(norm: Any, clip_norm: float | None) -> Any:
    """min(1, clip_norm / norm); NaN for a norm that is not finite, so that a diverged training shows."""
    if clip_norm is None or math.isinf(clip_norm):
        return 1.0
    return clip_norm / ops.maximum(norm, clip_norm) + (norm - norm)
