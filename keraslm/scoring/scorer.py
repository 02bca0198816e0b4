"""Log-probabilities of text. Letters: `N` rows, `T` steps, `V` vocabulary, `M` measures of a token
(`keraslm.scoring.measures`).

Every token is scored, the first of a text from the end symbol and a zero state, and the end symbol of each line. With
`context="sentence"` each line is a text of its own; with `"paragraph"` the state runs on to the next line without
tokens, and with `"document"` through all lines of a file. A model trained with `--documents line`, `blank-line` or
`none` was trained for the first, second or third of them.

The numbers depend on a text and the model, and not on what is scored beside it, in which order, or in how many pieces:
but for rounding, for which the network's products are summed in another order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keraslm.config import CONTEXTS
from keraslm.errors import UsageError
from keraslm.perplexity import perplexity
from keraslm.scoring.batching import WINDOW, Line, Row, cut, groups, windows
from keraslm.scoring.ensemble import open_models
from keraslm.scoring.measures import Flags, LineScore, Measures, Wanted, line_score, measure, with_reductions
from keraslm.scoring.session import ModelSession
from keraslm.scoring.state import State
from keraslm.text.encoders import Ids

_CELLS = 1 << 22  # largest rows x steps x vocabulary of one call: 16 MiB of log-probabilities
_STEPS = 1024  # tokens of a row in one call
_ROWS = 64  # that go through the network side by side


@dataclass(frozen=True)
class Context:
    """Where a text stands: what the network has read, and the token that it reads next. A value.

    Attributes:
        state: of one row, after every token before `last`.
        last: the token that was said last; the end symbol where a text begins.
        entropy: of the distribution that `last` was drawn from, nats; NaN where it was not asked for.
    """

    state: State
    last: int
    entropy: float = field(default=math.nan, compare=False)


class Scorer:
    """Scores text with a model file.

    Args:
        session: an open model file, or an `Ensemble` of several.

    Example:
        >>> scorer = keraslm.load("model.onnx")
        >>> scorer.score("the cat sat")          # natural logarithm, <eos> included
        -21.7
        >>> scorer.perplexity(["the cat sat", "on the mat"])
        213.9
        >>> context = scorer.begin()             # a value: keep it, copy it, compare it
        >>> logprob, context = scorer.advance(context, scorer.tokenizer.encode_prompt("the")[0])
        >>> scorer.next_logprobs(context).shape
        (10000,)
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

    def begin(self) -> Context:
        """Where every text begins: a state of zeros, and the end symbol about to be read."""
        return Context(self.session.zero_state(1), self.session.info.bos_id)

    def advance(self, context: Context, token: int) -> tuple[float, Context]:
        """Say one token.

        Args:
            context: where the text stands; it stays as it is.
            token: id of the next token.

        Returns:
            the token's log-probability, natural logarithm, and where the text stands after it.

        Raises:
            InputError: an id outside the vocabulary.
        """
        found, state = self.session.target_logprobs([[context.last]], [[token]], context.state)
        return float(found[0, 0]), Context(state, int(token))

    def advance_all(self, context: Context, tokens: Sequence[int]) -> tuple[NDArray[np.float64], Context]:
        """Say several tokens, or none: the log-probability of each, natural logarithm, float64 `(tokens,)`, and where
        the text stands after them."""
        if len(tokens) == 0:
            return np.zeros(0), context
        targets = np.asarray(tokens, np.int64)
        inputs = np.concatenate([[context.last], targets[:-1]])
        parts, state, steps = [], context.state, self._steps(1)
        for start in range(0, len(targets), steps):
            part = slice(start, start + steps)
            found, state = self.session.target_logprobs(inputs[None, part], targets[None, part], state)
            parts.append(found[0])
        return np.concatenate(parts).astype(np.float64), Context(state, int(targets[-1]))

    def next_logprobs(self, context: Context) -> NDArray[np.float32]:
        """The distribution of the next token: natural logarithms, float32 `(V,)`."""
        return self.session.run([[context.last]], context.state)[0][0, 0]

    def score_lines(
        self,
        lines: Iterable[Line],
        context: str = "sentence",
        distributions: bool = False,
        window: int = WINDOW,
        boundary: Flags | None = None,
    ) -> Iterator[LineScore]:
        """Score lines as they come, one result a line, in order.

        Args:
            lines: without line ends; a blank line is scored as `<eos>` alone. None says that a file ends, and with it
                every text.
            context: `"sentence"`, `"paragraph"` or `"document"`.
            distributions: find ranks and entropies too, which takes the whole distribution at each token.
            window: lines that are read ahead and scored side by side; 1 answers each before the next is read.
            boundary: which tokens of the vocabulary can follow a whole word, bool `(V,)`; see `keraslm.scoring.words`.

        Raises:
            UsageError: an unknown context, or a window of no lines.
        """
        if context not in CONTEXTS:
            raise UsageError(f"Unknown context {context!r}. Known are: {', '.join(CONTEXTS)}.")
        if window < 1:
            raise UsageError(f"window is {window}, but must be at least 1 line.")
        return self._score(lines, context, Wanted(distributions, boundary), window)

    def _score(self, lines: Iterable[Line], context: str, wanted: Wanted, window: int) -> Iterator[LineScore]:
        carried: Context | None = None
        for block in windows(lines, window):
            texts = [line for line in block if line is not None]
            ids = self.tokenizer.encode_lines(texts) if texts else []
            found = iter(ids)
            rows, inside = cut([None if line is None else next(found) for line in block], context, carried is not None)
            scores: dict[int, Measures] = {}
            for row in rows:
                if row.continues or row.open:
                    start = carried if carried and row.continues else self.begin()
                    scores[id(row)], carried = self._score_alone(row, start, wanted)
            whole = [row for row in rows if not (row.continues or row.open)]
            for group in groups(whole, _ROWS):
                measures = self._score_group([np.concatenate(row.lines) for row in group], wanted)
                scores |= {id(row): part for row, part in zip(group, measures, strict=True)}
            if not inside:
                carried = None
            yield from self._line_scores(texts, rows, scores)

    def _score_alone(self, row: Row, context: Context, wanted: Wanted) -> tuple[Measures, Context]:
        """Score one row from where its text stands; `(M, tokens)`, and where the text stands after it."""
        ids = np.concatenate(row.lines).astype(np.int64)
        inputs = np.concatenate([[context.last], ids[:-1]])
        measures, state = self._feed(inputs[None], ids[None], context.state, wanted)
        found = with_reductions(measures[:, 0], context.entropy)
        return found, Context(state, int(ids[-1]), float(found[2, -1]) if wanted.everything else math.nan)

    def _score_group(self, rows: Sequence[Ids], wanted: Wanted) -> list[Measures]:
        """Score texts side by side, each from a zero state, the longest first; `(M, tokens)` each.

        A row that has ended leaves the group with the next call; until then it is padded, and the padding never read.
        """
        length = len(rows[0])
        targets = np.full((len(rows), length), self.session.info.eos_id, np.int64)  # [N, T]
        for row, ids in zip(targets, rows, strict=True):
            row[: len(ids)] = ids
        inputs = np.roll(targets, 1, axis=1)
        inputs[:, 0] = self.session.info.bos_id
        state, parts, start = self.session.zero_state(len(rows)), [], 0
        while start < length:
            alive = sum(len(ids) > start for ids in rows)
            part = slice(start, start + self._steps(alive))
            found, state = self._call(inputs[:alive, part], targets[:alive, part], state.select(slice(alive)), wanted)
            parts.append(found)
            start = part.stop
        joined = [
            np.concatenate([part[:, row] for part in parts if row < part.shape[1]], 1) for row in range(len(rows))
        ]
        return [with_reductions(found[:, : len(ids)], math.nan) for found, ids in zip(joined, rows, strict=True)]

    def _feed(
        self, inputs: NDArray[np.int64], targets: NDArray[np.int64], state: State, wanted: Wanted
    ) -> tuple[Measures, State]:
        """Measures of each target, `(M, N, T)`, in pieces that one call can hold, and the state after the last."""
        steps = self._steps(len(inputs))
        parts = []
        for start in range(0, inputs.shape[1], steps):
            part = slice(start, start + steps)
            found, state = self._call(inputs[:, part], targets[:, part], state, wanted)
            parts.append(found)
        return np.concatenate(parts, axis=2), state

    def _steps(self, rows: int) -> int:
        return max(1, min(_STEPS, _CELLS // (rows * self.session.cells)))

    def _call(
        self, inputs: NDArray[np.int64], targets: NDArray[np.int64], state: State, wanted: Wanted
    ) -> tuple[Measures, State]:
        if not wanted.everything:
            found, state = self.session.target_logprobs(inputs, targets, state)  # [N, T]
            return found[None].astype(np.float64), state
        log_probs, state = self.session.run(inputs, state)  # [N, T, V]
        return measure(log_probs, targets, wanted, self.session.info.eos_id), state

    def _line_scores(
        self, texts: Sequence[str], rows: Sequence[Row], scores: dict[int, Measures]
    ) -> Iterator[LineScore]:
        lines, unk_id = iter(texts), self.session.info.unk_id
        for row in rows:
            measures, start = scores[id(row)], 0
            for ids in row.lines:
                part = measures[:, start : start + len(ids)]
                yield line_score(next(lines), ids, ids == unk_id, part)
                start += len(ids)


def load(path: str | Path, provider: str = "auto", threads: int = 0, others: Sequence[str | Path] = ()) -> Scorer:
    """Open a model file for scoring.

    Args:
        path: of the file.
        provider: `"cpu"`, `"cuda"` or `"auto"`.
        threads: that compute one operation; 0 takes one a core.
        others: model files with the same tokenizer; scores are of the mean of all probabilities then.

    Raises:
        ModelFileError: a file is not a keraslm model, or has another tokenizer.

    Example:
        >>> keraslm.load("one.onnx", others=["two.onnx", "three.onnx"]).score("the cat sat")
        -20.9
    """
    return Scorer(open_models([path, *others], provider, threads))
