"""The names that users may import, spelled out: an addition or removal must be deliberate."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import keraslm

NAMES = ["Config", "Criteria", "DataConfig", "Ensemble", "KeraslmError", "LineScore", "MixedScorer", "ModelConfig"]
NAMES += ["ModelInfo", "ModelSession", "PRESETS", "Prediction", "Predictions", "Run", "Sampling", "ScoreOptions"]
NAMES += ["ScoredText", "Scorer", "State", "StatefulLSTM", "TextCost", "TextScore", "TrainConfig", "TransferConfig"]
NAMES += ["TunedCache", "TunedMix", "WordScore", "__version__", "average", "build_model", "evaluate", "export"]
NAMES += ["filter_documents", "generate", "kenlm", "load", "load_model", "load_ngram", "load_run", "mix", "pairs"]
NAMES += ["predict", "predict_from", "preset", "rescore", "rescore_lattices", "score_files", "score_sets"]
NAMES += ["summarize", "table", "train", "tune_cache", "tune_mix", "with_cache", "word_scores", "write_scores"]


def test_the_public_names_are_these():
    assert sorted(keraslm.__all__) == dir(keraslm) == NAMES


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("PRESETS", "__version__")])
def test_every_name_resolves_to_something_with_a_docstring(name):
    value = getattr(keraslm, name)
    # A dataclass without one gets its signature as its docstring.
    assert value.__doc__ and not value.__doc__.startswith(f"{name}(")


def test_the_documentation_names_them_all():
    page = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if not re.search(rf"\b{name}\b", page) and name != "__version__"] == []


def test_any_other_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'keraslm' has no attribute 'nothing'"):
        keraslm.nothing  # noqa: B018
