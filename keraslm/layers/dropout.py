"""Dropout with masks that cost little on torch."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="keraslm")
class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout`, with masks made from 16 random bits an element on torch's CPU.

    torch draws one Bernoulli variable after the other, 10 ns each: the three masks of Zaremba's medium model then take
    6 % of a training step, here 1 %. 16 bits round the share of kept elements to a multiple of 2**-16, and the scale is
    one over that share, so that the expectation is exact.
    """

    def call(self, inputs: Any, training: bool = False) -> Any:
        on_cpu = keras.backend.backend() == "torch" and inputs.device.type == "cpu"
        if not training or self.rate == 0.0 or not on_cpu:
            return super().call(inputs, training=training)
        return inputs * self._mask(inputs)

    def _mask(self, inputs: Any) -> Any:
        """0 or one over the share that is kept, for each element, in the memory layout of `inputs`."""
        import torch

        kept = max(1, round((1.0 - self.rate) * 2**16))
        words = torch.empty((inputs.numel() + 3) // 4, dtype=torch.int64)
        words.random_(-(2**63), None, generator=torch.Generator().manual_seed(self._next_seed()))
        bits = words.view(torch.int16)[: inputs.numel()]  # from -2**15
        mask = torch.empty_like(inputs)
        mask.as_strided((inputs.numel(),), (1,)).copy_(bits < kept - 2**15).mul_(2**16 / kept)
        return mask

    def _next_seed(self) -> int:
        """32 bits, all that torch's generator takes, from the layer's seed and the number of masks before."""
        seed, number = (int(word) for word in keras.ops.convert_to_numpy(self.seed_generator.next()))
        return (seed + 0x9E3779B9 * number) % 2**32
