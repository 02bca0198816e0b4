"""Scores as text: rows a token, rows a sentence, and the summary."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from keraslm.perplexity import bits, perplexity
from keraslm.text.tokenizer import WordTokenizer
from keraslm_onnx.scorer import LineScore

TOKEN_HEADER = "sentence_id\ttoken_id\ttoken\tlogprob\tsurprisal"
SENTENCE_HEADER = "sentence_id\ttokens\toovs\tlogprob\tsurprisal\tperplexity"


def token_rows(lines: Iterable[LineScore], tokenizer: WordTokenizer) -> Iterator[str]:
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
class Summary:
    """What a text costs under a model.

    Attributes:
        lines, words: of the text; words without `<eos>`.
        tokens: words and one `<eos>` a line; every one is scored.
        oovs: tokens that are `<unk>`.
        characters, bytes: of the text, each line end counted as one.
        nats: negative log-likelihood, natural logarithm.
        perplexity: `exp(nats / tokens)`; NaN for an empty text, as the others.
        perplexity_excluding_oovs: the same without the `<unk>` tokens in sum and count; NaN for a text whose words are
            all unknown.
        bits_per_character, bits_per_byte: `nats / ln 2` over `characters` or `bytes`.
    """

    lines: int
    words: int
    tokens: int
    oovs: int
    characters: int
    bytes: int
    nats: float
    perplexity: float
    perplexity_excluding_oovs: float
    bits_per_character: float
    bits_per_byte: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which has no NaN: None stands for it."""
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in vars(self).items()}

    def rows(self) -> list[str]:
        """Lines of `name value`, for people."""
        shown = {k: f"{v:,}" if isinstance(v, int) else f"{v:,.4f}" for k, v in vars(self).items()}
        rows = [f"{name:<25} {value}" for name, value in shown.items()]
        if self.words and self.words == self.oovs:
            rows.append("note: no word of this text is in the model's vocabulary")
        return rows


def summarize(lines: Iterable[LineScore]) -> Summary:
    """Add up the scores of a text."""
    counts = dict.fromkeys(("lines", "tokens", "oovs", "characters", "bytes"), 0)
    nats = oov_nats = 0.0
    for line in lines:
        counts["lines"] += 1
        counts["tokens"] += len(line.ids)
        counts["oovs"] += int(line.oov.sum())
        counts["characters"] += line.characters
        counts["bytes"] += line.bytes
        nats -= line.logprob
        oov_nats -= math.fsum(line.logprobs[line.oov])
    words = counts["tokens"] - counts["lines"]
    known = 0 if words and words == counts["oovs"] else counts["tokens"] - counts["oovs"]
    return Summary(
        words=words,
        nats=nats,
        perplexity=perplexity(nats, counts["tokens"]),
        perplexity_excluding_oovs=perplexity(nats - oov_nats, known),
        bits_per_character=bits(-nats) / counts["characters"] if counts["characters"] else math.nan,
        bits_per_byte=bits(-nats) / counts["bytes"] if counts["bytes"] else math.nan,
        **counts,
    )
