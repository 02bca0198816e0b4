"""The softmax of a network, written in TensorFlow and converted by tf2onnx.

The matrices are inputs of the converted graph. A bias is the last row of its matrix, and the other factor ends in a
column of ones: a separate addition would write all logits a second time.

Shapes: `N` rows, `T` steps, `K` known targets, `H` units, `V` vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import pairwise
from typing import Any

import tensorflow as tf
import tf2onnx
from onnx import NodeProto, TensorProto

from keraslm.config import ModelConfig
from keraslm.scoring import contract
from keraslm_export.graph import Matrix

# Added to logarithms of probabilities before they are summed, so that probabilities down to e^-107 do not underflow.
# A larger value costs precision; subtracting the maximum over the experts, the usual way, takes four times as long.
_SHIFT = 20.0
_SMALLEST = 1.2e-38  # the smallest sum whose logarithm has full precision

Product = Callable[[Any, str], Any]  # of a tensor (..., rows) and the matrix of a name


def convert_softmax(
    config: ModelConfig, vocab_size: int, matrices: Mapping[str, Matrix]
) -> tuple[list[NodeProto], list[TensorProto]]:
    """Convert the softmax of a network to ONNX nodes and their constants; two conversions return equal ones.

    The nodes compute the contract's `log_probs` and `target_log_probs` from `hidden`, `targets` and the matrices.
    """

    def outputs(hidden: Any, targets: Any, *values: Any) -> dict[str, Any]:
        values_of = dict(zip(matrices, values, strict=True))

        def product(x: Any, name: str) -> Any:
            if matrices[name].bias is not None:
                x = tf.pad(x, [[0, 0]] * (x.shape.rank - 1) + [[0, 1]], constant_values=1.0)
            return tf.matmul(x, values_of[name])

        if config.softmax == "adaptive":
            found = _adaptive(hidden, targets, product, (*(config.cutoffs or ()), vocab_size))
        elif config.softmax == "mixture":
            found = _mixture(hidden, targets, product, config.num_experts, config.embedding_size)
        else:
            found = _full(hidden, targets, product)
        return dict(zip((contract.LOG_PROBS, contract.TARGET_LOG_PROBS), found, strict=True))

    signature = [
        tf.TensorSpec((None, None, config.sizes[-1]), tf.float32, contract.HIDDEN),
        tf.TensorSpec((None, None), tf.int64, contract.TARGETS),
        *(tf.TensorSpec(matrix.joint.shape, tf.float32, name) for name, matrix in matrices.items()),
    ]
    proto, _ = tf2onnx.convert.from_function(
        tf.function(outputs, input_signature=signature),
        signature,
        opset=contract.OPSET,
        custom_op_handlers={"GatherV2": (_to_gather_elements, [])},
    )
    return _in_order(proto.graph)


def _full(hidden: Any, targets: Any, product: Product) -> tuple[Any, Any]:
    log_probs = tf.nn.log_softmax(product(hidden, "kernel"))  # (N, T, V)
    return log_probs[:, tf.shape(targets)[1] :], _pick(log_probs, targets)


def _adaptive(hidden: Any, targets: Any, product: Product, ends: Sequence[int]) -> tuple[Any, Any]:
    """Distributions from the head and all clusters; each target from the head and its own cluster alone.

    A cluster without targets has zero rows. (A `Reshape` would fail: a 0 in its shape means "as in the input".)
    """
    known, first = tf.shape(targets)[1], ends[0]

    def tail(cluster: int, x: Any) -> Any:
        return tf.nn.log_softmax(product(product(x, f"tail_{cluster}_projection"), f"tail_{cluster}_kernel"))

    rest = hidden[:, known:]
    head = tf.nn.log_softmax(product(rest, "head_kernel"))
    parts = [head[..., :first]]
    hidden, in_head, of_targets = hidden[:, :known], targets, []
    for cluster, (start, end) in enumerate(pairwise(ends)):
        entry = first + cluster
        parts.append(head[..., entry : entry + 1] + tail(cluster, rest))
        inside = tf.logical_and(targets >= start, targets < end)
        places = tf.where(inside)  # (n, 2)
        picked = _pick(tail(cluster, tf.gather_nd(hidden, places)), tf.gather_nd(targets, places) - start)
        of_targets.append(tf.scatter_nd(places, picked, tf.shape(targets, out_type=tf.int64)))
        in_head = tf.where(inside, tf.constant(entry, targets.dtype), in_head)
    of_targets.append(_pick(tf.nn.log_softmax(product(hidden, "head_kernel")), in_head))
    return tf.concat(parts, -1), tf.add_n(of_targets)


def _mixture(hidden: Any, targets: Any, product: Product, experts: int, size: int) -> tuple[Any, Any]:
    """One expert after the other, so that no value has more than V numbers per token."""

    def of_experts(hidden: Any) -> Iterator[tuple[Any, Any]]:
        """For each expert the logarithm of its prior, shifted, `(N, T, 1)`, and its log-probabilities, `(N, T, V)`."""
        log_priors = tf.nn.log_softmax(product(hidden, "prior_kernel")) + _SHIFT  # (N, T, experts)
        latents = tf.tanh(product(hidden, "latent_kernel"))  # (N, T, experts * size)
        for k in range(experts):
            latent = latents[..., k * size : (k + 1) * size]
            yield log_priors[..., k : k + 1], tf.nn.log_softmax(product(latent, "kernel"))

    known = tf.shape(targets)[1]
    distributions = [log_prior + log_probs for log_prior, log_probs in of_experts(hidden[:, known:])]
    of_targets = [
        log_prior[..., 0] + _pick(log_probs, targets) for log_prior, log_probs in of_experts(hidden[:, :known])
    ]
    return _mixed(distributions), _mixed(of_targets)


def _mixed(parts: Iterable[Any]) -> Any:
    """Logarithm of the sum of probabilities, given their shifted logarithms."""
    # onnxruntime computes the last input of a node first. In the other order, all experts would be in memory together.
    total = reduce(lambda total, part: part + total, map(tf.exp, parts))
    return tf.math.log(tf.maximum(total, _SMALLEST)) - _SHIFT


def _pick(log_probs: Any, ids: Any) -> Any:
    """The number at each id on the last axis; the ids of a text may end before its steps do."""
    axis = log_probs.shape.rank - 1
    return tf.squeeze(tf.gather(log_probs, tf.expand_dims(ids, -1), axis=axis, batch_dims=axis), [-1])


def _to_gather_elements(graph: Any, node: Any, name: str, _: Any) -> None:
    """Convert the `tf.gather` of `_pick`, for which tf2onnx would write a dozen nodes."""
    node.type = "GatherElements"
    node.set_attr("axis", node.inputs[2].get_tensor_value())
    del node.attr["batch_dims"]
    graph.remove_input(node, node.input[2], 2)


def _in_order(graph: Any) -> tuple[list[NodeProto], list[TensorProto]]:
    """The nodes of a graph in the order in which its outputs need them, and its constants in the order of their use.

    TensorFlow and tf2onnx change the order and the names of similar nodes from process to process.
    """
    source = {name: node for node in graph.node for name in node.output}
    ordered: dict[str, NodeProto] = {}  # by first output
    waiting = [source[name] for name in (contract.TARGET_LOG_PROBS, contract.LOG_PROBS)]
    while waiting:
        needed = [source[name] for name in waiting[-1].input if name in source]
        missing = [node for node in needed if node.output[0] not in ordered]
        waiting.extend(reversed(missing))
        if not missing:
            node = waiting.pop()
            ordered.setdefault(node.output[0], node)
    nodes = list(ordered.values())
    names = {"": ""} | {value.name: value.name for value in (*graph.input, *graph.output)}
    for node in nodes:
        for name in (*node.input, *node.output):
            names.setdefault(name, f"softmax_{len(names)}")
        node.name = ""
        node.input[:], node.output[:] = ([names[name] for name in part] for part in (node.input, node.output))
    constants = {tensor.name: tensor for tensor in graph.initializer}
    used = [constants[name] for name in names if name in constants]
    for tensor in used:
        tensor.name = names[tensor.name]
    return nodes, used
