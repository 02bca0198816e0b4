"""How scores are written: one value that commands, workers and programs share."""

from __future__ import annotations

import math
from dataclasses import dataclass

from keraslm.errors import UsageError
from keraslm.scoring.batching import CONTEXTS, LINES_AHEAD

LEVELS = ("token", "word", "sentence", "summary")
FORMATS = ("tsv", "jsonl", "kenlm", "srilm")
BASES = {"": math.nan, "2": 2.0, "e": math.e, "10": 10.0}

COLUMNS = {
    "token": (
        "sentence_id",
        "token_id",
        "token",
        "id",
        "logprob",
        "surprisal",
        "rank",
        "entropy",
        "entropy_reduction",
        "oov",
        "start",
        "end",
    ),
    "word": ("sentence_id", "word_id", "word", "tokens", "logprob", "surprisal", "oov", "start", "end"),
    "sentence": (
        "sentence_id",
        "tokens",
        "oovs",
        "words",
        "characters",
        "bytes",
        "logprob",
        "surprisal",
        "perplexity",
        "bits_per_character",
        "bits_per_byte",
    ),
}
DEFAULT_COLUMNS = {
    "token": ("sentence_id", "token_id", "token", "logprob", "surprisal"),
    "word": ("sentence_id", "word_id", "word", "logprob", "surprisal", "oov"),
    "sentence": ("sentence_id", "tokens", "oovs", "logprob", "surprisal", "perplexity"),
}
OF_DISTRIBUTIONS = {"rank", "entropy", "entropy_reduction"}


@dataclass(frozen=True)
class ScoreOptions:
    """What is scored and how it is written; plain values, checked when built.

    Attributes:
        level: `"token"`, `"word"` (between white space), `"sentence"` (a line) or `"summary"`.
        format: `"tsv"`, `"jsonl"`, or that of another tool: `"kenlm"` (its `query`), `"srilm"` (`ngram -ppl -debug`).
        columns: of a table, in order; empty takes `DEFAULT_COLUMNS`.
        base: of every logarithm: `"2"`, `"e"` or `"10"`; empty gives log-probabilities in nats, surprisal and entropies
            in bits. The formats of other tools are in base 10.
        unk: `"include"`: a token `<unk>` costs what it costs; `"exclude"`: its row has no number, and sums and counts
            leave it out.
        context: `"sentence"`, `"paragraph"` or `"document"`.
        window: lines that are read ahead and scored side by side.
        spaces: where the space between two words belongs when words are scored by their tokens: `"before"` the second,
            as tokenizers write it, or `"after"` the first: the correction of Pimentel and Meister 2024.
        signature: say by which model and settings the scores were made.

    Raises:
        UsageError: an unknown value, or two that contradict each other.

    Example:
        >>> ScoreOptions(level="token", columns=("token", "surprisal", "rank")).needs_distributions
        True
    """

    level: str = "token"
    format: str = "tsv"
    columns: tuple[str, ...] = ()
    base: str = ""
    unk: str = "include"
    context: str = "sentence"
    window: int = LINES_AHEAD
    spaces: str = "before"
    signature: bool = False

    def __post_init__(self) -> None:
        for name, known in (
            ("level", LEVELS),
            ("format", FORMATS),
            ("base", tuple(BASES)),
            ("unk", ("include", "exclude")),
            ("context", CONTEXTS),
            ("spaces", ("before", "after")),
        ):
            if getattr(self, name) not in known:
                choices = ", ".join(value for value in known if value)
                raise UsageError(f"{name} is {getattr(self, name)!r}, but must be one of {choices}.")
        if self.window < 1:
            raise UsageError(f"window is {self.window}, but must be at least 1 line.")
        self._check_columns()
        if self.level == "summary" and self.base:
            raise UsageError("A summary gives nats and bits, whatever --base: leave it out, or choose another --level.")
        if self.format in ("kenlm", "srilm") and self.base not in ("", "10"):
            raise UsageError(
                f"--format {self.format} is in base 10, as that tool writes it: leave out --base {self.base}."
            )
        if self.format == "kenlm" and self.unk == "exclude":
            raise UsageError("--format kenlm gives perplexity with and without OOVs: leave out --unk exclude.")
        if self.spaces == "after" and self.level != "word":
            raise UsageError("--spaces after belongs to --level word: it moves the space between two words.")

    def _check_columns(self) -> None:
        if not self.columns:
            return
        if self.format not in ("tsv", "jsonl") or self.level == "summary":
            what = f"--format {self.format}" if self.level != "summary" else "--level summary"
            raise UsageError(f"--columns chooses the columns of a table; {what} has none.")
        known = COLUMNS[self.level]
        for name in self.columns:
            if name not in known:
                raise UsageError(
                    f"Unknown column {name!r}. The columns of --level {self.level} are: {', '.join(known)}."
                )

    @property
    def shown(self) -> tuple[str, ...]:
        """The columns of the table."""
        return self.columns or DEFAULT_COLUMNS[self.level]

    @property
    def needs_distributions(self) -> bool:
        """Whether a column takes the whole distribution at each token."""
        return bool(OF_DISTRIBUTIONS & {*self.columns})

    @property
    def logprob_scale(self) -> float:
        """What a log-probability in nats is multiplied by."""
        return 1.0 / math.log(BASES[self.base]) if self.base else 1.0

    @property
    def surprisal_scale(self) -> float:
        """What a surprisal or an entropy in nats is multiplied by."""
        return 1.0 / math.log(BASES[self.base] if self.base else 2.0)
