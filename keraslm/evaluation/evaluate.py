"""Perplexity of a text under a trained run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keraslm.config import StrPath
from keraslm.evaluation.variant import Variant, variant_rows
from keraslm.network.model import build_model, nats_model, reset_states
from keraslm.perplexity import TextCost
from keraslm.runs.run import Run
from keraslm.runs.weights import read_weights
from keraslm.text.corpus import Text
from keraslm.text.encoding import Encoder
from keraslm.text.store import EncodedText
from keraslm.text.stream import EveryToken, Windows

NUM_STEPS = 256  # tokens of a call when the text is one row; any value gives the same result


@dataclass(frozen=True, kw_only=True)
class Evaluation(TextCost):
    """What a text costs under a trained run.

    Attributes:
        text: its name.
        counting: `"every token"` (one row, the first token predicted from the end symbol) or `"tutorial"` (rows x
            steps).
        context: how far the state was carried: `"document"`, `"sentence"` or `"paragraph"`.
        variants: the same text with each technique of test time that was asked for.
    """

    text: str
    counting: str
    context: str
    variants: tuple[Variant, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return super().to_dict() | {"variants": [variant.to_dict() for variant in self.variants]}

    def rows(self) -> list[str]:
        """Lines for people."""
        return super().rows() + variant_rows(self.perplexity, self.variants)

    def _values(self) -> dict[str, Any]:
        return {name: value for name, value in super()._values().items() if name != "variants"}


@dataclass(frozen=True)
class Scored:
    """A window with the cost of each of its targets.

    Attributes:
        inputs, targets: int32 `(B, T)`.
        nats: of each target, float64 `(B, T)`.
        hidden: what the projection to the vocabulary saw, float32 `(B, T, H)`; None where it was not asked for.
        starts: bool `(B, T)`: where a row's state started from zeros; None for the context `"document"`.
    """

    inputs: NDArray[np.int32]
    targets: NDArray[np.int32]
    nats: NDArray[np.float64]
    hidden: NDArray[np.float32] | None = None
    starts: NDArray[np.bool_] | None = None


def load_model(run: Run, batch_size: int = 1, resets: bool = False, seed: int = 0) -> keras.Model:
    """The trained network of a run, for rows of another batch size than it was trained with.

    Args:
        run: the run folder.
        batch_size: B, rows whose state the model carries.
        resets: whether the model takes a second input, as in `build_model`.
        seed: of the dropout masks, for those who call it in training mode.

    Returns:
        a `keras.Model` from token ids `(B, T)` to logits `(B, T, V)`.

    Raises:
        RunError: weights missing, damaged or not finite.
    """
    vocab_size = run.tokenizer.vocab_size
    weights = read_weights(run.weights_path, run.config.model, vocab_size)
    model = build_model(run.config.model, vocab_size, batch_size, seed, resets=resets)
    for variable in model.trainable_variables:
        variable.assign(weights[variable.path])
    return model


def evaluate_run(
    run: Run,
    text: Text,
    tutorial: bool = False,
    context: str | None = None,
    cache: StrPath | None = None,
    show: bool = False,
) -> Evaluation:
    """Perplexity of a text, the state carried from its first token to its last, or through each sentence or paragraph.

    Args:
        run: the run folder.
        text: what to score.
        tutorial: count as the PTB tutorial does: cut the text into the training's rows and windows, and leave out
            what does not fill them (73,600 of 73,760 tokens of PTB's validation text at 20 x 20).
        context: how far the state is carried; None means as in training.
        cache: folder for large texts.
        show: a progress bar while a large text is encoded.

    Raises:
        TextError: the text is empty or too short; RunError: the run is damaged.
    """
    return evaluate_encoded(run, Encoder(cache, show).encode(text, run.tokenizer), tutorial, context)


def evaluate_encoded(run: Run, text: EncodedText, tutorial: bool = False, context: str | None = None) -> Evaluation:
    """`evaluate_run` for a text that is read already."""
    tokenizer, train = run.tokenizer, run.config.train
    context = run.config.data.context if context is None else context
    windows: EveryToken | Windows
    if tutorial:
        batch_size = train.batch_size
        windows = Windows(text.ids, batch_size, train.num_steps, text.name, context=context, eos_id=tokenizer.eos_id)
    else:
        batch_size = 1
        windows = EveryToken(text.ids, tokenizer.eos_id, NUM_STEPS, text.name, context)
    model = nats_model(load_model(run, batch_size, resets=context != "document"))
    return measured(model, windows, text, tokenizer.unk_id, "tutorial" if tutorial else "every token")


def measured(
    model: keras.Model, windows: EveryToken | Windows, text: EncodedText, unk_id: int, counting: str = "every token"
) -> Evaluation:
    """What a text costs under a model that is there already.

    Args:
        model: of `nats_model`.
        windows: the text's.
        text: its name and its size in every unit.
        unk_id: of the token that counts as out of vocabulary.
        counting: how `windows` count, in words.
    """
    nats, oov_nats = _sum_nats(model, windows, unk_id)
    return Evaluation(
        **vars(text.counts),
        predicted=windows.predicted,
        nats=nats,
        oov_nats=oov_nats,
        text=text.name,
        counting=counting,
        context=windows.context,
    )


def hidden_model(network: keras.Model) -> keras.Model:
    """The model of `nats_model` with a second output: the hidden states `(B, T, H)` that the projection sees."""
    model = nats_model(network)
    return keras.Model(model.inputs, [model.outputs[0], network.get_layer("logits").input])


def scored_windows(model: keras.Model, windows: EveryToken | Windows) -> Iterator[Scored]:
    """Read a text from a state of zeros, window by window.

    Args:
        model: of `nats_model`, or of `hidden_model` for hidden states too.
        windows: the text.
    """
    reset_states(model)
    for window in windows:
        found = model.predict_on_batch(list(window))
        nats, hidden = found if len(model.outputs) == 2 else (found, None)
        starts = window[2] if len(window) == 3 else None
        yield Scored(window[0], window[1], np.asarray(nats, np.float64), hidden, starts)


def _sum_nats(model: keras.Model, windows: EveryToken | Windows, unk_id: int) -> tuple[float, float]:
    """Nats of all targets, and of those that are `<unk>`; summed in float64."""
    sums, oov_sums = [], []
    for scored in scored_windows(model, windows):
        sums.append(float(scored.nats.sum()))
        oov_sums.append(float(scored.nats[scored.targets == unk_id].sum()))
    return math.fsum(sums), math.fsum(oov_sums)
