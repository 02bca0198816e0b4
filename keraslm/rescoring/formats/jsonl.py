"""JSON Lines with one utterance or one hypothesis per line.

    {"utterance": "u1", "hypotheses": [{"text": "the cat", "scores": {"acoustic": -12.5}}]}
    {"utterance": "u1", "text": "the cat", "scores": {"acoustic": -12.5}}

The name of an utterance may be an integer, and is written as it was read. An utterance or a hypothesis may have a
`"prefix"`, after which its text is scored. Other keys are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from keraslm.errors import TextError, shown
from keraslm.rescoring.hypothesis import Hypothesis, Utterance, check, finite
from keraslm.text.files import TextFile
from keraslm.text.pieces import one_line
from keraslm.text.rows import json_object


def rows(file: TextFile) -> Iterator[Hypothesis]:
    names: tuple[str, ...] | None = None
    for number, line in enumerate(file, 1):
        where = f"{file.name}:{number}"
        record = json_object(line, where)
        name, nested = record.get("utterance"), record.get("hypotheses", [record])
        named = isinstance(name, str | int) and not isinstance(name, bool)
        check(named, f'{where}: no "utterance" with its name as a string or an integer.')
        if not isinstance(nested, list) or not nested:
            raise TextError(f'{where}: "hypotheses" is not a list with at least one hypothesis.')
        for place, each in enumerate(nested, 1):
            at = where if each is record else f"{where}: hypothesis {place}"
            check(isinstance(each, dict) and isinstance(each.get("text"), str), f'{at}: no "text" with a string.')
            one_line(each["text"], at)
            scores = each.get("scores", {})
            check(isinstance(scores, dict), f'{at}: "scores" is not an object of names and numbers.')
            names = tuple(scores) if names is None else names
            found, first = (", ".join(each) or "none" for each in (scores, names))
            check({*scores} == {*names}, f"{at}: scores {found}, but the first hypothesis has {first}.")
            values = tuple(finite(scores[name], f"{at}: score {name!r}") for name in names)
            prefix = each.get("prefix", record.get("prefix", ""))
            check(isinstance(prefix, str), f'{at}: "prefix" is {shown(prefix)}, but a string is expected.')
            yield Hypothesis(str(name), each["text"], values, names, (each, record), at, prefix)


def scored(utterance: Utterance, scores: Sequence[float], name: str) -> Iterator[str]:
    """The records of an utterance; each hypothesis has one more entry in its `scores`."""
    records: list[Any] = []
    for hypothesis, score in zip(utterance, scores, strict=True):
        each, record = hypothesis.row
        each["scores"] = each.get("scores", {}) | {name: round(score, 6)}
        if not records or records[-1] is not record:
            records.append(record)
    yield from [_row(record, utterance[0].where) for record in records]


def best(hypothesis: Hypothesis, total: float) -> str:
    _, record = hypothesis.row
    chosen = {"utterance": record["utterance"], "text": hypothesis.text, "total": round(total, 6)}
    return _row(chosen, hypothesis.where)


def _row(record: Any, where: str) -> str:
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise TextError(f"{where}: the row has a value that JSON cannot represent ({error}).") from error
