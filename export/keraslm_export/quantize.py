"""The writer of graphs with 8-bit weights. onnxruntime computes the large products in integers.

Weights become int8, symmetric, with one scale per column:

    LSTM      -> DynamicQuantizeLSTM: onnxruntime computes the scale of inputs and states in each call, for the complete
                 batch, so a score depends on the other lines of its batch. GRU and RNN layers have no such node.
    MatMul    -> QuantizeLinear + MatMulIntegerToFloat, if the left side has a bound, so that its scale is the same for
                 any batch: 1 for the states of a layer and of an expert, the number of layers with skip connections.
                 DynamicQuantizeMatMul in the tails of an adaptive softmax, whose left side has no bound.
    Gather    -> each row of the embedding is int8 and has one scale.

Weights are scaled to +-63, not +-127: on x86 processors without VNNI (before Ice Lake and Zen 4), onnxruntime adds
pairs of products in 16 bits, which 8-bit weights overflow silently.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from keraslm.config import ModelConfig
from keraslm_export.graph import TABLE, Arrays, Before, Matrix, Writer

DOMAIN = "com.microsoft"
LARGEST = 63  # absolute value of a weight


class Int8Writer(Writer):
    domains = Writer.domains | {DOMAIN: 1}

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.biases: dict[str, str] = {}  # constant with the bias, by the name of its matrix
        self.bound = len(config.sizes) if config.skip_connections else 1  # of the hidden states
        self.of_latents = {"kernel"} if config.softmax == "mixture" else set()  # matrices of the states of experts

    def lookup(self, table: NDArray[np.float32], ids: str) -> str:
        values, scales = quantized(table, axis=1)
        rows = self.node("Gather", [self.constant(f"{TABLE}_int8", values), ids], "embedded_int8")
        factors = self.node("Gather", [self.constant(f"{TABLE}_scale", scales), ids], "embedded_scale")
        floats = self.node("Cast", [rows], "embedded_float", to=TensorProto.FLOAT)
        return self.node("Mul", [floats, factors], "embedded")

    def layer(self, kind: str, x: str, arrays: Arrays, before: Before, *outputs: str, **attributes: Any) -> None:
        # The node expects the transposes, (1, inputs, 4H), and their scales as (1, 4H).
        w, r = (
            self._weights(f"{outputs[0]}_{name}", array.transpose(0, 2, 1), axis=1)
            for name, array in zip("wr", arrays[:2], strict=True)
        )
        bias, state = self.constant(f"{outputs[0]}_b", arrays[2]), before.state or ("", "")
        inputs = [x, w[0], r[0], bias, before.lengths, *state, "", *w[1:], *r[1:]]
        self.node(f"DynamicQuantize{kind}", inputs, *outputs, domain=DOMAIN, **attributes)

    def matrix(self, name: str, matrix: Matrix, tied: bool) -> None:
        self._weights(name, matrix.kernel, axis=0)
        if tied:  # the integers of the table are the same
            del self.constants[f"{name}_int8"]
            self.node("Transpose", [f"{TABLE}_int8"], f"{name}_int8", perm=[1, 0])
        self.biases[name] = "" if matrix.bias is None else self.constant(f"{name}_bias", matrix.bias)

    def softmax(self, nodes: Sequence[NodeProto], constants: Sequence[TensorProto]) -> None:
        super().softmax([], constants)
        self.constant("hidden_scale", np.float32(self.bound / 127))
        self.constant("latent_scale", np.float32(1 / 127))
        self.constant("hidden_zero", np.uint8(128))
        unpadded: dict[str, str] = {}  # here the bias is an input of the product, not a row of the matrix
        for node in nodes:
            if node.op_type == "Pad":
                unpadded[node.output[0]] = node.input[0]
            elif node.op_type == "MatMul":
                left, name = node.input
                self._product(unpadded.get(left, left), name, node.output[0])
            else:
                self.nodes.append(node)

    def _product(self, left: str, name: str, output: str) -> None:
        values, scale, zero = (f"{name}_{part}" for part in ("int8", "scale", "zero"))
        if name.startswith("tail_") and name.endswith("_kernel"):
            self.node("DynamicQuantizeMatMul", [left, values, scale, zero, self.biases[name]], output, domain=DOMAIN)
            return
        of_left = "latent_scale" if name in self.of_latents else "hidden_scale"
        integers = self.node("QuantizeLinear", [left, of_left, "hidden_zero"], f"{output}_input")
        inputs = [integers, values, of_left, scale, "hidden_zero", zero, self.biases[name]]
        self.node("MatMulIntegerToFloat", inputs, output, domain=DOMAIN)

    def _weights(self, name: str, weight: NDArray[np.float32], axis: int) -> list[str]:
        """Add a weight's integers, scales and zero points; returns their names."""
        values, scales = quantized(weight, axis)
        scales = scales.squeeze(axis)
        parts = {"int8": values, "scale": scales, "zero": np.zeros(scales.shape, np.int8)}
        return [self.constant(f"{name}_{part}", value) for part, value in parts.items()]


def quantized(weight: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """The nearest integers from -63 to 63, and the scales that turn them back into weights, of size 1 on `axis`."""
    scales = np.abs(weight).max(axis=axis, keepdims=True) / np.float32(LARGEST)
    scales = np.where(scales > 0, scales, np.float32(1)).astype(np.float32)
    return np.rint(weight / scales).astype(np.int8), scales
