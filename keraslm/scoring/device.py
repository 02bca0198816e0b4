"""States that stay where they were computed: on a GPU the state of one call is bound as the input of the next, so that
only token ids go to the device and only log-probabilities come back.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.scoring import contract
from keraslm.scoring.state import Floats, State


class DeviceState(State):
    """A state in the memory of a device; `h` and `c` are copied from there when somebody looks at them.

    Args:
        h, c: onnxruntime's `OrtValue`s of shape `(L, N, H)`.
    """

    def __init__(self, h: Any, c: Any):
        object.__setattr__(self, "values", (h, c))

    @cached_property
    def h(self) -> Floats:
        return np.asarray(self._values[0].numpy())

    @cached_property
    def c(self) -> Floats:
        return np.asarray(self._values[1].numpy())

    @property
    def _values(self) -> tuple[Any, Any]:
        return self.__dict__["values"]

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        h, c = (tuple(map(int, value.shape())) for value in self._values)
        return h, c

    @property
    def kinds(self) -> tuple[str, str]:
        return "float32", "float32"

    def bind(self, binding: Any) -> None:
        """Make this state the input of a call, without a copy."""
        for name, value in zip((contract.H0, contract.C0), self._values, strict=True):
            binding.bind_ortvalue_input(name, value)


def run_bound(
    session: Any, device: str, wanted: str, ids: NDArray[np.int64], targets: NDArray[np.int64], state: State
) -> tuple[Floats, DeviceState]:
    """Run a session with its state on a device.

    Args:
        session: an `onnxruntime.InferenceSession`.
        device: `"cuda"` or `"cpu"`.
        wanted: name of the one output that comes back.
        ids: `(N, T)`; targets: `(N, K)`.
        state: of N rows, on the device or not.

    Returns:
        the output, and the state after the last step, on the device.
    """
    binding = session.io_binding()
    binding.bind_cpu_input(contract.INPUT_IDS, np.ascontiguousarray(ids))
    binding.bind_cpu_input(contract.TARGETS, np.ascontiguousarray(targets))
    if isinstance(state, DeviceState):
        state.bind(binding)
    else:
        binding.bind_cpu_input(contract.H0, np.ascontiguousarray(state.h))
        binding.bind_cpu_input(contract.C0, np.ascontiguousarray(state.c))
    binding.bind_output(wanted, "cpu")
    for name in (contract.NEXT_H0, contract.NEXT_C0):
        binding.bind_output(name, device)
    session.run_with_iobinding(binding)
    found, h, c = binding.get_outputs()
    return np.asarray(found.numpy()), DeviceState(h, c)
