"""The texts of a run, read again after its training, and refused where they have become others. No Keras."""

from __future__ import annotations

from keraslm.errors import TextError
from keraslm.runs.run import Run
from keraslm.text.corpus import open_texts
from keraslm.text.encoding import Encoder
from keraslm.text.files import STDIN
from keraslm.text.store import EncodedText, described, fingerprint

_TITLES = {"train": "training", "valid": "validation"}


def run_text(run: Run, split: str, encoder: Encoder) -> EncodedText | None:
    """A text that a run was trained with; None where there was no validation text.

    Args:
        run: the run folder.
        split: `"train"` or `"valid"`.
        encoder: reads it.

    Raises:
        TextError: it was standard input, cannot be read, or has other tokens than it had.

    Example:
        >>> run_text(Run.open("runs/ptb"), "valid", Encoder()).counts.tokens
        73760
    """
    data, title = run.config.data, _TITLES[split]
    if STDIN in (getattr(data, split) or ()):
        raise TextError(f"{run.path}: its {title} text was standard input.")
    train, valid = open_texts(data)
    text = train if split == "train" else valid
    if text is None:
        return None
    encoded = encoder.encode(text, run.tokenizer)
    if split in run.texts:  # runs of earlier versions do not say
        before, now = described(run.texts[split]), described(fingerprint(encoded.ids))
        if before != now:
            raise TextError(
                f"{text.name} is no longer the {title} text of {run.path}, which was {before}; this one is {now}."
            )
    return encoded
