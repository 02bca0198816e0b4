"""A scorer mixed with an n-gram model, word by word:

    p(w | h) = weight * p_ngram(w | h) + (1 - weight) * p_lstm(w | h)

This is the mixture of Mikolov et al. 2010, "Recurrent neural network based language model", and of SRILM's
`ngram -mix-lm -bayes 0`: probabilities are interpolated at each word, not totals of sentences or logarithms. The end of
a line is a word, `</s>`.

**Words.** The tokens of a word tokenizer are the words that the n-gram model reads, cut and lower-cased by the
tokenizer. All other tokenizers cut words into parts: there a word is what stands between white space, and its
probability is corrected as with `--spaces after` (`keraslm.scoring.words`). Without the correction, `p_lstm` would be
the probability that the text continues with these letters, which longer words do too, so that the sum over all words
would exceed 1.

**Unknown words.** The mixture is a distribution over the words that at least one model knows, and `<unk>`: a word that
neither knows. A model gives the probability 0 to a word that only the other one knows, and its `<unk>` to a word that
neither knows; then all probabilities add up to 1. If instead each model gave its `<unk>` to every word unknown to it,
that probability would be counted once per word. SRILM does the same: models that are mixed share one vocabulary, and
have the probability 0 for a word without a 1-gram (`lm/src/NgramLM.cc`, `wordProbBO`). So does the RNNLM toolkit
(`rnnlmlib.cpp`, `0 * lambda + prob_other * (1 - lambda)`).

**Context.** The n-gram model starts again with `<s>` after each end of a line and each `<eos>` written in the text. The
state of the LSTM is carried as `context` says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from keraslm import arguments
from keraslm.errors import UsageError
from keraslm.ngram.model import END_OF_SENTENCE, Ngram, Word
from keraslm.ngram.opening import load_ngram
from keraslm.perplexity import perplexity
from keraslm.scoring.batching import LINES_AHEAD, Line
from keraslm.scoring.ensemble import Models
from keraslm.scoring.measures import Flags, Floats, LineScore
from keraslm.scoring.scorer import Scorer, load
from keraslm.scoring.words import boundary, word_scores
from keraslm.text.encoders import Ids
from keraslm.text.tokenizer import UNK

DEFAULT_WEIGHT = 0.5


@dataclass(frozen=True)
class WordLogprobs:
    """Log-probabilities of the words of a text under both models, natural logarithms, `(words,)`.

    A word that a model does not know has the log-probability of its `<unk>` here.
    """

    lstm: Floats
    ngram: Floats
    in_lstm: Flags  # which words the LSTM knows
    in_ngram: Flags

    def mixed(self, weight: float) -> Floats:
        """Log-probabilities under the mixture; `weight` is the share of the n-gram model."""
        lstm, ngram = self.shared()
        with np.errstate(divide="ignore"):
            return np.asarray(np.logaddexp(np.log(weight) + ngram, np.log1p(-weight) + lstm))

    def shared(self) -> tuple[Floats, Floats]:
        """Log-probabilities under the LSTM and the n-gram model, -inf for a word that only the other knows."""
        lstm = np.where(self.in_ngram & ~self.in_lstm, -np.inf, self.lstm)
        return lstm, np.where(self.in_lstm & ~self.in_ngram, -np.inf, self.ngram)


@dataclass
class KnownWords:
    """Number of words, ends of lines included, by the models that know them."""

    both: int = 0
    lstm: int = 0  # only the LSTM
    ngram: int = 0  # only the n-gram model
    neither: int = 0

    def add(self, words: WordLogprobs) -> None:
        lstm, ngram = words.in_lstm, words.in_ngram
        self.both += int((lstm & ngram).sum())
        self.lstm += int((lstm & ~ngram).sum())
        self.ngram += int((ngram & ~lstm).sum())
        self.neither += int((~lstm & ~ngram).sum())

    @property
    def words(self) -> int:
        return self.both + self.lstm + self.ngram + self.neither


class MixedScorer:
    """Scores text with the mixture of a `Scorer` and an n-gram model. Can be pickled and used in other processes.

    The methods are those of `Scorer` that score lines. Where a tokenizer cuts words into parts, the "tokens" of the
    results are words: counts and perplexities are those of words and ends of lines (`LineScore.by_words`). `oov` marks
    the words that neither model knows.

    Args:
        scorer: the LSTM.
        ngram: the n-gram model.
        weight: share of the n-gram model in the mixture, 0 to 1.

    Attributes:
        known: which models knew the words that have been scored so far.

    Raises:
        UsageError: a weight below 0 or above 1.

    Example:
        >>> mixed = keraslm.mix("model.onnx", "trigrams.arpa.gz", weight=0.4)
        >>> mixed.perplexity(["the cat sat", "on the mat"])
        187.2
    """

    def __init__(self, scorer: Scorer, ngram: Ngram, weight: float = DEFAULT_WEIGHT):
        self.scorer = arguments.instance(scorer, Scorer, "scorer", "a Scorer")
        self.ngram = arguments.instance(ngram, Ngram, "ngram", "an n-gram model from keraslm.load_ngram")
        self.weight = checked_weight(weight)
        self.known = KnownWords()
        self.session, self.tokenizer = scorer.session, scorer.tokenizer
        self.by_words = not self.tokenizer.reads_words
        self.boundary = boundary(self.tokenizer) if self.by_words else None

    def __repr__(self) -> str:
        return f"MixedScorer({self.scorer!r}, {self.ngram!r}, weight={self.weight:g})"

    def score(self, text: str) -> float:
        """Natural logarithm of the probability of one line, including its end."""
        return next(self.score_lines([arguments.text(text, "text")])).logprob

    def logprobs(self, texts: Iterable[str], context: str = "sentence") -> list[Floats]:
        """Log-probability of each word of each line, natural logarithm, the end of the line last."""
        return [line.logprobs for line in self.score_lines(arguments.texts(texts, "texts"), context)]

    def perplexity(self, texts: Iterable[str], context: str = "sentence") -> float:
        """`exp(-sum of logprobs / words)` over all lines, including each end; NaN without lines."""
        scores = self.logprobs(texts, context)
        return perplexity(-math.fsum(map(math.fsum, scores)), sum(map(len, scores)))

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

        The arguments are those of `Scorer.score_lines`. `boundary` has no effect: the correction is always made where a
        tokenizer cuts words into parts.

        Raises:
            UsageError: `distributions`, which a mixture does not have, or `bos=False`.
        """
        if not arguments.switch(bos, "bos"):
            raise UsageError("An n-gram model begins each line with <s>: leave out `bos=False`, or `ngram`.")
        if arguments.switch(distributions, "distributions"):
            raise UsageError(
                "Ranks and entropies need complete distributions, but a mixture with an n-gram model computes the "
                "probabilities of the words of the text only."
            )
        return map(self.mix, self.scorer.score_lines(lines, context, False, lines_ahead, self.boundary))

    def mix(self, line: LineScore) -> LineScore:
        """The scores of a line under the mixture; the LSTM has scored it, with this scorer's `boundary`."""
        words = self.word_logprobs(line)
        self.known.add(words)
        logprobs, oov = words.mixed(self.weight), ~(words.in_lstm | words.in_ngram)
        if not self.by_words:
            return replace(line, logprobs=logprobs, oov=oov)
        firsts = [word.tokens[0] for word in word_scores(line, self.tokenizer)]
        return LineScore(line.text, line.ids[firsts], logprobs, oov, by_words=True)

    def word_logprobs(self, line: LineScore) -> WordLogprobs:
        """Log-probabilities of the words of a line under each model; `line` as for `mix`."""
        if self.by_words:
            words = word_scores(line, self.tokenizer)
            lstm, unknown = np.array([word.logprob for word in words]), np.array([word.oov for word in words])
            names = [self._name(word.word, line.ids[slice(*word.tokens)]) for word in words]
            names[-1], unknown[-1] = END_OF_SENTENCE, False  # also after white space that is <unk>
        else:
            lstm, unknown, spans = line.logprobs, line.oov, self.tokenizer.offsets(line.text)
            names = [self._name(line.text[begin:end], line.ids[[n]]) for n, (begin, end) in enumerate(spans.tolist())]
        # Only where it is ordinary text, a written <unk> is known to the LSTM.
        known = [self.ngram.knows(name) or (self.by_words and name == UNK) for name in names]
        return WordLogprobs(lstm, self.ngram.logprobs(names), ~unknown, np.array(known))

    def _name(self, text: str, tokens: Ids) -> Word:
        """A word as the n-gram model reads it; one that is written as the end symbol ends a sentence."""
        is_end = len(tokens) > 0 and bool((tokens == self.tokenizer.eos_id).all())
        return END_OF_SENTENCE if is_end else self.tokenizer.lowered(text)


def checked_weight(weight: float) -> float:
    """The share of an n-gram model; raises a `UsageError` unless it is between 0 and 1."""
    found = arguments.number(weight, "ngram_weight")
    if not 0 <= found <= 1:
        raise UsageError(f"`ngram_weight` is {found:g}, but must be between 0 and 1.")
    return found


def mix(
    models: Scorer | Models,
    ngram: Ngram | str | Path,
    weight: float = DEFAULT_WEIGHT,
    provider: str = "auto",
    threads: int | None = None,
) -> MixedScorer:
    """Mix a model with an n-gram model, word by word; `keraslm.ngram.mixed` defines the mixture.

    Args:
        models: a `Scorer`; or path of a model file, or of several with the same tokenizer.
        ngram: path of an ARPA file or of a KenLM binary, or a model from `load_ngram`.
        weight: share of the n-gram model, 0 to 1; `tune_mix` finds the best one.
        provider, threads: as for `ModelSession`.

    Raises:
        UsageError: a weight below 0 or above 1.
        TextError: the n-gram model is malformed, with file and line.
        ModelFileError: a file is not a keraslm model.

    Example:
        >>> keraslm.mix("model.onnx", "trigrams.arpa.gz", weight=0.4).score("the cat sat")
        -20.3
    """
    checked_weight(weight)
    scorer = models if isinstance(models, Scorer) else load(models, provider, threads)
    return MixedScorer(scorer, ngram if isinstance(ngram, Ngram) else load_ngram(ngram), weight)
