"""Initial weights and seeds that follow from the seed of a run and a name, the same on every backend."""

from __future__ import annotations

import zlib
from typing import Any

import keras
import numpy as np


@keras.saving.register_keras_serializable(package="keraslm")
class SeededUniform(keras.initializers.Initializer):
    """Uniform in [-scale, scale], drawn by NumPy, so that one seed gives the same weights on every backend.

    Args:
        scale: bound of the interval.
        seed: of the run.
        name: of the weight; two names give independent draws.

    Example:
        >>> SeededUniform(0.1, seed=0, name="lstm_0/kernel")((2, 3)).shape
        (2, 3)
    """

    def __init__(self, scale: float, seed: int, name: str):
        self.scale, self.seed, self.name = scale, seed, name

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        generator = np.random.default_rng([self.seed, zlib.crc32(self.name.encode())])
        values = generator.uniform(-self.scale, self.scale, shape).astype(np.float32)
        return keras.ops.convert_to_tensor(values, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        return {"scale": self.scale, "seed": self.seed, "name": self.name}


def seed_of(seed: int, name: str) -> int:
    """The seed of a layer's own draws, such as dropout masks, from that of the run.

    Example:
        >>> seed_of(0, "lstm_0") == seed_of(0, "lstm_1")
        False
    """
    return zlib.crc32(f"{seed}/{name}".encode()) & 0x7FFFFFFF
