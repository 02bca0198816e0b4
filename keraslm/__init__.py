"""keraslm: LSTM language models on any Keras 3 backend.

    import keraslm, keraslm_onnx

    run = keraslm.train(train="train.txt", valid="valid.txt", preset="small", backend="jax")
    print(keraslm.evaluate(run, "valid.txt").perplexity)
    keraslm_onnx.export(run, "model.onnx")
    print(keraslm_onnx.load("model.onnx").score("a sentence to score"))

`import keraslm` loads neither Keras nor a backend; names are resolved when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Config": "keraslm.config",
    "DataConfig": "keraslm.config",
    "KeraslmError": "keraslm.errors",
    "ModelConfig": "keraslm.config",
    "PRESETS": "keraslm.presets",
    "Run": "keraslm.run",
    "TrainConfig": "keraslm.config",
    "average": "keraslm.api",
    "build_model": "keraslm.model",
    "evaluate": "keraslm.api",
    "load_model": "keraslm.api",
    "load_run": "keraslm.api",
    "preset": "keraslm.presets",
    "train": "keraslm.api",
}

__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:
    from keraslm.api import average as average
    from keraslm.api import evaluate as evaluate
    from keraslm.api import load_model as load_model
    from keraslm.api import load_run as load_run
    from keraslm.api import train as train
    from keraslm.config import (
        Config as Config,
    )
    from keraslm.config import (
        DataConfig as DataConfig,
    )
    from keraslm.config import (
        ModelConfig as ModelConfig,
    )
    from keraslm.config import (
        TrainConfig as TrainConfig,
    )
    from keraslm.errors import KeraslmError as KeraslmError
    from keraslm.model import build_model as build_model
    from keraslm.presets import PRESETS as PRESETS
    from keraslm.presets import preset as preset
    from keraslm.run import Run as Run


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'keraslm' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
