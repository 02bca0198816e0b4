"""The run of a language model."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from keraslm.config import Config
from keraslm.config.shapes import weight_shapes
from keraslm.errors import RunError, TextError, shown
from keraslm.runs.folder import RunFolder
from keraslm.text.corpus import Text, open_text
from keraslm.text.encoding import Encoder
from keraslm.text.paths import STDIN
from keraslm.text.store import EncodedText, described, fingerprint
from keraslm.text.tokenizer import Tokenizer

TITLES = {"train": "training", "valid": "validation", "also_valid": "second validation"}


@dataclass(frozen=True, repr=False)
class Run(RunFolder):
    """The run folder of a language model; attributes and methods as of `RunFolder`.

    Example:
        >>> Run.open("runs/mine")
        Run('runs/mine': lstm of 2 x 200 units, 10,000 tokens, 13 epochs, val_perplexity 119.70)
    """

    KINDS = (Config, Tokenizer)

    config: Config
    tokenizer: Tokenizer

    def __repr__(self) -> str:
        model, sizes = self.config.model, self.config.model.sizes
        units = f"{len(sizes)} x {sizes[0]}" if len(set(sizes)) == 1 else ", ".join(map(str, sizes))
        facts = [f"{model.cell} of {units} units", f"{self.tokenizer.vocab_size:,} tokens"]
        with suppress(RunError):  # damaged metrics
            facts.append(f"{len(self.epochs())} epochs")
            if perplexity := self.trained_epoch().get("val_perplexity"):
                facts.append(f"val_perplexity {perplexity:.2f}")
        return f"Run({str(self.path)!r}: {', '.join(facts)})"

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return weight_shapes(self.config.model, self.tokenizer.vocab_size)

    def check(self) -> None:
        if max(self.config.model.cutoffs or (0,)) >= self.tokenizer.vocab_size:
            cutoffs = shown(self.config.model.cutoffs)
            raise RunError(
                f"{self.path / 'config.json'}: cutoffs {cutoffs} exceed the {self.tokenizer.vocab_size} tokens."
            )


def open_run_text(run: Run, split: str) -> Text | None:
    """The text `"train"` or `"valid"` of a run, not read yet; None, and a `TextError`, as in `run_text`."""
    data, title = run.config.data, TITLES[split]
    field = "train" if data.valid_share else split  # whose text it is, or a part of
    if STDIN in (getattr(data, field) or ()):
        raise TextError(f"{run.path}: its {title} text was standard input.")
    try:
        return open_text(data, split)
    except TextError as error:
        raise TextError(
            f"{error} It is the {title} text of {run.path}; if it has moved, write its new place into "
            f'{run.path / "config.json"}, at "data", "{"data" if data.data else field}".'
        ) from error


def run_text(run: Run, split: str, encoder: Encoder) -> EncodedText | None:
    """The text `"train"` or `"valid"` of a run, read again; None if the run has no validation text.

    Raises:
        TextError: the text was standard input, cannot be read, has moved, or has changed.

    Example:
        >>> run_text(Run.open("runs/ptb"), "valid", Encoder()).counts.tokens
        73760
    """
    text, title = open_run_text(run, split), TITLES[split]
    if text is None:
        return None
    encoded = encoder.encode(text, run.tokenizer)
    if split in run.texts:  # the first versions did not write it
        before, now = described(run.texts[split]), described(fingerprint(encoded.ids, encoded.texts))
        if before != now:
            raise TextError(
                f"{text.name} is no longer the {title} text of {run.path}, which was {before}; this one is {now}."
            )
    return encoded
