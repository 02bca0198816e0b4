"""The network of a run, and the plain cost of a text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from keraslm.evaluation.result import Evaluation
from keraslm.network.model import build_model, nats_model, reset_states
from keraslm.runs.run import Run
from keraslm.system.progress import progress
from keraslm.text.store import EncodedText
from keraslm.text.stream import EveryToken, Windows

NUM_STEPS = 256  # tokens per call for a text in one row; any value gives the same result
_LOGPROBS = 1 << 22  # log-probabilities per call, 16 MiB


def load_model(run: Run, batch_size: int = 1, resets: bool = False, seed: int = 0) -> keras.Model:
    """Build the network of a run with its trained weights.

    Arguments and result are those of `build_model`; `seed` is that of the dropout masks in training mode.
    """
    vocab_size = run.tokenizer.vocab_size
    weights = run.read_weights()
    model = build_model(run.config.model, vocab_size, batch_size, seed, resets=resets)
    for variable in model.trainable_variables:
        variable.assign(weights[variable.path])
    return model


def evaluate_encoded(
    run: Run, text: EncodedText, tutorial: bool = False, context: str | None = None, show: bool = False
) -> Evaluation:
    """The plain cost of an encoded text; arguments and errors are those of `keraslm.evaluate`."""
    if not tutorial:
        return Reader(run, context).evaluation(text, show)
    train, context = run.config.train, context or run.config.data.context
    windows = Windows(text.ids, train.batch_size, train.num_steps, text.name, context, run.tokenizer.eos_id)
    model = nats_model(load_model(run, train.batch_size, resets=context != "document"))
    return _evaluation(model, windows, text, run.tokenizer.unk_id, "tutorial", show)


class Scored(NamedTuple):
    """A window with the cost of each target."""

    targets: NDArray[np.int32]  # [B, T]
    nats: NDArray[np.float64]  # [B, T]
    hidden: NDArray[np.float32] | None  # [B, T, H], input of the projection; None unless requested
    starts: NDArray[np.bool_] | None  # [B, T], where a row starts from a state of zeros; None: nowhere


class Reader:
    """Reads texts with the network of a run, in one row from the first token to the last."""

    def __init__(self, run: Run, context: str | None = None):
        self.run = run
        self.context = run.config.data.context if context is None else context

    def windows(self, ids: NDArray[Any], num_steps: int | None = None, name: str = "text") -> EveryToken:
        return EveryToken(ids, self.run.tokenizer.eos_id, num_steps or NUM_STEPS, name, self.context)

    def evaluation(self, text: EncodedText, show: bool = False) -> Evaluation:
        windows = self.windows(text.ids, name=text.name)
        return _evaluation(self._nats, windows, text, self.run.tokenizer.unk_id, "every token", show)

    def nats(self, ids: NDArray[Any]) -> NDArray[np.float64]:
        """Cost of each token, `(tokens,)`."""
        return np.concatenate([scored.nats[0] for scored in _scored(self._nats, self.windows(ids))])

    def hidden(self, ids: NDArray[Any]) -> Iterator[Scored]:
        """The windows of a text with hidden states."""
        return _scored(self._hidden, self.windows(ids))

    def logprobs(self, ids: NDArray[Any]) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        """Targets `(T,)` and log-probabilities of all words `(T, V)` of each window; windows fit into memory."""
        reset_states(self._network)
        steps = min(NUM_STEPS, max(1, _LOGPROBS // self.run.tokenizer.vocab_size))
        for inputs, targets, *resets in self.windows(ids, steps):
            yield targets[0], np.asarray(self._logprobs.predict_on_batch([inputs, *resets]))[0]

    @cached_property
    def _network(self) -> keras.Model:
        return load_model(self.run, resets=self.context != "document")

    @cached_property
    def _nats(self) -> keras.Model:
        return nats_model(self._network)

    @cached_property
    def _hidden(self) -> keras.Model:
        model = nats_model(self._network)
        return keras.Model(model.inputs, [model.outputs[0], self._network.get_layer("logits").input])

    @cached_property
    def _logprobs(self) -> keras.Model:
        # Some softmaxes return logits, others log-probabilities, which log_softmax does not change.
        return keras.Model(self._network.inputs, keras.ops.log_softmax(self._network.outputs[0]))


def _scored(model: keras.Model, windows: EveryToken | Windows) -> Iterator[Scored]:
    reset_states(model)
    for inputs, targets, *resets in windows:
        found = model.predict_on_batch([inputs, targets, *resets])
        nats, hidden = found if len(model.outputs) == 2 else (found, None)
        yield Scored(targets, np.asarray(nats, np.float64), hidden, resets[0] if resets else None)


def _evaluation(
    model: keras.Model, windows: EveryToken | Windows, text: EncodedText, unk_id: int, counting: str, show: bool
) -> Evaluation:
    sums, oov_sums, oovs = [], [], 0
    with progress("evaluating", show, tokens=windows.predicted) as count:
        for scored in count(_scored(model, windows), tokens=lambda one: one.targets.size, lines=lambda _: 0):
            sums.append(float(scored.nats.sum()))
            unknown = scored.targets == unk_id
            oov_sums.append(float(scored.nats[unknown].sum()))
            oovs += int(unknown.sum())
    return Evaluation(
        **vars(text.counts),
        predicted=windows.predicted,
        predicted_oovs=oovs,
        nats=math.fsum(sums),
        oov_nats=math.fsum(oov_sums),
        text=text.name,
        counting=counting,
        context=windows.context,
    )
