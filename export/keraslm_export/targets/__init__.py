"""One file per target of `keraslm export`: its contract, its requirements, its graph and its comparison with Keras.

A trained run comes in; a verified file, or several that belong together, goes out. The module of a target is a
`TargetModule`; one whose target is an ONNX graph is a `GraphTarget` too, and leaves the writing to
`keraslm_export.convert.write_graph`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from keraslm.config import StrPath
from keraslm.runs.run import Run
from keraslm_export import verify

if TYPE_CHECKING:
    from onnx import ModelProto

    from keraslm_export.graph import Softmax, Writer


@dataclass(frozen=True)
class ExportReport(verify.Verification):
    """A written model file and the results of its verification.

    Attributes:
        path: of the file.
        bytes: its size.
        recurrent_nodes: number of its `LSTM`, `GRU`, `RNN` or `Scan` nodes, one per layer.
        int8: comparison of 8-bit weights with float32; None for a float32 file.
        target: the program that it is for; see `docs/how-to/targets.md`.
        others: paths of the files written beside it.
    """

    path: Path = Path()
    bytes: int = 0
    recurrent_nodes: int = 0
    int8: verify.Int8Comparison | None = None
    target: str = "onnx"
    others: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Options:
    """The arguments of `keraslm.export` with the same names."""

    int8: bool = False
    text: StrPath | None = None
    tolerance: float = verify.INT8_TOLERANCE


class TargetModule(Protocol):
    """What the module of a target has. `INT8` says whether it can have 8-bit weights."""

    INT8: bool

    def check(self, run: Run) -> None:
        """Raise a `UsageError` if the target cannot express the run."""

    def write(self, run: Run, path: Path, options: Options) -> ExportReport:
        """Write the file or folder `path`, which appears only after its verification; see `keraslm.export`."""


class GraphTarget(TargetModule, Protocol):
    """What the module of a target has that is one ONNX graph.

    `NAME` is that of the target.
    """

    NAME: str

    def names(self, run: Run) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the inputs and of the outputs."""

    def build(self, run: Run, softmax: Softmax, writer: Writer) -> ModelProto:
        """The graph, made with a new writer; called in a process with the TensorFlow backend."""

    def metadata(self, run: Run, precision: str) -> dict[str, str]:
        """The metadata of the file; `precision` is `"float32"` or `"int8"`."""

    def compare(self, run: Run, data: bytes) -> verify.Verification:
        """Compare the serialised graph with Keras; an `ExportError` if they differ."""

    def opened(self, run: Run, path: Path, lines: list[str]) -> verify.Opened:
        """Open a file to compute the perplexity of a text; only targets with 8-bit weights have it."""

    def companions(self, run: Run, path: Path) -> Mapping[Path, bytes]:
        """The files to write beside `path`."""


def module_of(target: str) -> Any:
    """The module of a target, imported when it is first used; a `TargetModule`."""
    return importlib.import_module(f"keraslm_export.targets.{target.replace('-', '_')}")


def graph_of(target: str) -> GraphTarget:
    return cast(GraphTarget, module_of(target))
