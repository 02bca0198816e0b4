"""What the two targets for sherpa-onnx share: requirements, metadata, and sentences side by side.

There is no begin symbol: `sos_id` and `eos_id` are both the end symbol of the run, `<sos/eos>` in the tables of
icefall. A separate begin symbol in a table is an ordinary token that the model has never seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from keraslm.runs.run import Run
from keraslm.scoring import targets as names
from keraslm.system import VERSION
from keraslm_export.targets.requirements import check_sentences, check_stacked, check_symbols

# Of a call when the perplexity of a text is computed.
_ROWS = 64
_LOGITS = 1 << 24


class Sentences(NamedTuple):
    """Sentences side by side, padded with 0.

    Attributes:
        x: the tokens without begin and end symbol, int64 `(N, L)`.
        x_lens: how many there are, int64 `(N,)`.
    """

    x: NDArray[np.int64]
    x_lens: NDArray[np.int64]

    def inputs(self, end: int) -> NDArray[np.int64]:
        """The end symbol, then the tokens, `(N, L + 1)`."""
        return np.pad(self.x, ((0, 0), (1, 0)), constant_values=end)

    def targets(self, end: int) -> NDArray[np.int64]:
        """The tokens, then the end symbol, `(N, L + 1)`; after it, the values mean nothing."""
        found = np.pad(self.x, ((0, 0), (0, 1)))
        found[np.arange(len(found)), self.x_lens] = end
        return found

    def total(self, of_targets: NDArray[Any]) -> NDArray[np.float64]:
        """The sum over each sentence and its end symbol, `(N,)`, of numbers `(N, L + 1)`."""
        inside = np.arange(of_targets.shape[1]) <= self.x_lens[:, None]
        return np.where(inside, of_targets, 0).sum(axis=1, dtype=np.float64)

    def rows(self) -> Iterator[Sentences]:
        """Each sentence alone, without padding."""
        for row, length in zip(self.x, self.x_lens, strict=True):
            yield Sentences(row[None, :length], np.array([length]))


def check(run: Run, target: str) -> None:
    for requirement in (check_stacked, check_symbols, check_sentences):
        requirement(run, target)


def metadata(run: Run, target: str, precision: str) -> dict[str, str]:
    """Every key that a version of sherpa-onnx reads or icefall writes; a missing one ends the client's process."""
    model, tokenizer = run.config.model, run.tokenizer
    values = {
        "model_type": "rnnlm",
        "version": 1,
        "model_author": "keraslm",
        "sos_id": tokenizer.eos_id,
        "eos_id": tokenizer.eos_id,
        "vocab_size": tokenizer.vocab_size,
        "num_layers": len(model.sizes),
        "hidden_size": model.sizes[0],
        "embedding_dim": model.embedding_size,
        names.KEY: target,
        "keraslm_version": VERSION,
        "precision": precision,
        "tokenizer_sha256": tokenizer.digest,
    }
    return {key: str(value) for key, value in values.items()}


def padded(rows: Sequence[NDArray[Any]]) -> Sentences:
    """Sentences of ids side by side."""
    lengths = np.array([len(row) for row in rows])
    x = np.zeros((len(rows), lengths.max()), np.int64)
    for number, row in enumerate(rows):
        x[number, : len(row)] = row
    return Sentences(x, lengths)


def encoded(run: Run, lines: Sequence[str]) -> list[Sentences]:
    """A text in batches of sentences of similar length, whose logits fit into memory."""
    rows = sorted((ids[:-1] for ids in run.tokenizer.encode_lines(lines)), key=len, reverse=True)
    batches = []
    while rows:
        count = min(_ROWS, max(1, _LOGITS // (run.tokenizer.vocab_size * (len(rows[0]) + 1))))
        batches.append(padded(rows[:count]))
        del rows[:count]
    return batches


def tokens_of(batches: Sequence[Sentences]) -> int:
    """The tokens of all sentences, with their end symbols."""
    return sum(int((batch.x_lens + 1).sum()) for batch in batches)


def random_sentences(run: Run, shapes: Sequence[tuple[int, int]]) -> Iterator[Sentences]:
    """Sentences of each shape (rows, longest): the first row has that length, the others any down to 0."""
    rng = np.random.default_rng(0)
    for count, longest in shapes:
        lengths = [longest, *rng.integers(0, longest + 1, count - 1)]
        yield padded([rng.integers(1, run.tokenizer.vocab_size, length) for length in lengths])
