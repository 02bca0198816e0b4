"""The names that users may import, spelt out: one that is added or lost must be meant."""

from __future__ import annotations

import importlib

import pytest

NAMES = {
    "keraslm": [
        "Config",
        "DataConfig",
        "KeraslmError",
        "ModelConfig",
        "PRESETS",
        "Run",
        "TrainConfig",
        "__version__",
        "average",
        "build_model",
        "evaluate",
        "load_model",
        "load_run",
        "preset",
        "train",
    ],
    "keraslm_onnx": [
        "Ensemble",
        "LineScore",
        "ModelInfo",
        "ModelSession",
        "Sampling",
        "ScoreOptions",
        "Scorer",
        "State",
        "TextCost",
        "export",
        "generate",
        "load",
        "score_files",
        "score_sets",
        "summarize",
        "write_scores",
    ],
}
EACH = [(module, name) for module, names in NAMES.items() for name in names]


@pytest.mark.parametrize("module", NAMES)
def test_the_public_names_are_these(module):
    imported = importlib.import_module(module)
    assert sorted(imported.__all__) == NAMES[module]
    assert dir(imported) == NAMES[module]


@pytest.mark.parametrize(("module", "name"), EACH)
def test_every_name_resolves(module, name):
    assert getattr(importlib.import_module(module), name) is not None


@pytest.mark.parametrize(("module", "name"), [each for each in EACH if each[1] not in ("PRESETS", "__version__")])
def test_every_name_has_a_docstring(module, name):
    value = getattr(importlib.import_module(module), name)
    # A dataclass without one gets its signature as its docstring.
    assert value.__doc__ and not value.__doc__.startswith(f"{name}(")


@pytest.mark.parametrize("module", NAMES)
def test_another_name_is_an_attribute_error(module):
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'nothing'"):
        importlib.import_module(module).nothing  # noqa: B018
