"""Dropout, and the masks of all kinds of dropout: 0, or one over the share that is kept, for each element.

On a CPU, torch's own masks take 6 % of a training step of Zaremba's medium model; the masks made here take 1 %. They
use sixteen random bits per element, which round the share that is kept to a multiple of 2**-16. Rates near 0 and 1 use
torch's own masks.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keraslm import replicas

EXTREME = 2**-8  # from here to 1 - EXTREME, sixteen bits round rates by at most 0.2 %


@keras.saving.register_keras_serializable(package="keraslm")
class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout` with cheap masks on torch's CPU.

    Args:
        rate: share of the elements to drop, 0 <= rate < 1.
        locked: use the same mask for all steps of a call, `(B, 1, D)` for inputs `(B, T, D)`.

    Example:
        >>> Dropout(0.5, locked=True)(ops.ones((1, 3, 2)), training=True)[0]     # for example
        [[2, 0], [2, 0], [2, 0]]

    Reference: for locked masks, Gal and Ghahramani 2016, arXiv:1512.05287, section 4, and Merity, Keskar and Socher
    2018, arXiv:1708.02182, section 4.2.
    """

    def __init__(self, rate: float, locked: bool = False, **kwargs: Any):
        super().__init__(rate, noise_shape=(None, 1, None) if locked else None, **kwargs)
        self.locked = locked

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or self.rate == 0.0 or not _needs_own_mask(inputs):
            return super().call(inputs, training=training)
        return inputs * mask_like(inputs[:, :1] if self.locked else inputs, self.rate, self.seed_generator)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["noise_shape"]
        return {**config, "locked": self.locked}


class _Drawn(keras.random.SeedGenerator):
    """A seed that was drawn from a generator, for a function of Keras that draws from one."""

    def __init__(self, seed: Any):
        self._seed = seed

    def next(self, ordered: bool = True) -> Any:
        return self._seed


def mask_like(x: Any, rate: float, generator: keras.random.SeedGenerator, of_weights: bool = False) -> Any:
    """Draw a mask with the shape and type of `x`, and on torch its memory layout.

    The masks of weights are the same in all replicas. Those of activations differ, because each has its own rows.
    """
    if replicas.several() and not of_weights:
        generator = _Drawn(_of_replica(generator.next()))
    if not _on_torch_cpu(x) or min(rate, 1.0 - rate) < EXTREME:
        # Random numbers of 16 bits would round the rate: on TensorFlow, 0.1 would be 0.1016.
        ones = ops.ones_like(x, dtype="float32") if _has_16_bits(x) else ops.ones_like(x)
        return ops.cast(keras.random.dropout(ones, rate, seed=generator), x.dtype)
    import torch

    kept = round((1.0 - rate) * 2**16)  # of 2**16 values
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64)
    seed, number = (int(word) for word in ops.convert_to_numpy(generator.next()))  # of the layer and of the mask
    own = torch.Generator().manual_seed((seed + 0x9E3779B9 * number) % 2**32)  # torch uses 32 bits
    bits = words.random_(-(2**63), None, generator=own).view(torch.int16)[: x.numel()]  # from -2**15
    mask = torch.empty_like(x, requires_grad=False)
    mask.as_strided((x.numel(),), (1,)).copy_(bits < kept - 2**15).mul_(2**16 / kept)
    return mask


def _of_replica(seed: Any) -> Any:
    """A seed of Keras, `(2,)`, changed by the number of this replica; that of replica 0 stays."""
    return seed + ops.cast(ops.stack([replicas.index() * 1_000_003, 0]), seed.dtype)


def _needs_own_mask(x: Any) -> bool:
    return _on_torch_cpu(x) or _has_16_bits(x) or replicas.several()


def _has_16_bits(x: Any) -> bool:
    return keras.backend.standardize_dtype(x.dtype) in ("bfloat16", "float16")


def _on_torch_cpu(x: Any) -> bool:
    return keras.backend.backend() == "torch" and x.device.type == "cpu"
