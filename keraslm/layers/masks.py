"""Masks of dropout: 0, or one over the share that is kept, element by element; cheap ones on torch's CPU.

torch draws one Bernoulli variable after the other, 10 ns each: the three masks of Zaremba's medium model then take 6 %
of a training step, here 1 %. Sixteen random bits an element round the share that is kept to a multiple of 2**-16, and
the scale is one over that share, so that the expectation is exact.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


def seed_generator(seed: int | None, *rates: float) -> keras.random.SeedGenerator | None:
    """The generator of a layer's masks; None where no rate asks for one.

    A seed generator is a variable, and an idle one makes runs differ for nothing.
    """
    return keras.random.SeedGenerator(seed) if any(rate > 0.0 for rate in rates) else None


def mask_like(x: Any, rate: float, generator: keras.random.SeedGenerator) -> Any:
    """A mask of the shape and type of `x`, on torch in its memory layout too; it is not differentiated.

    Args:
        x: a tensor whose values do not matter.
        rate: share that is dropped, 0 <= rate < 1.
        generator: of the seeds; each mask takes the next one.

    Example:
        >>> mask_like(ops.zeros((2, 3)), 0.5, keras.random.SeedGenerator(1))     # of 0 and 2
    """
    if on_torch_cpu(x):
        return _torch_mask(x, rate, generator)
    return keras.random.dropout(ops.ones_like(x), rate, seed=generator)


def recurrent_mask(h: Any, rate: float, generator: keras.random.SeedGenerator | None, training: bool) -> Any:
    """Recurrent dropout: one mask `(B, H)` for all steps of a window, for `h` `(B, H)`; None where nothing is dropped.

    Reference: Gal and Ghahramani 2016, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks",
    arXiv:1512.05287.
    """
    if not training or rate == 0.0 or generator is None:
        return None
    return mask_like(h, rate, generator)


def drop_connections(kernel: Any, rate: float, generator: keras.random.SeedGenerator | None, training: bool) -> Any:
    """DropConnect: the weights of a recurrent kernel, of any shape, times a mask that is drawn once a window.

    It is done before the recurrence, which runs as it does without: no implementation of it has to know.

    Reference: Wan, Zeiler, Zhang, LeCun and Fergus 2013, "Regularization of Neural Networks using DropConnect"; Merity,
    Keskar and Socher 2018, "Regularizing and Optimizing LSTM Language Models", arXiv:1708.02182, section 2.
    """
    if not training or rate == 0.0 or generator is None:
        return kernel
    kernel = ops.convert_to_tensor(kernel)
    return kernel * mask_like(kernel, rate, generator)


def on_torch_cpu(x: Any) -> bool:
    """Whether `x` is a tensor whose masks are made here and not by Keras."""
    return keras.backend.backend() == "torch" and x.device.type == "cpu"


def _torch_mask(x: Any, rate: float, generator: keras.random.SeedGenerator) -> Any:
    import torch

    kept = min(max(1, round((1.0 - rate) * 2**16)), 2**16 - 1)  # of the 2**16 words; the bound must fit one
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64)
    words.random_(-(2**63), None, generator=torch.Generator().manual_seed(_next_seed(generator)))
    bits = words.view(torch.int16)[: x.numel()]  # from -2**15
    mask = torch.empty_like(x, requires_grad=False)
    mask.as_strided((x.numel(),), (1,)).copy_(bits < kept - 2**15).mul_(2**16 / kept)
    return mask


def _next_seed(generator: keras.random.SeedGenerator) -> int:
    """32 bits, all that torch's generator takes, from the layer's seed and the number of masks before."""
    seed, number = (int(word) for word in ops.convert_to_numpy(generator.next()))
    return (seed + 0x9E3779B9 * number) % 2**32
