"""Model files for the tests of the server, with random weights and the scores that keraslm gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import keraslm
from keraslm.scoring.scorer import Scorer
from tests.support.made_run import make_run
from tests.support.tiny import text_lines

TEXT = [*text_lines(150, seed=1), "Η οδός, ο ΟΔΟΣ και η θάλασσα. 🙂 it's (naïve) the end", "η οδός 🙂 🙂"] * 2
SIZES: dict[str, Any] = {"layer_units": (16, 12), "embedding_dim": 8}
KINDS: dict[str, dict[str, Any]] = {
    "word": {"lowercase": True},
    "char": {"tokenizer": "char", "cell": "gru"},
    "byte": {"tokenizer": "byte"},
    "bpe": {"tokenizer": "bpe", "vocab_size": 400, "softmax": "adaptive", "cutoffs": (50, 200)},
    "mixture": {"softmax": "mixture", "num_experts": 3},
}
LINES = [
    "the cat sat on the mat",
    "Η ΟΔΟΣ, ο Σίσυφος και η θάλασσα",
    "🙂 naïve 👩‍👧 日本 e\u0301",
    "  the   cat\u00a0sat here ",
    "zebra the xylophone's <unk> ...",
    "",
]


def make_model(folder: Path, kind: str, **fields: Any) -> Path:
    """A model file of a kind."""
    run = make_run(folder, TEXT, **(SIZES | KINDS[kind] | fields))
    keraslm.export(run, folder / "model.onnx")
    return folder / "model.onnx"


def distributions(scorer: Scorer, ids: list[int]) -> np.ndarray:
    """The distribution of each token of a text, float32 `(tokens, V)`, in one call of the network."""
    session = scorer.session
    return session.run([[session.info.bos_id, *ids[:-1]]], session.zero_state(1))[0][0]


def float32(values: list[float]) -> np.ndarray:
    """Numbers of JSON as the float32 that they are; the test fails if they are more precise."""
    found = np.array(values, np.float32)
    assert found.astype(np.float64).tolist() == values
    return found
