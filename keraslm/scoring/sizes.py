"""How large every value of a graph becomes, found before it is run: no file may ask for more memory than ours do.

A few small nodes can ask for terabytes: `Expand` by a giant constant, an outer product, forty times a `Concat` of a
value with itself. So the shapes of all values are computed for some numbers of rows and steps, as onnxruntime will, and
each must be about as small as ours: no larger than the weights, or than the longest axis of a weight for each token.

Letters: `N` rows, `T` steps, `K` known targets, `L` layers, `H` units, `V` vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

from numpy.typing import NDArray

from keraslm.scoring import contract, shapes
from keraslm.scoring.onnx_messages import Graph, Node
from keraslm.scoring.values import ABSENT, MisfitError, Value, of

PROBES = ((1, 1, 0), (1, 1, 1), (2, 5, 3), (64, 1024, 0), (64, 1024, 1024))  # N, T, K; the last two: our largest calls


class Refuse(Protocol):
    """Raises the error of a file, for what was found."""

    def __call__(self, found: str) -> NoReturn: ...


def check(graph: Graph, tensors: Mapping[str, NDArray[Any]], refuse: Refuse) -> None:
    """Compute every shape for each of `PROBES`.

    Args:
        graph: with the inputs and outputs of the contract.
        tensors: the initializers by name; none is empty.
        refuse: for a value that is too large, shapes that do not go together, or outputs that are not the contract's.
    """
    weights = sum(tensor.size for tensor in tensors.values())
    longest = max((size for tensor in tensors.values() for size in tensor.shape), default=1)
    constants = {name: of(tensor) for name, tensor in tensors.items()}
    declared = {value.name: value.dims or [] for value in (*graph.input, *graph.output)}
    for rows, steps, known in PROBES:
        axes = {contract.BATCH: rows, contract.TIME: steps, contract.KNOWN: known, contract.UNKNOWN: steps - known}
        limit = 2 * weights + 2 * rows * (steps + known) * longest
        expected = {name: _sized(name, dims, axes, refuse) for name, dims in declared.items()}
        values = constants | {name: Value(expected[name]) for name in contract.INPUTS}
        if any(values[name].count > limit for name in contract.INPUTS):
            refuse(f"a state of shape {expected[contract.H0]} for {weights} weights")
        _walk(graph.node, values, limit, refuse)
        for name in contract.OUTPUTS:
            if name not in values or values[name].shape != expected[name]:
                found = values[name].shape if name in values else "nothing"
                refuse(f"{name} is {found} where {expected[name]} is due")


def _sized(name: str, dims: list[int | str], axes: Mapping[str, int], refuse: Refuse) -> tuple[int, ...]:
    sizes = tuple(axes.get(dim, 0) if isinstance(dim, str) else dim for dim in dims)
    if any(isinstance(dim, str) and dim not in axes for dim in dims) or any(size < 0 for size in sizes):
        refuse(f"{name} of shape {dims}")
    return sizes


def _walk(nodes: list[Node], values: dict[str, Value], limit: int, refuse: Refuse) -> None:
    for node in nodes:
        for name in node.input:
            if name and name not in values:
                refuse(f"{node.op_type} reads {name[:80]!r}, which nothing before it gives")
        try:
            found = shapes.results(node, [values[name] if name else ABSENT for name in node.input])
        except MisfitError as misfit:
            refuse(f"{node.op_type} {node.name[:80]!r}: {str(misfit)[:200]}")
        if not 1 <= len(node.output) <= len(found):
            refuse(f"{node.op_type} {node.name[:80]!r} with {len(node.output)} outputs")
        for name, value in zip(node.output, found, strict=False):
            if value.count > limit:
                refuse(f"{node.op_type} {node.name[:80]!r} makes a value of shape {value.shape}, more than any of ours")
            if name in values:
                refuse(f"the value {name[:80]!r} is given twice")
            if name:
                values[name] = value
