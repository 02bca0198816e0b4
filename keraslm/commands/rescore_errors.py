"""The flags of `keraslm rescore` that count errors, and the tables that they print."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from keraslm.commands.flags import Integer, OptionalInteger, Switch, print_note
from keraslm.errors import UsageError

if TYPE_CHECKING:
    from keraslm.rescoring.rescore import Rescored
    from keraslm.text.files import TextFile

Numbers = Annotated[str, Parameter(allow_leading_hyphen=True)]  # -1,0,1


@dataclass(frozen=True)
class ErrorFlags:
    """Flags of error counts.

    Parameters
    ----------
    references
        References: utterance and text per line. Prints error rates of the first pass, the oracle and the rescored
        lists.
    tune
        Search the grid of --weights and --word-penalties for the fewest errors, and print the grid.
    weights
        Weights to try: first:last:step, or numbers separated by commas. Default: 0:2:0.1.
    word_penalties
        Word penalties to try. Default: -2:2:0.5.
    bootstrap
        Number of resamples of the utterances, such as 10000. Adds the 95 % confidence interval of the error rate, and
        the probability of improvement over the first pass.
    seed
        Of the resamples.
    by_utterance
        Print one row per utterance instead: errors and texts of the first pass, the oracle and the best hypothesis.
    """

    references: str | None = None
    tune: Switch = False
    weights: Numbers | None = None
    word_penalties: Numbers | None = None
    bootstrap: OptionalInteger = None
    seed: Integer = 0
    by_utterance: Switch = False

    def check(self) -> None:
        """Raise a `UsageError` for flags that do not combine, or if the package that counts is missing."""
        from keraslm.system.backend import require

        given = {"--tune": self.tune, "--bootstrap": self.bootstrap is not None, "--by-utterance": self.by_utterance}
        if flag := next((flag for flag, is_given in given.items() if is_given and not self.references), ""):
            raise UsageError(f"{flag} counts errors: add --references FILE.")
        if not self.tune and (self.weights or self.word_penalties):
            raise UsageError(f"{'--weights' if self.weights else '--word-penalties'} are values to try: add --tune.")
        if self.by_utterance and (self.tune or self.bootstrap is not None):
            raise UsageError("--by-utterance prints the errors at one setting: leave out --tune and --bootstrap.")
        if self.bootstrap is not None and self.bootstrap < 1:
            raise UsageError(f"--bootstrap is {self.bootstrap}, but must be at least 1.")
        if self.seed < 0:
            raise UsageError(f"--seed is {self.seed}, but must be 0 or more.")
        if self.references:
            require("jiwer", extra="wer", purpose="Counting errors")

    def grid(self) -> list[tuple[float, float]]:
        """The pairs of a weight and a word penalty to try."""
        weights = numbers("--weights", self.weights or "0:2:0.1")
        penalties = numbers("--word-penalties", self.word_penalties or "-2:2:0.5")
        return [(weight, penalty) for weight in weights for penalty in penalties]


Counting = Annotated[ErrorFlags, Parameter(name="*", group=Group("Error rates", sort_key=1))]
NO_COUNTING = ErrorFlags()


def error_table(
    lists: Iterator[Rescored], references: TextFile, unit: str, points: list[tuple[float, float]], flags: ErrorFlags
) -> Iterator[list[str]]:
    """The table of errors at some points, or of the utterances, as cells; the utterances are read on the way."""
    from keraslm.rescoring.formats.kaldi import read_keyed
    from keraslm.rescoring.word_errors import ListErrors, error_rows, utterance_rows

    errors = ListErrors(read_keyed(references), unit)
    if flags.by_utterance:
        yield from utterance_rows(lists, errors)
    else:
        for each in lists:
            errors.add(each)
    if errors.missing:
        print_note(f"{references.name}: {errors.missing} utterances have no hypotheses and are not counted")
    if not flags.by_utterance:
        yield from error_rows(errors, points, flags.tune, flags.bootstrap, flags.seed)


def numbers(flag: str, text: str) -> tuple[float, ...]:
    """`"0:1:0.5"` or `"0,0.5,1"` as numbers."""
    try:
        if ":" not in text:
            return tuple(float(part) for part in text.split(",")) if text else ()
        first, last, step = (float(part) for part in text.split(":"))
        count = round((last - first) / step * (1 + 1e-9)) if step else -1
        if not 0 <= count <= 10_000:
            raise ValueError
        return tuple(round(first + number * step, 10) for number in range(count + 1))
    except (ValueError, OverflowError):
        raise UsageError(f"{flag} {text}: expected numbers separated by commas, or first:last:step.") from None
