"""Log-probabilities of text. Letters: `N` rows, `T` steps, `V` vocabulary.

Every token is scored, the first of a text from the end symbol and a zero state, and the end symbol of each line. With
`context="sentence"` each line is a text of its own; with `"paragraph"` the state runs on to the next line without
tokens, and with `"document"` through all lines. A model trained with `--documents line`, `blank-line` or `none` was
trained for the first, second or third of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keraslm.errors import KeraslmError, UsageError
from keraslm.perplexity import perplexity
from keraslm.text.encoders import Ids
from keraslm.text.pieces import split_words
from keraslm_onnx.session import ModelSession, State

CONTEXTS = ("sentence", "paragraph", "document")

_CELLS = 1 << 24  # largest rows x steps x vocabulary of one call: 64 MiB of log-probabilities
_STEPS = 256  # tokens of a row in one call
_LINES = 256  # largest block of lines that is scored together


@dataclass(frozen=True)
class LineScore:
    """The scores of one line.

    Attributes:
        ids: of its tokens, the end symbol last; int32 `(tokens,)`.
        logprobs: natural logarithm of each token's probability given all before it; float64 `(tokens,)`.
        words: of the line, as white space parts them.
        characters, bytes: of the line with its line end counted as one; bytes in UTF-8.
        oov: which tokens are `<unk>`; bool `(tokens,)`.
    """

    ids: Ids
    logprobs: NDArray[np.float64]
    words: int
    characters: int
    bytes: int
    oov: NDArray[np.bool_]

    @property
    def logprob(self) -> float:
        """Sum over the line, nats."""
        return math.fsum(self.logprobs)


class Scorer:
    """Scores text with a model file.

    Args:
        session: an open model file.

    Example:
        >>> scorer = keraslm_onnx.load("model.onnx")
        >>> scorer.score("the cat sat")          # natural logarithm, <eos> included
        -21.7
        >>> scorer.perplexity(["the cat sat", "on the mat"])
        213.9
    """

    def __init__(self, session: ModelSession):
        self.session = session
        self.tokenizer = session.tokenizer

    def score(self, text: str) -> float:
        """Natural logarithm of the probability of one line and its `<eos>`."""
        return next(self.score_lines([text])).logprob

    def logprobs(self, texts: Iterable[str], context: str = "sentence") -> list[NDArray[np.float64]]:
        """Log-probability of each token of each line, natural logarithm, `<eos>` last."""
        return [line.logprobs for line in self.score_lines(texts, context)]

    def perplexity(self, texts: Iterable[str], context: str = "sentence") -> float:
        """`exp(-sum of logprobs / tokens)` over all lines, each `<eos>` counted; NaN without a line."""
        scores = self.logprobs(texts, context)
        return perplexity(-math.fsum(map(math.fsum, scores)), sum(map(len, scores)))

    def score_lines(self, lines: Iterable[str], context: str = "sentence") -> Iterator[LineScore]:
        """Score lines as they come, one result a line, in order.

        Args:
            lines: without line ends; a blank line is scored as `<eos>` alone.
            context: `"sentence"`, `"paragraph"` or `"document"`.
        """
        if context not in CONTEXTS:
            raise UsageError(f"Unknown context {context!r}. Known are: {', '.join(CONTEXTS)}.")
        if context == "sentence":
            return self._score_sentences(lines)
        return self._score_on(lines, to_the_end=context == "document")

    def _score_sentences(self, lines: Iterable[str]) -> Iterator[LineScore]:
        for block in _blocks_of_lines(lines):
            ids = self.tokenizer.encode_lines(block)
            order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
            scores: list[NDArray[np.float64]] = [np.zeros(0)] * len(ids)
            for group in self._groups(order, ids):
                for i, score in zip(group, self._score_rows([ids[i] for i in group]), strict=True):
                    scores[i] = score
            yield from map(self._line_score, block, ids, scores)

    def _groups(self, order: list[int], ids: Sequence[Ids]) -> Iterator[list[int]]:
        """Cut lines sorted by length into groups that one call can hold."""
        group: list[int] = []
        for i in order:
            steps = min(len(ids[i]), _STEPS)
            if group and (len(group) + 1) * steps * self.session.cells > _CELLS:
                yield group
                group = []
            group.append(i)
        if group:
            yield group

    def _score_rows(self, rows: Sequence[Ids]) -> list[NDArray[np.float64]]:
        """Score texts side by side, each from a zero state; padding is computed but never read."""
        length = max(map(len, rows))
        targets = np.full((len(rows), length), self.session.info.eos_id, np.int64)  # [N, T]
        for row, ids in zip(targets, rows, strict=True):
            row[: len(ids)] = ids
        inputs = np.roll(targets, 1, axis=1)
        inputs[:, 0] = self.session.info.bos_id
        scored, _ = self._feed(inputs, targets, self.session.zero_state(len(rows)))
        return [row[: len(ids)] for row, ids in zip(scored, rows, strict=True)]

    def _score_on(self, lines: Iterable[str], to_the_end: bool) -> Iterator[LineScore]:
        """Score lines with the state carried on, to the end of the text or to the next line without tokens."""
        start = self.session.zero_state(1)
        state, last = start, self.session.info.bos_id
        for block in _blocks_of_lines(lines):
            ids = self.tokenizer.encode_lines(block)
            paragraphs = [ids] if to_the_end else _paragraphs(ids)
            scored: list[NDArray[np.float64]] = []
            for paragraph in paragraphs:
                stream = np.concatenate([[last], *paragraph]).astype(np.int64)[None]  # [1, tokens + 1]
                logprobs, state = self._feed(stream[:, :-1], stream[:, 1:], state)
                last = int(stream[0, -1])
                scored += np.split(logprobs[0], np.cumsum([len(line) for line in paragraph])[:-1])
                if not to_the_end and len(paragraph[-1]) == 1:
                    state = start
            yield from map(self._line_score, block, ids, scored)

    def _feed(
        self, inputs: NDArray[np.int64], targets: NDArray[np.int64], state: State
    ) -> tuple[NDArray[np.float64], State]:
        """Log-probability of each target, `(N, T)`, in pieces that one call can hold, and the state after the last."""
        rows, length = inputs.shape
        steps = max(1, min(_STEPS, _CELLS // (rows * self.session.cells)))
        parts = []
        for start in range(0, length, steps):
            part = slice(start, start + steps)
            logprobs, state = self.session.target_logprobs(inputs[:, part], targets[:, part], state)  # [N, T]
            parts.append(logprobs)
        return np.concatenate(parts, axis=1).astype(np.float64), state

    def _line_score(self, line: str, ids: Ids, logprobs: NDArray[np.float64]) -> LineScore:
        size = len(line.encode("utf-8", "surrogatepass")) + 1
        return LineScore(ids, logprobs, len(split_words(line)), len(line) + 1, size, ids == self.session.info.unk_id)


def load(path: str | Path, provider: str = "auto") -> Scorer:
    """Open a model file for scoring.

    Args:
        path: of the file.
        provider: `"cpu"`, `"cuda"` or `"auto"`.

    Raises:
        ModelFileError: the file is not a keraslm model.
    """
    return Scorer(ModelSession(path, provider))


def _paragraphs(ids: Sequence[Ids]) -> Iterator[list[Ids]]:
    """Lines up to each one that has no token but its end symbol."""
    paragraph: list[Ids] = []
    for line in ids:
        paragraph.append(line)
        if len(line) == 1:
            yield paragraph
            paragraph = []
    if paragraph:
        yield paragraph


def _blocks_of_lines(lines: Iterable[str]) -> Iterator[list[str]]:
    """Lines in blocks: small ones at first, so that a slow stream shows its first rows at once.

    When the source of the lines fails, the lines before are given out first, and then its error.
    """
    block: list[str] = []
    size = 1
    try:
        for line in lines:
            block.append(line)
            if len(block) == size:
                yield block
                block, size = [], min(2 * size, _LINES)
    except KeraslmError:
        if block:
            yield block
        raise
    if block:
        yield block
