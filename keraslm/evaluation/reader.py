"""A run that reads texts as one row: what the techniques of test time are computed from."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keraslm.evaluation.evaluate import (
    NUM_STEPS,
    Evaluation,
    Scored,
    hidden_model,
    load_model,
    measured,
    scored_windows,
)
from keraslm.network.model import nats_model, reset_states
from keraslm.runs.run import Run
from keraslm.text.store import EncodedText
from keraslm.text.stream import EveryToken

_LOGPROBS = 1 << 22  # log-probabilities of a window, 16 MiB


class Reader:
    """Reads texts from their first token to their last, window by window.

    Args:
        run: the run folder.
        context: how far the state is carried; None means as in training.

    Example:
        >>> Reader(run).nats(ids).sum()
    """

    def __init__(self, run: Run, context: str | None = None):
        self.run = run
        self.context = run.config.data.context if context is None else context

    def windows(self, ids: NDArray[Any], num_steps: int = NUM_STEPS, name: str = "text") -> EveryToken:
        """The windows of a text, `(1, T)` each."""
        return EveryToken(ids, self.run.tokenizer.eos_id, num_steps, name, self.context)

    def evaluation(self, text: EncodedText) -> Evaluation:
        """What `evaluate_run` gives of a text, every token."""
        windows = self.windows(text.ids, name=text.name)
        return measured(self._nats, windows, text, self.run.tokenizer.unk_id)

    def nats(self, ids: NDArray[Any]) -> NDArray[np.float64]:
        """Cost of each token, `(tokens,)`."""
        return np.concatenate([scored.nats[0] for scored in scored_windows(self._nats, self.windows(ids))])

    def hidden(self, ids: NDArray[Any]) -> Iterator[Scored]:
        """The windows of a text with hidden states."""
        return scored_windows(self._hidden, self.windows(ids))

    def logprobs(self, ids: NDArray[Any]) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        """Targets `(T,)` and the log-probabilities of every word in their place, `(T, V)`, window by window.

        Windows are short where the vocabulary is large, so that memory stays bounded.
        """
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
        return hidden_model(self._network)

    @cached_property
    def _logprobs(self) -> keras.Model:
        # In every softmax's output: some layers put out logits, some log-probabilities, which this leaves as they are.
        return keras.Model(self._network.inputs, keras.ops.log_softmax(self._network.outputs[0]))
