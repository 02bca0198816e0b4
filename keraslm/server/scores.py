"""`POST /score`, `/predict`, `/tokenize` and `/detokenize`: what the page and other programs ask beside completions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keraslm.perplexity import BASES, perplexity
from keraslm.scoring.measures import LineScore
from keraslm.scoring.predict import begun_word
from keraslm.scoring.words import WordScore, word_scores
from keraslm.server.choices import LEAST, number
from keraslm.server.errors import ApiError
from keraslm.server.exchange import in_thread
from keraslm.server.fields import DetokenizeRequest, PredictRequest, ScoreRequest, TokenizeRequest
from keraslm.server.model import Model
from keraslm.server.reading import Wanted, read_text
from keraslm.server.rows import Ahead, Position, Seen
from keraslm.server.settings import Limits
from keraslm.server.texts import line_spans
from keraslm.text.pieces import without_surrogates

BIT = BASES["2"]  # nats
LARGE = 1024  # tokens of a text that is described in a thread


async def score(model: Model, request: ScoreRequest, limits: Limits) -> dict[str, Any]:
    """Every token and word of the lines of a text, each line with its end symbol, as `keraslm score` counts them."""
    text, eos_id = without_surrogates(request.text), model.facts.eos_id
    ids = model.texts.encode(text)
    if not text.endswith("\n"):
        ids = np.append(ids, np.int32(eos_id))
    _check_size(len(ids), limits, "text")
    seen = await read_text(model.batcher, eos_id, model.context, ids, Wanted(request.alternatives, full=True))
    return await in_thread(_described, model, text, seen, large=len(ids) > LARGE)


def _described(model: Model, text: str, seen: Seen) -> dict[str, Any]:
    lines = list(line_spans(model.texts.tokenizer, text))
    places = np.concatenate([own for _, own in lines])[: len(seen)]
    nats = -math.fsum(seen.logprobs.tolist())
    return {
        "tokens": _tokens(model, seen, places.tolist()),
        "words": _words(model, lines, seen),
        "bits": min(nats / BIT, -LEAST),
        "perplexity": min(perplexity(nats, len(seen)), -LEAST),
        "oovs": int((seen.ids == model.facts.unk_id).sum()),
    }


def _tokens(model: Model, seen: Seen, places: list[list[int]]) -> list[dict[str, Any]]:
    assert seen.tops and seen.measures is not None
    texts, eos_id, unk_id = model.texts.tokens, model.facts.eos_id, model.facts.unk_id
    before, start, found = eos_id, 0, []
    ids, logprobs = seen.ids.tolist(), seen.logprobs.tolist()
    ranks, entropies = seen.measures.tolist()
    tops = zip(seen.tops[0].tolist(), np.exp(seen.tops[1].astype(np.float64)).tolist(), strict=True)
    rows = zip(ids, logprobs, ranks, entropies, tops, places, strict=True)
    for token, logprob, rank, entropy, (others, probabilities), (begin, end) in rows:
        first = before == eos_id
        alternatives = [
            {"token": texts.text(other, first), "id": other, "probability": probability}
            for other, probability in zip(others, probabilities, strict=True)
        ]
        found.append(
            {
                "token": texts.text(token, first),
                "id": token,
                "start": min(start, begin),
                "end": end,
                "logprob": number(logprob),
                "surprisal": -number(logprob) / BIT + 0.0,
                "rank": int(rank),
                "entropy": entropy / BIT,
                "oov": token == unk_id,
                "alternatives": alternatives,
            }
        )
        before, start = token, end
    return found


def _words(model: Model, lines: Sequence[tuple[str, NDArray[np.int64]]], seen: Seen) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    tokenizer, first, start = model.texts.tokenizer, 0, 0
    for line, places in lines:
        if first == len(seen.ids):
            break
        own = slice(first, first + len(places))
        ids, logprobs = seen.ids[own], seen.logprobs[own].astype(np.float64)
        scored = LineScore(line, ids, logprobs, ids == model.facts.unk_id)
        found += (_word(word, start, first) for word in word_scores(scored, tokenizer))
        first, start = own.stop, int(places[-1, 1])
    return found


def _word(word: WordScore, start: int, first: int) -> dict[str, Any]:
    """A word of a line that begins at character `start` and token `first` of the text."""
    return {
        "word": word.word,
        "start": start + word.begin,
        "end": start + word.end,
        "surprisal": -number(word.logprob) / BIT + 0.0,
        "oov": word.oov,
        "tokens": [first + token for token in word.tokens],
    }


async def predict(model: Model, request: PredictRequest, limits: Limits) -> dict[str, Any]:
    """The most probable next words."""
    text, eos_id = without_surrogates(request.text), model.facts.eos_id
    place = text.rfind("\n") + 1
    line = text[place:].replace("\r", " ")
    begun = begun_word(model.texts.tokenizer, line)
    ids = model.texts.encode(text[: place + begun.before])
    _check_size(len(ids), limits, "text")
    position = Position(eos_id, eos_id)
    if len(ids):
        seen = await read_text(model.batcher, eos_id, model.context, ids, Wanted(carried=True))
        position = seen.after or position
    row = Ahead(position, line[begun.start :], line[begun.before : begun.start], request.count)
    found = await model.batcher.compute(row)
    words = [{"word": each.word, "probability": each.probability} for each in found]
    return {"begun": row.begun, "start": place + begun.start, "words": words}


async def tokenize(model: Model, request: TokenizeRequest, limits: Limits) -> dict[str, Any]:
    """The ids of a text, as a prompt has them."""
    text = request.prompt if request.prompt is not None else request.content
    if text is None:
        raise ApiError(400, "prompt: missing.", "prompt", "missing_field")
    ids = model.texts.encode(without_surrogates(text)).tolist()
    found = {"tokens": ids, "count": len(ids), "max_model_len": limits.max_tokens}
    return found | (
        {"token_strs": model.texts.tokens.texts(ids, model.facts.eos_id)} if request.return_token_strs else {}
    )


async def detokenize(model: Model, request: DetokenizeRequest, limits: Limits) -> dict[str, Any]:
    """The text of ids."""
    text = model.texts.decode(model.texts.checked(request.tokens, "tokens"))
    return {"prompt": text, "content": text}


def _check_size(tokens: int, limits: Limits, field: str) -> None:
    if tokens > limits.max_tokens:
        message = f"{field}: {tokens:,} tokens, but at most {limits.max_tokens:,} are allowed."
        raise ApiError(400, message, field, "too_many_tokens")
