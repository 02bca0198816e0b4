"""keraslm_onnx: model files of keraslm. Write one (`export`), open one and score or generate text.

    import keraslm_onnx

    scorer = keraslm_onnx.load("model.onnx")
    print(scorer.score("a sentence"), scorer.perplexity(["two", "sentences"]))

Reading and scoring need NumPy, onnxruntime and tokenizers; only `export` needs Keras and TensorFlow, in a process of
its own. Names are resolved when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOMES = {
    "Ensemble": "keraslm_onnx.ensemble",
    "LineScore": "keraslm_onnx.measures",
    "ModelInfo": "keraslm_onnx.contract",
    "ModelSession": "keraslm_onnx.session",
    "Sampling": "keraslm_onnx.sampler",
    "ScoreOptions": "keraslm_onnx.report.options",
    "Scorer": "keraslm_onnx.scorer",
    "State": "keraslm_onnx.state",
    "Summary": "keraslm_onnx.report.summary",
    "export": "keraslm_onnx.convert",
    "generate": "keraslm_onnx.sampler",
    "load": "keraslm_onnx.scorer",
    "summarize": "keraslm_onnx.report.summary",
    "write_scores": "keraslm_onnx.report.writer",
    "score_files": "keraslm_onnx.bulk.driver",
    "score_sets": "keraslm_onnx.prefixes",
}

__all__ = [*_HOMES]

if TYPE_CHECKING:
    from keraslm_onnx.bulk.driver import score_files as score_files
    from keraslm_onnx.contract import ModelInfo as ModelInfo
    from keraslm_onnx.convert import export as export
    from keraslm_onnx.ensemble import Ensemble as Ensemble
    from keraslm_onnx.measures import LineScore as LineScore
    from keraslm_onnx.prefixes import score_sets as score_sets
    from keraslm_onnx.report.options import ScoreOptions as ScoreOptions
    from keraslm_onnx.report.summary import Summary as Summary
    from keraslm_onnx.report.summary import summarize as summarize
    from keraslm_onnx.report.writer import write_scores as write_scores
    from keraslm_onnx.sampler import Sampling as Sampling
    from keraslm_onnx.sampler import generate as generate
    from keraslm_onnx.scorer import Scorer as Scorer
    from keraslm_onnx.scorer import load as load
    from keraslm_onnx.session import ModelSession as ModelSession
    from keraslm_onnx.state import State as State


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'keraslm_onnx' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
