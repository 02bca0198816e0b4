"""Run folders with random weights, made without training."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from keraslm.config import Config
from keraslm.config.shapes import weight_shapes
from keraslm.runs.create import create_run
from keraslm.runs.metrics import read_rows
from keraslm.runs.run import Run
from keraslm.runs.weights import digest_of, write_weights
from keraslm.text.importing import import_tokenizer
from keraslm.text.tokenizer import Tokenizer
from keraslm.text.vocabulary import train_tokenizer

# Networks other than a plain LSTM, as changes to the configuration.
KINDS = {
    "adaptive": {"softmax": "adaptive", "cutoffs": (6, 14)},
    "sampled": {"softmax": "sampled", "num_sampled": 40},
    "tied": {"layer_units": (9, 5), "embedding_dim": 5, "tie_weights": True},
    "mixture": {"layer_units": (6, 9), "embedding_dim": 5, "softmax": "mixture", "num_experts": 3},
    "gru": {"cell": "gru", "layer_units": (5, 8, 6)},
    "rnn": {"cell": "rnn", "softmax": "mixture", "num_experts": 2, "tie_weights": True},
    "skip": {"layer_units": (6, 6, 6), "skip_connections": True, "input_gate": "tied"},
}
# Those that become loops in a model file.
LOOPS = {
    "mogrifier": {"mogrifier_rounds": 3, "mogrifier_rank": 2, "layer_units": (7, 5)},
    "capped": {"input_gate": "capped", "skip_connections": True},
}


def random_weights(config, vocab_size: int, seed: int = 0, scale: float = 0.5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = weight_shapes(config, vocab_size)
    return {name: rng.uniform(-scale, scale, shape).astype(np.float32) for name, shape in shapes.items()}


LINES = ("the cat sat on the mat", "a dog ran")


def make_run(folder: Path, lines: Iterable[str] = LINES, **fields) -> Run:
    """A run with the configuration `fields`, random weights and a tokenizer trained on `lines`."""
    config = Config().replace(**fields)
    return _make(folder, config, train_tokenizer(lines, config.data))


SYMBOLS = ["<blk>", "<sos/eos>", "<unk>", "▁the", "▁cat", "▁dog", "s", "at", "▁sat", "▁ran", "ing", "▁日本"]


def make_speech_run(folder: Path, symbols: Iterable[str] = SYMBOLS, **fields) -> Run:
    """As `make_run`, with the table of a speech model, `tokens.txt` in the folder, and sentences as the context."""
    table = folder / "tokens.txt"
    table.write_text("".join(f"{symbol} {number}\n" for number, symbol in enumerate(symbols)), encoding="utf-8")
    config = Config().replace(**({"tokenizer": str(table), "context": "sentence", "units": 6} | fields))
    return _make(folder, config, import_tokenizer(config.data))


def _make(folder: Path, config: Config, tokenizer: Tokenizer) -> Run:
    with contextlib.chdir(folder):  # runs/latest is made there
        run = Run(folder / "run", config, tokenizer)
        create_run(run, "jax", overwrite=False)
    write_weights(run.weights_path, random_weights(config.model, tokenizer.vocab_size))
    return run


def replace_weights(run: Run, weights: dict[str, np.ndarray]) -> None:
    """Replace the last weights of a trained run, as if its last epoch had ended with them."""
    *rows, last = read_rows(run.metrics_path)
    write_weights(run.weights_path, weights, last["epoch"])
    rows.append(last | {"weights": digest_of(weights)})
    run.metrics_path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
