"""The summary of a text: what it costs in every unit."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from keraslm.perplexity import TextCost
from keraslm.scoring.measures import LineScore


@dataclass(frozen=True)
class Summary(TextCost):
    """What a text costs under a model file; every token is scored."""


def summarize(lines: Iterable[LineScore]) -> Summary:
    """Add up the scores of a text."""
    counts = dict.fromkeys(("lines", "words", "tokens", "characters", "bytes", "oovs"), 0)
    nats = oov_nats = 0.0
    for line in lines:
        counts["lines"] += 1
        counts["words"] += line.words
        counts["tokens"] += len(line.ids)
        counts["characters"] += line.characters
        counts["bytes"] += line.bytes
        counts["oovs"] += int(line.oov.sum())
        nats -= line.logprob
        oov_nats -= math.fsum(line.logprobs[line.oov])
    return Summary(**counts, predicted=counts["tokens"], nats=nats, oov_nats=oov_nats)
