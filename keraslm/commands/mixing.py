"""The flags for mixing a model with an n-gram model, which several commands share, and the scorer that they open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from keraslm.commands.flags import TextName, print_note
from keraslm.config import user_path
from keraslm.errors import UsageError

if TYPE_CHECKING:
    from keraslm.ngram.mixed import MixedScorer
    from keraslm.scoring.scorer import Scorer
    from keraslm.text.files import TextFile


@dataclass(frozen=True)
class Mixing:
    """An n-gram model, and its share in the mixture.

    Parameters
    ----------
    ngram
        N-gram model to mix the model with, word by word: an ARPA file, plain or compressed, or a binary of KenLM.
    ngram_weight
        Share of the n-gram model in the mixture, 0 to 1. Default: 0.5.
    ngram_tune
        Text on which to find the best share first, by EM.
    """

    ngram: Path | None = None
    ngram_weight: float | None = None
    ngram_tune: TextName | None = None

    def __post_init__(self) -> None:
        if self.ngram is None and (self.ngram_weight is not None or self.ngram_tune is not None):
            raise UsageError("--ngram-weight and --ngram-tune need an n-gram model: add --ngram FILE.")
        if self.ngram_weight is not None and self.ngram_tune is not None:
            raise UsageError("--ngram-tune finds the best weight: leave out --ngram-weight.")
        if self.ngram_weight is not None and not 0 <= self.ngram_weight <= 1:
            raise UsageError(f"--ngram-weight is {self.ngram_weight:g}, but must be between 0 and 1.")

    @property
    def weight(self) -> float:
        return 0.5 if self.ngram_weight is None else self.ngram_weight

    @property
    def files(self) -> list[str]:
        """The files that are read."""
        from keraslm.text.paths import find_file

        tuned = [] if self.ngram_tune is None else [find_file(self.ngram_tune)]
        return tuned if self.ngram is None else [str(user_path(self.ngram)), *tuned]


NO_NGRAM = Mixing()
MixingFlags = Annotated[
    Mixing, Parameter(name="*", group=Group("Mixing with an n-gram model", sort_key=1), accepts_keys=True)
]


@dataclass(frozen=True)
class Opening:
    """How the model computes and how texts are read."""

    provider: str
    errors: str
    encoding: str
    context: str = "sentence"


def open_scorer(models: Sequence[Path], mixing: Mixing, opening: Opening) -> Scorer | MixedScorer:
    """The model files as a scorer, mixed with the n-gram model if there is one; says what was mixed."""
    from keraslm.scoring.scorer import load

    if mixing.ngram is None:
        return load(models, opening.provider)
    from keraslm.ngram.mixed import MixedScorer, mix
    from keraslm.text.files import TextFile
    from keraslm.text.paths import find_file

    file = find_file(mixing.ngram_tune) if mixing.ngram_tune is not None else None
    mixed = mix(models, mixing.ngram, mixing.weight, opening.provider)
    print_note(_vocabularies(mixed))
    if file is None:
        return mixed
    text = TextFile(file, opening.errors, opening.encoding)
    return MixedScorer(mixed.scorer, mixed.ngram, _tuned(mixed, text, opening.context))


def weight_of(models: Sequence[Path], mixing: Mixing, opening: Opening) -> float:
    """The share of the n-gram model, for processes that open the files themselves."""
    if mixing.ngram_tune is None:
        return mixing.weight
    mixed: Any = open_scorer(models, mixing, opening)
    return float(mixed.weight)


def _tuned(mixed: MixedScorer, text: TextFile, context: str) -> float:
    from keraslm.ngram.tuning import tune

    found = tune(mixed, text, context)
    print_note(
        f"weight {found.weight:.6f} of the n-gram model, found on {text.name} ({found.words:,} words in {found.steps} "
        f"steps): perplexity {found.perplexity:.4f}; {found.lstm_perplexity:.4f} of the model alone, "
        f"{found.ngram_perplexity:.4f} of the n-gram model alone"
    )
    return found.weight


def print_known(scorer: Scorer | MixedScorer | None) -> None:
    """Say how many of the scored words only one of two mixed models knows, if there are any."""
    known = getattr(scorer, "known", None)
    if known and (known.lstm or known.ngram):
        print_note(
            f"of {known.words:,} words and ends of lines, {known.lstm:,} are known to the model only and "
            f"{known.ngram:,} to the n-gram model only (the other gives them the probability 0), {known.neither:,} to "
            "neither"
        )


def _vocabularies(mixed: MixedScorer) -> str:
    tokenizer, ngram = mixed.tokenizer, mixed.ngram
    name, own = f"{ngram.path}: {ngram.order}-grams", ngram.vocabulary
    if own is None:
        return f"{name} in a binary of KenLM, whose words cannot be listed"
    if mixed.by_words:
        return f"{name} of {len(own):,} words; the model has no list of words"
    special = (tokenizer.eos_id, tokenizer.unk_id)
    words = set(tokenizer.tokens(n for n in range(tokenizer.vocab_size) if n not in special))
    common = len(words.intersection(own))
    return (
        f"{name}; {common:,} words are in both vocabularies, {len(own) - common:,} only in that of the n-gram model, "
        f"{len(words) - common:,} only in that of the model"
    )
