"""The settings that determine how scores are computed and written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from keraslm import arguments
from keraslm.config import Context
from keraslm.errors import UsageError
from keraslm.perplexity import BASES, UNITS, Base
from keraslm.report.table_input import TableInput
from keraslm.scoring.batching import LINES_AHEAD
from keraslm.scoring.conditional import SEPARATOR
from keraslm.scoring.texts import Ends

COLUMNS = {
    "token": (
        *("sentence_id", "token_id", "token", "id", "logprob", "surprisal"),
        *("rank", "entropy", "entropy_reduction", "oov", "start", "end"),
    ),
    "word": (
        *("sentence_id", "word_id", "word", "tokens", "logprob", "surprisal", "entropy", "entropy_reduction"),
        *("oov", "start", "end", "length", "frequency", "region"),
    ),
    "region": (
        *("region_id", "region", "text", "tokens", "logprob", "surprisal", "entropy", "entropy_reduction"),
        *("oov", "start", "end", "length"),
    ),
    "sentence": (
        *("sentence_id", "tokens", "oovs", "words", "characters", "bytes"),
        *("logprob", "surprisal", "perplexity", "bits_per_token", "bits_per_character", "bits_per_byte"),
    ),
}
DEFAULT_COLUMNS = {
    "token": ("sentence_id", "token_id", "token", "logprob", "surprisal"),
    "word": ("sentence_id", "word_id", "word", "logprob", "surprisal", "oov"),
    "region": ("region_id", "region", "text", "logprob", "surprisal", "oov"),
    "sentence": ("sentence_id", "tokens", "oovs", "logprob", "surprisal", "perplexity"),
}
OF_DISTRIBUTIONS = {"rank", "entropy", "entropy_reduction"}
# Columns of words and regions that also exist for those before, such as surprisal_lag1 and surprisal_lag2.
LAGGED = ("logprob", "surprisal", "entropy", "entropy_reduction", "length", "frequency")
_LAG = re.compile(f"({'|'.join(LAGGED)})_lag([1-9][0-9]?)")

Level = Literal["token", "word", "region", "sentence", "summary"]
Format = Literal["tsv", "csv", "raw", "jsonl", "kenlm", "srilm"]
Unk = Literal["include", "exclude"]
Spaces = Literal["before", "after"]


def lag_of(column: str) -> tuple[str, int]:
    """The column that a lagged one repeats, and how many words or regions before; 0 if it is no lagged one.

    Example:
        >>> lag_of("surprisal_lag2"), lag_of("surprisal")
        (('surprisal', 2), ('surprisal', 0))
    """
    found = _LAG.fullmatch(column)
    return (found[1], int(found[2])) if found else (column, 0)


_CHOICES = {"level": Level, "format": Format, "base": Base, "unk": Unk, "context": Context, "spaces": Spaces}


@dataclass(frozen=True)
class ScoreOptions:
    """How scores are computed and written; checked when built.

    Attributes:
        level: one row per `"token"`, `"word"` (between white space), `"region"` or `"sentence"` (a line), or one
            `"summary"`.
        format: a table as `"tsv"`, `"csv"`, `"raw"` (tabs without quotes; see `keraslm.text.rows`) or `"jsonl"`, or the
            format of a different tool: `"kenlm"` (`query`), `"srilm"` (`ngram -ppl`).
        columns: columns of the table, in order; None means `DEFAULT_COLUMNS`.
        base: base of every logarithm; None means nats for log-probabilities, bits for surprisal and entropies. The
            formats of other tools are in base 10.
        unk: `"include"` counts `<unk>` as any other token; `"exclude"` leaves it out of sums and counts.
        context: how far the state is carried: `"sentence"`, `"paragraph"` or `"document"`.
        lines_ahead: number of lines that are read ahead and scored side by side.
        spaces: with `level="word"` or `"region"`, `"before"` counts the space between two words as part of the second,
            as tokenizers write it, and `"after"` as part of the first, the correction of Pimentel and Meister 2024.
        signature: add the model and the settings to a summary.
        eos: score the end symbol of each line; of a table, that after each text.
        separator: between a prefix and its text, unless white space is there already.
        frequencies: file of words and their counts, for the column `frequency`; see `keraslm.text.frequencies`.
        table: the columns to read, if the input is a table; None for lines of text.

    Raises:
        UsageError: an unknown value, or values that contradict each other.

    Example:
        >>> ScoreOptions(level="token", columns=("token", "surprisal", "rank")).needs_distributions
        True
    """

    level: Level = "token"
    format: Format = "tsv"
    columns: tuple[str, ...] | None = None
    base: Base | None = None
    unk: Unk = "include"
    context: Context = "sentence"
    lines_ahead: int = LINES_AHEAD
    spaces: Spaces = "before"
    signature: bool = False
    eos: bool = True
    separator: str = SEPARATOR
    frequencies: str | None = None
    table: TableInput | None = None

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            if (name, getattr(self, name)) != ("base", None):
                arguments.choice(getattr(self, name), name, get_args(known))
        arguments.integer(self.lines_ahead, "lines_ahead", 1)
        arguments.switch(self.signature, "signature")
        Ends(True, self.eos, self.separator)
        if self.columns is not None:
            object.__setattr__(self, "columns", tuple(arguments.texts(self.columns, "columns")))
        is_table = self.format not in ("kenlm", "srilm") and self.level != "summary"
        kind = f'level="{self.level}"' if is_table or self.level == "summary" else f'format="{self.format}"'
        if self.columns is not None and not is_table:
            raise UsageError(f"`columns` chooses the columns of a table; `{kind}` has none.")
        arguments.not_empty(columns=self.columns)
        for name in self.columns or ():
            self._check_column(name, kind)
        self._check_table()
        if self.level == "summary" and self.base:
            raise UsageError("A summary is always in nats and bits: leave out `base`, or choose a different `level`.")
        if self.format in ("kenlm", "srilm") and self.base not in (None, "10"):
            raise UsageError(f'`format="{self.format}"` is always in base 10: leave out `base="{self.base}"`.')
        if self.format in ("kenlm", "srilm") and not self.eos:
            raise UsageError(f'`format="{self.format}"` always has the end of each sentence: leave out `eos=False`.')
        if self.unk == "exclude" and (self.format == "kenlm" or (self.level == "summary" and self.format != "srilm")):
            raise UsageError(f'`{kind}` gives perplexity with and without OOVs: leave out `unk="exclude"`.')
        if self.spaces == "after" and self.level not in ("word", "region"):
            raise UsageError('`spaces="after"` moves the space between two words: it needs `level="word"`.')

    def _check_column(self, name: str, kind: str) -> None:
        own, lag = lag_of(name)
        known = COLUMNS[self.level]
        if own not in known or (lag and self.level not in ("word", "region")):
            raise UsageError(f"Unknown column {name!r}. The columns of `{kind}` are: {', '.join(known)}.")
        if own == "frequency" and self.frequencies is None:
            raise UsageError(f"Column {name!r} needs `frequencies`, a file of words and their counts.")
        if own == "region" and not (self.table and self.table.divided):
            raise UsageError("Column 'region' needs `region_column` or `region_separator`.")
        if own == "sentence_id" and self.table:
            raise UsageError("A table has its own columns that identify a text: leave out column 'sentence_id'.")

    def _check_table(self) -> None:
        if self.table and self.format in ("kenlm", "srilm"):
            raise UsageError(f'A table is written as "csv", "tsv", "raw" or "jsonl", but `format` is {self.format}.')
        if self.level == "region" and not (self.table and self.table.divided):
            raise UsageError('`level="region"` needs a table with `region_column` or `region_separator`.')
        if self.frequencies is not None:
            arguments.not_empty(frequencies=arguments.path(self.frequencies, "frequencies"))
            if not any(lag_of(name)[0] == "frequency" for name in self.columns or ()):
                raise UsageError('`frequencies` is for the column "frequency": add it to `columns`.')

    @property
    def ends(self) -> Ends:
        return Ends(True, self.eos, self.separator)

    @property
    def shown(self) -> tuple[str, ...]:
        if self.columns is not None:
            return self.columns
        return tuple(name for name in DEFAULT_COLUMNS[self.level] if not (self.table and name == "sentence_id"))

    @property
    def needs_distributions(self) -> bool:
        """Whether a column needs the complete distribution at each token."""
        return not OF_DISTRIBUTIONS.isdisjoint(lag_of(name)[0] for name in self.columns or ())

    @property
    def by_words(self) -> bool:
        """Whether scores are those of words, not of tokens."""
        return self.level in ("word", "region") or self.format in ("kenlm", "srilm")

    @property
    def counted(self) -> str:
        """What each score belongs to: `"word"` or `"token"`."""
        return "word" if self.by_words else "token"

    @property
    def bases(self) -> tuple[Base, Base]:
        """Base of log-probabilities, and base of surprisals and entropies."""
        if self.format in ("kenlm", "srilm"):
            return "10", "10"
        return self.base or "e", self.base or "2"

    @property
    def logprob_scale(self) -> float:
        """Factor from nats to the unit of log-probabilities."""
        return 1.0 / BASES[self.bases[0]]

    @property
    def surprisal_scale(self) -> float:
        """Factor from nats to the unit of surprisals and entropies."""
        return 1.0 / BASES[self.bases[1]]

    @property
    def surprisal_unit(self) -> str:
        return UNITS[self.bases[1]]

    @property
    def units_per_bit(self) -> float:
        """Factor from bits to the unit of surprisals."""
        return BASES["2"] / BASES[self.bases[1]]
