"""Where sentences and paragraphs end in a stream of ids.

A sentence ends with its end symbol; a paragraph ends with two end symbols in a row, as after a line without tokens. It
does not matter whether the end symbol is the end of a line, or was written in the text as `<eos>`. The end symbol is
also the input from which the first token of the next sentence or paragraph is predicted; the state is reset
just before that input:

    ids       a b . c d e . f .        `.` is the end symbol, context="sentence"
    input     . a b . c d e . f        a reset before every `.`
    target    a b . c d e . f .        c is predicted from `.` and a state of zeros
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.text.encoders import Ids

_CHUNK = 1 << 22  # tokens read at a time


def ends_context(ids: NDArray[Any], before: NDArray[Any], eos_id: int, context: str) -> NDArray[np.bool_]:
    """Which of `ids` end their sentence or paragraph, in their shape; `before` holds the token before each of them."""
    if context == "document":
        return np.zeros(ids.shape, np.bool_)
    ends: NDArray[np.bool_] = ids == eos_id
    return ends & (before == eos_id) if context == "paragraph" else ends


def cut_contexts(ids: NDArray[Any], before: int, eos_id: int, context: str) -> list[Ids]:
    """A stream, `(tokens,)`, cut after each end of a sentence or paragraph; `before` is the token before the stream.

    The last part is unfinished, and empty if the stream ends with an end.
    """
    previous = np.concatenate([[before], ids[:-1]]) if len(ids) else ids
    ends = (np.flatnonzero(ends_context(ids, previous, eos_id, context)) + 1).tolist()
    return [ids[start:end] for start, end in pairwise([0, *ends, len(ids)])]


def context_ends(ids: NDArray[Any], eos_id: int, context: str) -> NDArray[np.int64]:
    """Positions after each end of a sentence or paragraph of a stream, `(tokens,)`, which may be mapped."""
    found = [np.zeros(0, np.int64)]
    for start in range(0, len(ids), _CHUNK):
        part = np.asarray(ids[start : start + _CHUNK])
        before = np.append(ids[start - 1] if start else eos_id, part[:-1])
        found.append(np.flatnonzero(ends_context(part, before, eos_id, context)) + start + 1)
    return np.concatenate(found)
