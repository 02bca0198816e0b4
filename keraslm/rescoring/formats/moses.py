"""n-best lists of Moses: `id ||| text ||| features ||| total`, perhaps with alignments after the total.

    0 ||| the cat ||| LM0= -12.5 TranslationModel0= -1.5 -2 ||| -3.25 ||| 0-0 1-1

The id is the number of the sentence, from 0. The first-pass score is the total, which combines the features with the
weights of the decoder; the first row says whether there is one. A new score becomes the last feature. MERT and
`scripts/nbest-rescore` of Moses read the values after each `name=`, and take a name with an underscore for a sparse
feature: https://github.com/moses-smt/mosesdecoder/blob/master/mert/Data.cpp
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from keraslm.errors import UsageError, shown
from keraslm.rescoring.hypothesis import Hypothesis, Utterance, check, finite
from keraslm.text.files import TextFile

LM = "KerasLM0"
_ROW = "A row is: id ||| text ||| features ||| total."
_NAME = re.compile(r"[^\s=_|]+")


def check_name(name: str) -> None:
    """Raise a `UsageError` for a name that the tools of Moses do not read as one feature."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"`name` is {shown(name)}, but the name of a feature of Moses has no white space, underscore, = or |, such "
            f"as {LM}."
        )


def rows(file: TextFile) -> Iterator[Hypothesis]:
    has_total: bool | None = None
    for number, line in enumerate(file, 1):
        where = f"{file.name}:{number}"
        cells = [cell.strip(" \t") for cell in line.split("|||")]
        check(len(cells) > 1, f"{where}: {'no |||' if line.strip() else 'a blank line'}. {_ROW}")
        check(cells[0].isascii() and cells[0].isdigit(), f"{where}: id {cells[0]!r} is not an integer. {_ROW}")
        total = cells[3] if len(cells) > 3 else ""
        has_total = bool(total) if has_total is None else has_total
        fault = "no total, but the first row has one" if has_total else f"total {total}, but the first row has none"
        check(bool(total) == has_total, f"{where}: {fault}. {_ROW}")
        scores, names = ((finite(total, f"{where}: total"),), ("total",)) if has_total else ((), ())
        yield Hypothesis(cells[0], cells[1], scores, names, cells, where)


def scored(utterance: Utterance, scores: Sequence[float], name: str) -> Iterator[str]:
    """The rows of an utterance, each with one more feature."""
    for hypothesis, score in zip(utterance, scores, strict=True):
        number, text, *rest = hypothesis.row
        features, *others = rest or [""]
        known = f"{name}=" in features.split()
        check(not known, f"{hypothesis.where}: a feature {name} already exists; choose a different `name`.")
        yield " ||| ".join([number, text, f"{features} {name}= {score:.6f}".lstrip(), *others])


def best(hypothesis: Hypothesis) -> str:
    return f"{hypothesis.utterance} ||| {hypothesis.text}"
