"""keraslm: LSTM language models on any Keras 3 backend.

    import keraslm

    run = keraslm.train(keraslm.preset("small"), train="train.txt", valid="valid.txt", backend="jax")
    print(keraslm.evaluate(run, "valid.txt").perplexity)
    keraslm.export(run, "model.onnx")
    print(keraslm.load("model.onnx").score("a sentence to score"))

`import keraslm` loads neither Keras nor a backend nor onnxruntime; each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Config": "keraslm.config",
    "DataConfig": "keraslm.config",
    "Ensemble": "keraslm.scoring.ensemble",
    "KeraslmError": "keraslm.errors",
    "LineScore": "keraslm.scoring.measures",
    "ModelConfig": "keraslm.config",
    "ModelInfo": "keraslm.scoring.contract",
    "ModelSession": "keraslm.scoring.session",
    "PRESETS": "keraslm.config.presets",
    "Run": "keraslm.runs.run",
    "Sampling": "keraslm.scoring.sampler",
    "ScoreOptions": "keraslm.report.options",
    "Scorer": "keraslm.scoring.scorer",
    "State": "keraslm.scoring.state",
    "StatefulLSTM": "keraslm.layers.lstm",
    "TextCost": "keraslm.perplexity",
    "TrainConfig": "keraslm.config",
    "average": "keraslm.api",
    "build_model": "keraslm.network.model",
    "evaluate": "keraslm.api",
    "export": "keraslm_export.convert",
    "generate": "keraslm.scoring.sampler",
    "kenlm": "keraslm.scoring",
    "load": "keraslm.scoring.scorer",
    "load_model": "keraslm.api",
    "load_run": "keraslm.api",
    "pairs": "keraslm.rescoring.pairs",
    "preset": "keraslm.config.presets",
    "rescore": "keraslm.rescoring.rescore",
    "score_files": "keraslm.bulk.driver",
    "score_sets": "keraslm.rescoring.prefixes",
    "summarize": "keraslm.report.writer",
    "train": "keraslm.api",
    "write_scores": "keraslm.report.writer",
}

__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:
    from keraslm.api import average as average
    from keraslm.api import evaluate as evaluate
    from keraslm.api import load_model as load_model
    from keraslm.api import load_run as load_run
    from keraslm.api import train as train
    from keraslm.bulk.driver import score_files as score_files
    from keraslm.config import Config as Config
    from keraslm.config import DataConfig as DataConfig
    from keraslm.config import ModelConfig as ModelConfig
    from keraslm.config import TrainConfig as TrainConfig
    from keraslm.config.presets import PRESETS as PRESETS
    from keraslm.config.presets import preset as preset
    from keraslm.errors import KeraslmError as KeraslmError
    from keraslm.layers.lstm import StatefulLSTM as StatefulLSTM
    from keraslm.network.model import build_model as build_model
    from keraslm.perplexity import TextCost as TextCost
    from keraslm.report.options import ScoreOptions as ScoreOptions
    from keraslm.report.writer import summarize as summarize
    from keraslm.report.writer import write_scores as write_scores
    from keraslm.rescoring.pairs import pairs as pairs
    from keraslm.rescoring.prefixes import score_sets as score_sets
    from keraslm.rescoring.rescore import rescore as rescore
    from keraslm.runs.run import Run as Run
    from keraslm.scoring import kenlm as kenlm
    from keraslm.scoring.contract import ModelInfo as ModelInfo
    from keraslm.scoring.ensemble import Ensemble as Ensemble
    from keraslm.scoring.measures import LineScore as LineScore
    from keraslm.scoring.sampler import Sampling as Sampling
    from keraslm.scoring.sampler import generate as generate
    from keraslm.scoring.scorer import Scorer as Scorer
    from keraslm.scoring.scorer import load as load
    from keraslm.scoring.session import ModelSession as ModelSession
    from keraslm.scoring.state import State as State
    from keraslm_export.convert import export as export


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'keraslm' has no attribute {name!r}")
    if name == "kenlm":
        return importlib.import_module("keraslm.scoring.kenlm")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
