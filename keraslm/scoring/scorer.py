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
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from keraslm import arguments
from keraslm.config import CONTEXTS
from keraslm.errors import ArgumentTypeError, UsageError, shown
from keraslm.perplexity import perplexity
from keraslm.scoring.batching import LINES_AHEAD, Line
from keraslm.scoring.conditional import SEPARATOR, Joined, after_prefix, without_end
from keraslm.scoring.ensemble import Models, open_models
from keraslm.scoring.measures import Flags, LineScore, Wanted
from keraslm.scoring.rows import Context, Reading, Rows
from keraslm.scoring.session import Session, check_ids, id_array
from keraslm.scoring.texts import Ends, Text, TextScore, score_texts
from keraslm.text.encoders import Ids
from keraslm.text.pieces import one_line

if TYPE_CHECKING:
    from keraslm import ScoredText
    from keraslm.scoring.predict import Prediction


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

    first_lines = 1  # lines of the first block, so that the first answer is early; blocks grow

    def __init__(self, session: Session):
        if not hasattr(session, "target_logprobs"):
            raise ArgumentTypeError(f"`session` is {shown(session)}; open a model file with keraslm.load instead.")
        self.session = session
        self.tokenizer = session.tokenizer
        self._rows = Rows(session)

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
        ends = Ends(bos, eos, separator)
        before = one_line(arguments.text(prefix, "prefix"), "prefix")
        joined = Joined.of(before, one_line(arguments.text(text, "text")), ends.separator)
        line = after_prefix(next(self.score_lines(joined.lines, bos=bos)), self.tokenizer, joined.given, joined.start)
        return (line if eos else without_end(line)).logprob

    def logprobs(self, texts: Iterable[str], context: str = "sentence") -> list[NDArray[np.float64]]:
        """Log-probability of each token of each line, natural logarithm, `<eos>` last."""
        return [line.logprobs for line in self.score_lines(arguments.texts(texts, "texts"), context)]

    def perplexity(self, texts: Iterable[str], context: str = "sentence") -> float:
        """`exp(-sum of logprobs / tokens)` over all lines, including each `<eos>`; NaN without lines."""
        scores = self.logprobs(texts, context)
        return perplexity(-math.fsum(map(math.fsum, scores)), sum(map(len, scores)))

    def begin(self) -> Context:
        """The start of a text."""
        return self._rows.begin()

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
        measures, after = self._rows.alone(ids, context, Wanted())
        return measures[0], after

    def next_logprobs(self, context: Context) -> NDArray[np.float32]:
        """The distribution of the next token: natural logarithms, float32 `(V,)`."""
        _checked(context)
        return self.session.run([[context.last]], context.state)[0][0, 0]

    def predict(
        self,
        context: Context | str,
        k: int = 10,
        *,
        begun: str = "",
        allowed: Iterable[str] | None = None,
        exclude: Iterable[str] = (),
    ) -> list[Prediction]:
        """The most probable next words: `keraslm.predict` after a text, `keraslm.predict_from` after a position.

        Args:
            context: a text, or a position that the caller keeps.
            k: largest number of words.
            begun: after a position, the part of the next word that has been typed.
            allowed, exclude: as for `keraslm.predict`.

        Example:
            >>> scorer.predict("the comp", k=2)
            [Prediction(word='company', probability=0.021), Prediction(word='computer', probability=0.008)]
        """
        from keraslm.scoring import predict

        if not isinstance(context, str):
            return predict.predict_from(self.session, context, begun, count=k, allowed=allowed, exclude=exclude)
        if begun:
            raise UsageError("`begun` continues a position: add it to the text instead.")
        return predict.predict(self, context, k, allowed=allowed, exclude=exclude).words

    def table(self, texts: Iterable[Line], level: Any = "word", **options: Any) -> dict[str, Any]:
        """The scores of lines as columns: `keraslm.table(self, texts, level, ...)`."""
        from keraslm import table

        return table(self, texts, level, **options)

    def show(self, text: str | Iterable[str], level: Any = "token", **options: Any) -> ScoredText:
        """A text that a notebook shows coloured by surprisal: `keraslm.ScoredText(self, text, level, ...)`."""
        from keraslm import ScoredText

        return ScoredText(self, text, level, **options)

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
        return self._rows.score(
            checked, Reading(context, wanted, ahead, arguments.switch(bos, "bos"), self.first_lines)
        )

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
