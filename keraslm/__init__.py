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

from keraslm.system import VERSION

__version__ = VERSION

_NAMES = {
    "keraslm.api.evaluate": ("evaluate",),
    "keraslm.api.runs": ("average", "load_model", "load_run"),
    "keraslm.api.train": ("train",),
    "keraslm.bulk.driver": ("score_files",),
    "keraslm.config": ("Config", "DataConfig", "ModelConfig", "TrainConfig", "TransferConfig"),
    "keraslm.config.presets": ("PRESETS", "preset"),
    "keraslm.errors": ("KeraslmError",),
    "keraslm.filtering.criteria": ("Criteria",),
    "keraslm.filtering.driver": ("filter_documents",),
    "keraslm.layers.lstm": ("StatefulLSTM",),
    "keraslm.network.model": ("build_model",),
    "keraslm.ngram.mixed": ("MixedScorer", "mix"),
    "keraslm.ngram.opening": ("load_ngram",),
    "keraslm.ngram.tuning": ("TunedMix", "tune_mix"),
    "keraslm.perplexity": ("TextCost",),
    "keraslm.pictures.notebook": ("ScoredText",),
    "keraslm.report.frame": ("table",),
    "keraslm.report.options": ("ScoreOptions",),
    "keraslm.report.writer": ("summarize", "write_scores"),
    "keraslm.lattices.rescore": ("rescore_lattices",),
    "keraslm.rescoring.pairs": ("pairs",),
    "keraslm.rescoring.prefixes": ("score_sets",),
    "keraslm.rescoring.rescore": ("rescore",),
    "keraslm.runs.run": ("Run",),
    "keraslm.scoring": ("kenlm",),
    "keraslm.scoring.cache_tuning": ("TunedCache", "tune_cache"),
    "keraslm.scoring.cached": ("with_cache",),
    "keraslm.scoring.contract": ("ModelInfo",),
    "keraslm.scoring.ensemble": ("Ensemble",),
    "keraslm.scoring.measures": ("LineScore",),
    "keraslm.scoring.predict": ("Prediction", "Predictions", "predict", "predict_from"),
    "keraslm.scoring.sampler": ("Sampling", "generate"),
    "keraslm.scoring.scorer": ("Scorer", "load"),
    "keraslm.scoring.session": ("ModelSession",),
    "keraslm.scoring.state": ("State",),
    "keraslm.scoring.texts": ("TextScore",),
    "keraslm.scoring.words": ("WordScore", "word_scores"),
    "keraslm_export.convert": ("export",),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = ["Config", "Criteria", "DataConfig", "Ensemble", "KeraslmError", "LineScore", "MixedScorer", "ModelConfig"]
__all__ += ["PRESETS", "ModelInfo", "ModelSession", "Prediction", "Predictions", "Run", "Sampling", "ScoreOptions"]
__all__ += ["ScoredText", "Scorer", "State", "StatefulLSTM", "TextCost", "TextScore", "TrainConfig", "TransferConfig"]
__all__ += ["TunedCache", "TunedMix", "WordScore", "__version__", "average", "build_model", "evaluate", "export"]
__all__ += ["filter_documents", "generate", "kenlm", "load", "load_model", "load_ngram", "load_run", "mix", "pairs"]
__all__ += ["predict", "predict_from", "preset", "rescore", "rescore_lattices", "score_files", "score_sets"]
__all__ += ["summarize", "table", "train", "tune_cache", "tune_mix", "with_cache", "word_scores", "write_scores"]

if TYPE_CHECKING:
    from keraslm.api.evaluate import evaluate
    from keraslm.api.runs import average, load_model, load_run
    from keraslm.api.train import train
    from keraslm.bulk.driver import score_files
    from keraslm.config import Config, DataConfig, ModelConfig, TrainConfig, TransferConfig
    from keraslm.config.presets import PRESETS, preset
    from keraslm.errors import KeraslmError
    from keraslm.filtering.criteria import Criteria
    from keraslm.filtering.driver import filter_documents
    from keraslm.lattices.rescore import rescore_lattices
    from keraslm.layers.lstm import StatefulLSTM
    from keraslm.network.model import build_model
    from keraslm.ngram.mixed import MixedScorer, mix
    from keraslm.ngram.opening import load_ngram
    from keraslm.ngram.tuning import TunedMix, tune_mix
    from keraslm.perplexity import TextCost
    from keraslm.pictures.notebook import ScoredText
    from keraslm.report.frame import table
    from keraslm.report.options import ScoreOptions
    from keraslm.report.writer import summarize, write_scores
    from keraslm.rescoring.pairs import pairs
    from keraslm.rescoring.prefixes import score_sets
    from keraslm.rescoring.rescore import rescore
    from keraslm.runs.run import Run
    from keraslm.scoring import kenlm
    from keraslm.scoring.cache_tuning import TunedCache, tune_cache
    from keraslm.scoring.cached import with_cache
    from keraslm.scoring.contract import ModelInfo
    from keraslm.scoring.ensemble import Ensemble
    from keraslm.scoring.measures import LineScore
    from keraslm.scoring.predict import Prediction, Predictions, predict, predict_from
    from keraslm.scoring.sampler import Sampling, generate
    from keraslm.scoring.scorer import Scorer, load
    from keraslm.scoring.session import ModelSession
    from keraslm.scoring.state import State
    from keraslm.scoring.texts import TextScore
    from keraslm.scoring.words import WordScore, word_scores
    from keraslm_export.convert import export


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'keraslm' has no attribute {name!r}")
    if name == "kenlm":
        return importlib.import_module("keraslm.scoring.kenlm")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
