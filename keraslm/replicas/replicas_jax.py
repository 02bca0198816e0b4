"""Parts of a computation on JAX that each device makes from its own rows, as if it were alone.

The compiler divides everything else by itself. Loops over pieces of the tokens it would run on all devices alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import keras
from jax.sharding import PartitionSpec


def on_each_device(function: Callable[..., Any], rows_in: tuple[Any, ...], rows_out: Any, *arguments: Any) -> Any:
    """Call a function of arrays on each device of the current `keras.distribution`, with the rows of that device.

    Args:
        function: sums over rows that it makes in its backward pass are added up over devices.
        rows_in: the axis of the rows for each argument; None if every device needs all of it.
        rows_out: the axis of the rows of each result, in the structure of the results.
        *arguments: arrays, tuples of arrays, or None.
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        return function(*arguments)
    axis = distribution.batch_dim_name

    def spec(place: int | None) -> PartitionSpec:
        return PartitionSpec() if place is None else PartitionSpec(*[None] * place, axis)

    specs = tuple(map(spec, rows_in)), jax.tree.map(spec, rows_out)
    mesh = distribution.device_mesh.backend_mesh
    return jax.shard_map(function, mesh=mesh, in_specs=specs[0], out_specs=specs[1], check_vma=False)(*arguments)
