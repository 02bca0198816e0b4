"""Scores as text: rows a token, rows a sentence, and the summary."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from keraslm.perplexity import TextCost, bits, perplexity
from keraslm.text.tokenizer import Tokenizer
from keraslm_onnx.scorer import LineScore

TOKEN_HEADER = "sentence_id\ttoken_id\ttoken\tlogprob\tsurprisal"
SENTENCE_HEADER = "sentence_id\ttokens\toovs\tlogprob\tsurprisal\tperplexity"


def token_rows(lines: Iterable[LineScore], tokenizer: Tokenizer) -> Iterator[str]:
    """TSV rows, one a token, after a header.

    Columns: `sentence_id`, the line's number from 1; `token_id`, the token's number in its line from 1; `token` as the
    model sees it (`<unk>` for a word it does not know); `logprob` in nats; `surprisal` in bits.
    """
    yield TOKEN_HEADER
    for number, line in enumerate(lines, 1):
        tokens = tokenizer.tokens(line.ids)
        for position, (token, logprob) in enumerate(zip(tokens, line.logprobs, strict=True), 1):
            yield f"{number}\t{position}\t{token}\t{logprob:.6f}\t{bits(logprob):.6f}"


def sentence_rows(lines: Iterable[LineScore]) -> Iterator[str]:
    """TSV rows, one a line of text, blank lines too, after a header; sums over the line, `<eos>` included."""
    yield SENTENCE_HEADER
    for number, line in enumerate(lines, 1):
        logprob, count = line.logprob, len(line.ids)
        yield (
            f"{number}\t{count}\t{int(line.oov.sum())}\t{logprob:.6f}\t{bits(logprob):.6f}"
            f"\t{perplexity(-logprob, count):.4f}"
        )


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
