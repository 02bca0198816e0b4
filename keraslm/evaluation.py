"""Perplexity of a text under a trained run."""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras
import numpy as np

from keraslm.model import build_model, nats_model, reset_states
from keraslm.perplexity import TextCost
from keraslm.run import Run
from keraslm.text.corpus import Text
from keraslm.text.encoding import Encoder
from keraslm.text.stream import EveryToken, Windows
from keraslm.weights import read_weights

NUM_STEPS = 256  # tokens of a call when the text is one row; any value gives the same result


@dataclass(frozen=True)
class Evaluation(TextCost):
    """What a text costs under a trained run.

    Attributes:
        text: its name.
        counting: `"every token"` (one row, the first token predicted from the end symbol) or `"tutorial"` (rows x
            steps).
        documents: where the state was set to zero: `"none"`, `"line"` or `"blank-line"`.
    """

    text: str
    counting: str
    documents: str


def load_model(run: Run, batch_size: int = 1, resets: bool = False) -> keras.Model:
    """The trained network of a run, for rows of another batch size than it was trained with.

    Args:
        run: the run folder.
        batch_size: B, rows whose state the model carries.
        resets: whether the model takes a second input, as in `build_model`.

    Returns:
        a `keras.Model` from token ids `(B, T)` to logits `(B, T, V)`.

    Raises:
        RunError: weights missing, damaged or not finite.
    """
    vocab_size = run.tokenizer.vocab_size
    weights = read_weights(run.weights_path, run.config.model, vocab_size)
    model = build_model(run.config.model, vocab_size, batch_size, resets=resets)
    for variable in model.trainable_variables:
        variable.assign(weights[variable.path])
    return model


def evaluate_run(
    run: Run, text: Text, tutorial: bool = False, documents: str | None = None, cache: str = "", show: bool = False
) -> Evaluation:
    """Perplexity of a text, the state carried from its first token to its last, or through each of its documents.

    Args:
        run: the run folder.
        text: what to score.
        tutorial: count as the PTB tutorial does: cut the text into the training's rows and windows, and leave out
            what does not fill them (73,600 of 73,760 tokens of PTB's validation text at 20 x 20).
        documents: what a document is; None as in training.
        cache: folder for large texts.
        show: a progress bar while a large text is encoded.

    Raises:
        TextError: the text is empty or too short; RunError: the run is damaged.
    """
    tokenizer, train = run.tokenizer, run.config.train
    documents = run.config.data.documents if documents is None else documents
    encoded = Encoder(cache, show).encode(text, tokenizer)
    windows: EveryToken | Windows
    if tutorial:
        batch_size = train.batch_size
        windows = Windows(
            encoded.ids, batch_size, train.num_steps, text.name, documents=documents, eos_id=tokenizer.eos_id
        )
    else:
        batch_size = 1
        windows = EveryToken(encoded.ids, tokenizer.eos_id, NUM_STEPS, text.name, documents)
    model = nats_model(load_model(run, batch_size, resets=documents != "none"))
    nats, oov_nats = _sum_nats(model, windows, tokenizer.unk_id)
    return Evaluation(
        **vars(encoded.counts),
        predicted=windows.predicted,
        nats=nats,
        oov_nats=oov_nats,
        text=text.name,
        counting="tutorial" if tutorial else "every token",
        documents=documents,
    )


def _sum_nats(model: keras.Model, windows: EveryToken | Windows, unk_id: int) -> tuple[float, float]:
    """Nats of all targets, and of those that are `<unk>`; summed in float64."""
    reset_states(model)
    sums, oov_sums = [], []
    for window in windows:
        nats = np.asarray(model.predict_on_batch(list(window)), np.float64)
        sums.append(float(nats.sum()))
        oov_sums.append(float(nats[window[1] == unk_id].sum()))
    return math.fsum(sums), math.fsum(oov_sums)
