"""States that stay on a GPU: token ids go to the device, and only log-probabilities come back."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.scoring import contract
from keraslm.scoring.state import Floats, Layout, ModelState


class DeviceState(ModelState):
    """A state in the memory of a device: `OrtValue`s of h and c, which are copied to the host when first used."""

    def __init__(self, *values: Any):
        self.values = values

    @cached_property
    def h(self) -> Floats:  # type: ignore[override]
        return np.asarray(self.values[0].numpy())

    @cached_property
    def c(self) -> Floats:  # type: ignore[override]
        return np.asarray(self.values[1].numpy())

    @property
    def layout(self) -> tuple[Layout, Layout]:
        h, c = (tuple(map(int, value.shape())) for value in self.values)
        return ("float32", h), ("float32", c)

    def __reduce__(self) -> tuple[Any, ...]:
        return ModelState, (self.h, self.c)


def run_bound(
    session: Any, device: str, wanted: str, ids: NDArray[np.int64], targets: NDArray[np.int64], state: ModelState
) -> tuple[Floats, DeviceState]:
    """Run an `onnxruntime.InferenceSession` and keep the next state on a device, `"cuda"` or `"cpu"`.

    Args:
        wanted: name of the one output that is copied back.
        ids, targets: `(N, T)` and `(N, K)`.
        state: of N rows, on the device or not.
    """
    binding = session.io_binding()
    binding.bind_cpu_input(contract.INPUT_IDS, np.ascontiguousarray(ids))
    binding.bind_cpu_input(contract.TARGETS, np.ascontiguousarray(targets))
    if isinstance(state, DeviceState):
        for name, value in zip((contract.H0, contract.C0), state.values, strict=True):
            binding.bind_ortvalue_input(name, value)
    else:
        binding.bind_cpu_input(contract.H0, np.ascontiguousarray(state.h))
        binding.bind_cpu_input(contract.C0, np.ascontiguousarray(state.c))
    binding.bind_output(wanted, "cpu")
    for name in (contract.NEXT_H0, contract.NEXT_C0):
        binding.bind_output(name, device)
    session.run_with_iobinding(binding)
    found, *after = binding.get_outputs()
    return np.asarray(found.numpy()), DeviceState(*after)
