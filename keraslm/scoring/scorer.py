"""Log-probabilities of text.

Every token is scored, including the end symbol of each line. The first token of a text is predicted from the end symbol
and a zero state. With `context="sentence"` each line is a separate text; with `"paragraph"` the state is carried to the
next line up to a line without tokens, and with `"document"` through all lines of a file. An end symbol that is written
in the text, as `<eos>`, ends a sentence as a line end does: `keraslm.text.context` is the rule of training, evaluation
and scoring.

The numbers depend on the text and the model only, not on how lines are grouped, except for rounding. Dimensions are
those of `keraslm.scoring.measures`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm import arguments
from keraslm.config import CONTEXTS
from keraslm.errors import ArgumentTypeError, shown
from keraslm.perplexity import perplexity
from keraslm.scoring.batching import LINES_AHEAD, Line, Row, blocks, cut, side_by_side
from keraslm.scoring.conditional import SEPARATOR
from keraslm.scoring.ensemble import Models, open_models
from keraslm.scoring.measures import Flags, LineScore, Measures, Wanted, line_score, measure, with_reductions
from keraslm.scoring.session import Session, check_ids, id_array
from keraslm.scoring.state import State
from keraslm.scoring.texts import Ends, Text, TextScore, score_texts
from keraslm.text.encoders import Ids
from keraslm.text.pieces import one_line

MAX_LOGITS = 1 << 22  # largest rows x steps x vocabulary of one call: 16 MiB of log-probabilities
MAX_STEPS = 1024  # tokens per row of one call
MAX_ROWS = 64  # rows side by side


@dataclass(frozen=True)
class Context:
    """A position in a text, as a value."""

    state: State  # of one row, after every token before `last`
    last: int  # the last token so far; the end symbol at the start of a text
    entropy: float = field(default=math.nan, compare=False)  # of the distribution of `last`, nats; NaN if unknown


class Scorer:
    """Scores text with a `ModelSession` or an `Ensemble`. Can be pickled and used in other processes.

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

    first_lines = (
        1  # of the first block of `score_lines`; each block is twice as long, so that the first answer is early
    )

    def __init__(self, session: Session):
        if not hasattr(session, "target_logprobs"):
            raise ArgumentTypeError(f"`session` is {shown(session)}; open a model file with keraslm.load instead.")
        self.session = session
        self.tokenizer = session.tokenizer

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.session!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.session,)

    def score(
        self, text: str, prefix: str = "", bos: bool = True, eos: bool = True, separator: str = SEPARATOR
    ) -> float:
        """Natural logarithm of the probability of one line, or of a line after a prefix.

        Args:
            text: a line.
            prefix: beginning of the line, on which the probability is conditional; see `score_texts` for several lines.
            bos: predict the first token from the start of a text. False: the first token is only read, not scored.
            eos: include the end symbol after the text.
            separator: between prefix and text, unless white space is there already.

        Example:
            >>> scorer.score("sat", prefix="the cat", eos=False)   # log p(sat | the cat)
            -4.1
            >>> scorer.score("the cat sat", eos=False) - scorer.score("the cat", eos=False)
            -4.1
        """
        line = one_line(arguments.text(text, "text"))
        before = one_line(arguments.text(prefix, "prefix"), "prefix")
        return next(score_texts(self, [(before, line)], Ends(bos, eos, separator), "sentence")).logprob

    def logprobs(self, texts: Iterable[str], context: str = "sentence") -> list[NDArray[np.float64]]:
        """Log-probability of each token of each line, natural logarithm, `<eos>` last."""
        return [line.logprobs for line in self.score_lines(arguments.texts(texts, "texts"), context)]

    def perplexity(self, texts: Iterable[str], context: str = "sentence") -> float:
        """`exp(-sum of logprobs / tokens)` over all lines, including each `<eos>`; NaN without lines."""
        scores = self.logprobs(texts, context)
        return perplexity(-math.fsum(map(math.fsum, scores)), sum(map(len, scores)))

    def begin(self) -> Context:
        """The start of a text."""
        return Context(self.session.zero_state(1), self.session.info.bos_id)

    def advance(self, context: Context, token: int) -> tuple[float, Context]:
        """Append one token to a text: its log-probability, natural logarithm, and the position after it.

        The state is carried through end symbols, as with `context="document"`; for a new sentence, `begin` again.

        Raises:
            InputError: an id outside the vocabulary.
        """
        _checked(context)
        target = id_array([[token]], "token")
        check_ids(target, self.session.info.vocab_size, "token")
        found, state = self.session.target_logprobs([[context.last]], target, context.state)
        return float(found[0, 0]), Context(state, int(token))

    def advance_all(self, context: Context, tokens: Sequence[int] | Ids) -> tuple[NDArray[np.float64], Context]:
        """Append any number of tokens: their log-probabilities, float64 `(tokens,)`, and the position after them."""
        _checked(context)
        ids = id_array(tokens, "tokens")
        if ids.shape == (0,):
            return np.zeros(0), context
        check_ids(ids[None], self.session.info.vocab_size, "tokens")
        measures, after = self._score_alone(ids, context, Wanted())
        return measures[0], after

    def next_logprobs(self, context: Context) -> NDArray[np.float32]:
        """The distribution of the next token: natural logarithms, float32 `(V,)`."""
        _checked(context)
        return self.session.run([[context.last]], context.state)[0][0, 0]

    def score_lines(
        self,
        lines: Iterable[Line],
        context: str = "sentence",
        distributions: bool = False,
        lines_ahead: int = LINES_AHEAD,
        boundary: Flags | None = None,
        bos: bool = True,
    ) -> Iterator[LineScore]:
        """Score lines as they are read, one result per line, in order.

        Args:
            lines: with or without their line ends; a blank line is scored as `<eos>` alone. None marks the end of a
                file.
            context: `"sentence"`, `"paragraph"` or `"document"`.
            distributions: also compute ranks and entropies, which is slower.
            lines_ahead: largest number of lines that are read ahead and scored side by side.
            boundary: tokens that can follow a complete word, bool `(V,)`; see `keraslm.scoring.words`.
            bos: predict the first token of each text. False: it is only read; its log-probability is NaN, its rank 0.

        Raises:
            ArgumentTypeError: lines that are no strings; the lines before are scored first.
            UsageError: an unknown context, or `lines_ahead` below 1.
            TextError: a line end inside a line.
        """
        arguments.choice(context, "context", CONTEXTS)
        ahead = arguments.integer(lines_ahead, "lines_ahead", 1)
        if boundary is not None:
            boundary, size = np.asarray(boundary), self.session.info.vocab_size
            if boundary.dtype != np.bool_ or boundary.shape != (size,):
                raise ArgumentTypeError(f"`boundary` is {shown(boundary)}, but {size} bools are expected.")
        wanted = Wanted(arguments.switch(distributions, "distributions"), boundary)
        items = arguments.each(lines, "lines", "strings")
        checked = (line if line is None else arguments.text(line, place) for line, place in items)
        return self._score(checked, context, wanted, ahead, arguments.switch(bos, "bos"))

    def score_texts(
        self,
        texts: Iterable[Text],
        *,
        bos: bool = True,
        eos: bool = True,
        separator: str = SEPARATOR,
        context: str = "document",
        distributions: bool = False,
        lines_ahead: int = LINES_AHEAD,
    ) -> Iterator[TextScore]:
        """Score texts that may have several lines, or texts after a prefix, one result per text, in order.

        Args:
            texts: strings, or pairs of a prefix and a text.
            bos, eos, separator: as for `score`.
            context: how far the state is carried within a text and its prefix.
            distributions, lines_ahead: as for `score_lines`.

        Example:
            >>> [found.logprob for found in scorer.score_texts([("the cat", "sat"), "two\nlines"])]
            [-6.2, -21.4]
        """
        return score_texts(self, texts, Ends(bos, eos, separator), context, distributions, lines_ahead)

    def _score(
        self, lines: Iterable[Line], context: str, wanted: Wanted, lines_ahead: int, bos: bool
    ) -> Iterator[LineScore]:
        carried: Context | None = None
        for block in blocks(lines, lines_ahead, 2, lambda line: [line or ""], self.first_lines):
            texts = [one_line(line) for line in block if line is not None]
            found = iter(self.tokenizer.encode_lines(texts))
            ids = [None if line is None else next(found) for line in block]
            rows, inside = cut(ids, context, self.session.info.eos_id, carried.last if carried else None)
            scores: dict[int, Measures] = {}
            for row in rows:
                if row.continues or row.open:
                    scores[id(row)], carried = self._score_alone(*self._start(row, carried, bos), wanted)
            complete = sorted((row for row in rows if not (row.continues or row.open)), key=len, reverse=True)
            for first in range(0, len(complete), MAX_ROWS):
                group = complete[first : first + MAX_ROWS]
                measures = self._score_group([self._start(row, None, bos) for row in group], wanted)
                scores |= {id(row): part for row, part in zip(group, measures, strict=True)}
            if not inside:
                carried = None
            own = [line for line in ids if line is not None]
            yield from self._line_scores(texts, own, [_filled(scores[id(row)], len(row)) for row in rows], bos)

    def _start(self, row: Row, carried: Context | None, bos: bool) -> tuple[Ids, Context]:
        """The tokens of a row that are predicted, and the position before them."""
        if carried and row.continues:
            return row.ids, carried
        start = self.begin()
        return (row.ids, start) if bos else (row.ids[1:], replace(start, last=int(row.ids[0])))

    def _score_alone(self, ids: NDArray[Any], context: Context, wanted: Wanted) -> tuple[Measures, Context]:
        """Measures of the tokens of one row, `(M, tokens)`, and the position after them."""
        if not len(ids):
            return np.zeros((wanted.count, 0)), context
        targets = ids.astype(np.int64)
        inputs = np.concatenate([[context.last], targets[:-1]])
        parts, state, steps = [], context.state, self._steps(1)
        for start in range(0, len(ids), steps):
            part = slice(start, start + steps)
            found, state = self._call(inputs[None, part], targets[None, part], state, wanted)
            parts.append(found[:, 0])
        measures = with_reductions(np.concatenate(parts, axis=1), context.entropy)
        return measures, Context(state, int(ids[-1]), float(measures[2, -1]) if wanted.everything else math.nan)

    def _score_group(self, texts: Sequence[tuple[Ids, Context]], wanted: Wanted) -> list[Measures]:
        """Measures of texts side by side, the longest first, each from a zero state; `(M, tokens)` each."""
        rows, starts = zip(*texts, strict=True)
        length = len(rows[0])
        lasts = [start.last for start in starts]
        inputs, targets = side_by_side(rows, lasts, self.session.info.eos_id)  # [N, T]
        state, parts, start = self.session.zero_state(len(rows)), [], 0
        while start < length:
            alive = sum(len(ids) > start for ids in rows)
            part = slice(start, start + self._steps(alive))
            found, state = self._call(inputs[:alive, part], targets[:alive, part], state.select(slice(alive)), wanted)
            parts.append(found)
            start = part.stop
        measures = []
        for number, ids in enumerate(rows):
            own = [part[:, number] for part in parts if number < part.shape[1]]
            found = np.concatenate(own, axis=1) if own else np.zeros((wanted.count, 0))
            measures.append(with_reductions(found[:, : len(ids)], math.nan))
        return measures

    def _steps(self, rows: int) -> int:
        return steps_of(rows, self.session.logits_per_token)

    def _call(
        self, inputs: NDArray[np.int64], targets: NDArray[np.int64], state: State, wanted: Wanted
    ) -> tuple[Measures, State]:
        if not wanted.everything:
            found, state = self.session.target_logprobs(inputs, targets, state)  # [N, T]
            return found[None].astype(np.float64), state
        log_probs, state = self.session.run(inputs, state)  # [N, T, V]
        return measure(log_probs, targets, wanted, self.session.info.eos_id), state

    def _line_scores(
        self, texts: Sequence[str], lines: Sequence[Ids], scores: Sequence[Measures], bos: bool
    ) -> Iterator[LineScore]:
        if not texts:
            return
        whole, unk_id, start = np.concatenate(scores, axis=1), self.session.info.unk_id, 0
        for text, ids in zip(texts, lines, strict=True):
            end = start + len(ids)
            yield line_score(text, ids, ids == unk_id, whole[:, start:end], bos)
            start = end


def steps_of(rows: int, logits_per_token: int) -> int:
    """Number of tokens per row in one call of the network."""
    return max(1, min(MAX_STEPS, MAX_LOGITS // (rows * logits_per_token)))


def _filled(measures: Measures, tokens: int) -> Measures:
    """Measures `(M, tokens)`, with NaN for a first token that was not predicted."""
    return np.pad(measures, ((0, 0), (tokens - measures.shape[1], 0)), constant_values=math.nan)


def _checked(context: Any) -> None:
    arguments.instance(context, Context, "context", "a position from `begin` or `advance`")


def load(models: Models, provider: str = "auto", threads: int | None = None) -> Scorer:
    """Open a model file for scoring.

    Args:
        models: path of a file, or of several with the same tokenizer, whose probabilities are averaged.
        provider, threads: as for `ModelSession`.

    Raises:
        ModelFileError: a file is not a keraslm model, or has a different tokenizer.
        UsageError: no path, an unknown provider, or CUDA was requested but is not available.

    Example:
        >>> keraslm.load(["one.onnx", "two.onnx", "three.onnx"]).score("the cat sat")
        -20.9
    """
    return Scorer(open_models(models, provider, threads))
