"""Perplexity of a text under a trained run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keraslm.checkpoint import read_weights
from keraslm.model import build_model, nats_model, reset_states
from keraslm.perplexity import perplexity
from keraslm.run import Run
from keraslm.text.corpus import Text
from keraslm.text.stream import EveryToken, Window, Windows

NUM_STEPS = 256  # tokens of a call when the text is one row; any value gives the same result


@dataclass(frozen=True)
class Evaluation:
    """What a text costs under a model.

    Attributes:
        text: its name.
        counting: `"every token"` (one row, the first token predicted from `<eos>`) or `"tutorial"` (rows x steps).
        lines, words: of the text; words without `<eos>`.
        tokens: tokens of the text, one `<eos>` a line.
        predicted: tokens that were scored; less than `tokens` only in the tutorial's way.
        oovs: tokens of the text that are `<unk>`.
        nats: negative log-likelihood of the scored tokens, natural logarithm, summed in float64.
        perplexity: `exp(nats / predicted)`.
    """

    text: str
    counting: str
    lines: int
    words: int
    tokens: int
    predicted: int
    oovs: int
    nats: float
    perplexity: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def load_model(run: Run, batch_size: int = 1) -> keras.Model:
    """The trained network of a run, for rows of another batch size than it was trained with.

    Args:
        run: the run folder.
        batch_size: B, rows whose state the model carries.

    Returns:
        a `keras.Model` from token ids `(B, T)` to logits `(B, T, V)`.

    Raises:
        RunError: weights missing, damaged or not finite.
    """
    vocab_size = run.tokenizer.vocab_size
    weights = read_weights(run.weights_path, run.config.model, vocab_size)
    model = build_model(run.config.model, vocab_size, batch_size)
    for variable in model.trainable_variables:
        variable.assign(weights[variable.path])
    return model


def evaluate_run(run: Run, text: Text, tutorial: bool = False) -> Evaluation:
    """Perplexity of a text, the state carried from its first token to its last.

    Args:
        run: the run folder.
        text: what to score.
        tutorial: count as the PTB tutorial does: cut the text into the training's rows and windows, and leave out
            what does not fill them (73,600 of 73,760 tokens of PTB's validation text at 20 x 20).

    Raises:
        TextError: the text is empty or too short; RunError: the run is damaged.
    """
    ids = run.tokenizer.encode_text(text)
    train = run.config.train
    windows: EveryToken | Windows
    if tutorial:
        windows, batch_size = Windows(ids, train.batch_size, train.num_steps, text.name), train.batch_size
    else:
        windows, batch_size = EveryToken(ids, run.tokenizer.eos_id, NUM_STEPS, text.name), 1
    model = nats_model(load_model(run, batch_size))
    nats = math.fsum(float(block.sum(dtype=np.float64)) for block in _token_nats(model, iter(windows)))
    lines = int((ids == run.tokenizer.eos_id).sum())
    return Evaluation(
        text=text.name,
        counting="tutorial" if tutorial else "every token",
        lines=lines,
        words=len(ids) - lines,
        tokens=len(ids),
        predicted=windows.predicted,
        oovs=int((ids == run.tokenizer.unk_id).sum()),
        nats=nats,
        perplexity=perplexity(nats, windows.predicted),
    )


def _token_nats(model: keras.Model, windows: Iterator[Window]) -> Iterator[NDArray[np.float32]]:
    reset_states(model)
    for inputs, targets in windows:
        yield np.asarray(model.predict_on_batch([inputs, targets]))
