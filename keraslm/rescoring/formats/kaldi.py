"""Text archives of Kaldi: `utterance-k words of the hypothesis` in each row, as `nbest-to-linear` writes them.

Scores are in separate files, `utterance-k cost`, where smaller is better: they are read and written with the opposite
sign.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from keraslm.errors import TextError
from keraslm.rescoring.hypothesis import Hypothesis, Utterance, check, finite
from keraslm.text.files import TextFile


def rows(file: TextFile, scores: Sequence[TextFile]) -> Iterator[Hypothesis]:
    names, before, places = tuple(score.name for score in scores), "", set[str]()
    for number, lines in enumerate(zip_longest(file, *scores), 1):
        where, key, text, costs = f"{file.name}:{number}", "", "", []
        sources = list(zip((file, *scores), lines, strict=True))
        longer = next(source.name for source, line in sources if line is not None)
        for source, line in sources:
            ending = f"ends before line {number} of {longer}. All files must have the same keys."
            check(line is not None, f"{source.name}: {ending}")
            (own, rest), at = key_and_rest(line), f"{source.name}:{number}"
            check(own != "", f"{at}: a blank line. A row is a key and its words or its cost.")
            if source is file:
                key, text = own, rest
                continue
            check(own == key, f"{at}: key {own!r}, but {where} has {key!r}.")
            costs.append(finite(rest, at))
        utterance, hyphen, place = key.rpartition("-")
        right = bool(hyphen and utterance) and place.isascii() and place.isdigit()
        check(right, f"{where}: key {key!r} is not an utterance, a hyphen and a number, as nbest-to-linear writes it.")
        places = places if utterance == before else set()
        check(place not in places, f"{where}: key {key!r} comes a second time.")
        places.add(place)
        before = utterance
        yield Hypothesis(utterance, text, tuple(-cost for cost in costs), names, [key, text], where)


def scored(utterance: Utterance, scores: Sequence[float]) -> Iterator[str]:
    """The cost of each hypothesis."""
    for hypothesis, score in zip(utterance, scores, strict=True):
        yield f"{hypothesis.row[0]} {-score:.6f}"


def best(hypothesis: Hypothesis) -> str:
    return f"{hypothesis.utterance} {hypothesis.text}"


def key_and_rest(line: str) -> tuple[str, str]:
    """Split a line of a Kaldi text archive: `"utt-1\\tthe cat"` -> `("utt-1", "the cat")`."""
    key, _, rest = line.strip(" \t").replace("\t", " ", 1).partition(" ")
    return key, rest.strip(" \t")


def read_keyed(file: TextFile) -> dict[str, str]:
    """The text of each utterance, such as its reference: rows of `utterance <blank or tab> text`; it may be empty."""
    found: dict[str, str] = {}
    for number, line in enumerate(file, 1):
        name, text = key_and_rest(line)
        if not name or name in found:
            fault = f"utterance {name!r} comes a second time" if name else "a blank line"
            raise TextError(f"{file.name}:{number}: {fault}. A row is an utterance and its words.")
        found[name] = text
    return found
