"""`POST /v1/completions`: prompts are read, completions are drawn, and both become choices."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from keraslm.scoring.sampler import Sampling
from keraslm.server.choices import TokenLists, choice
from keraslm.server.errors import ApiError
from keraslm.server.exchange import in_thread
from keraslm.server.fields import CompletionRequest
from keraslm.server.model import Model
from keraslm.server.reading import Wanted, drawn, gather, read_text
from keraslm.server.rows import Draw, Position, Seen
from keraslm.server.samples import Sample
from keraslm.server.settings import Limits
from keraslm.server.texts import Prompt
from keraslm.text.decoding import Detokenizer
from keraslm.text.encoders import Ids

LARGE = 1024  # tokens of a prompt whose lists are made in a thread
AHEAD = 32  # pieces of a stream that wait for a slow reader
Choice = dict[str, Any]
Send = Callable[[Choice], Awaitable[None]]


@dataclass(frozen=True)
class Start:
    """A prompt that was read: the numbers of its tokens, if they are wanted, and the position after it."""

    prompt: Prompt
    seen: Seen | None
    position: Position


class Completion:
    """One request while it is answered.

    Attributes:
        prompt_tokens, completion_tokens: counted so far.
    """

    def __init__(self, model: Model, request: CompletionRequest, limits: Limits):
        self._model, self._request = model, request
        self._head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model.name,
        }
        self._row = _row(request, model)
        self._stops = [request.stop] if isinstance(request.stop, str) else request.stop or []
        self._prompts = _prompts(request, model, limits)
        self.prompt_tokens, self.completion_tokens = sum(len(prompt.ids) for prompt in self._prompts), 0
        most = self.prompt_tokens + len(self._prompts) * request.n * request.max_tokens
        if most > limits.max_tokens:
            field = "prompt" if self.prompt_tokens > limits.max_tokens else "max_tokens"
            text = f"the request may need {most:,} tokens, but at most {limits.max_tokens:,} are allowed."
            raise ApiError(400, f"{field}: {text}", field, "too_many_tokens")

    async def answer(self) -> dict[str, Any]:
        """The answer in one piece."""
        parts: dict[int, list[Choice]] = {}

        async def keep(part: Choice) -> None:
            parts.setdefault(part["index"], []).append(part)

        await self._produce(keep)
        return self._head | {"choices": [_merged(parts[index]) for index in sorted(parts)], "usage": self._usage()}

    async def stream(self) -> AsyncIterator[dict[str, Any]]:
        """The chunks of an answer, as they are computed."""
        queue: asyncio.Queue[Choice | Exception | None] = asyncio.Queue(AHEAD)

        async def produce() -> None:
            try:
                await self._produce(queue.put)
            except Exception as error:
                await queue.put(error)
            else:
                await queue.put(None)

        with_usage = bool((self._request.stream_options or {}).get("include_usage"))
        task = asyncio.ensure_future(produce())
        try:
            while (found := await queue.get()) is not None:
                if isinstance(found, Exception):
                    raise found
                yield self._head | {"choices": [found]} | ({"usage": None} if with_usage else {})
        finally:
            task.cancel()
        if with_usage:
            yield self._head | {"choices": [], "usage": self._usage()}

    def _usage(self) -> dict[str, int]:
        total = self.prompt_tokens + self.completion_tokens
        counts = {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens}
        return counts | {"total_tokens": total}

    async def _produce(self, send: Send) -> None:
        await gather([self._continue(number, send) for number in range(len(self._prompts))])

    async def _continue(self, number: int, send: Send) -> None:
        """Read a prompt, and complete it `n` times."""
        start, count = await self._start(self._prompts[number]), self._request.n
        await gather([self._choice(number * count + stream, stream, start, send) for stream in range(count)])

    async def _start(self, prompt: Prompt) -> Start:
        request, model = self._request, self._model
        ids, eos_id = prompt.ids[_starts(prompt.ids, model.facts.eos_id) :], model.facts.eos_id
        shown = request.echo and request.logprobs is not None
        if not len(ids) or not (shown or request.max_tokens):
            return Start(prompt, None, Position(eos_id, eos_id))
        wanted = Wanted(request.logprobs if shown else None, carried=request.max_tokens > 0)
        seen = await read_text(model.batcher, eos_id, model.context, ids, wanted)
        return Start(prompt, seen if shown else None, seen.after or Position(eos_id, eos_id))

    async def _choice(self, index: int, stream: int, start: Start, send: Send) -> None:
        request, prompt = self._request, start.prompt
        lists = self._lists(prompt)
        if request.echo:
            shown = await in_thread(self._of_prompt, start, large=len(prompt.ids) > LARGE)
            part = choice(index, prompt.text, shown, None if request.max_tokens else "length")
            await send(part | ({"prompt_token_ids": prompt.ids.tolist()} if request.return_token_ids else {}))
        if not request.max_tokens:
            return
        sample, shift = self._sample(prompt), len(prompt.text) if request.echo else 0
        async for seen in drawn(self._model.batcher, self._row(start.position, stream)):
            before, delta = sample.tokens, sample.add(seen)
            self.completion_tokens += sample.tokens - before
            if delta.text or len(delta.seen) or delta.finish:
                if lists:
                    lists.add(delta.seen, [shift + offset for offset in delta.offsets])
                part = choice(index, delta.text, lists.taken() if lists else None, delta.finish)
                await send(part | ({"token_ids": delta.seen.ids.tolist()} if request.return_token_ids else {}))
            if delta.finish:
                return

    def _lists(self, prompt: Prompt) -> TokenLists | None:
        """Empty lists of tokens for what follows a prompt; None if they are not wanted."""
        if self._request.logprobs is None:
            return None
        eos_id = self._model.facts.eos_id
        before = int(prompt.ids[-1]) if len(prompt.ids) else eos_id
        return TokenLists(self._model.texts.tokens, eos_id, before, self._request.return_token_ids)

    def _of_prompt(self, start: Start) -> dict[str, Any] | None:
        """The lists of the tokens of a prompt."""
        if self._request.logprobs is None:
            return None
        eos_id, offsets = self._model.facts.eos_id, start.prompt.offsets.tolist()
        lists = TokenLists(self._model.texts.tokens, eos_id, eos_id, self._request.return_token_ids)
        if _starts(start.prompt.ids, eos_id):
            lists.add_start(eos_id)
            offsets = offsets[1:]
        if start.seen:
            lists.add(start.seen, offsets)
        return lists.taken()

    def _sample(self, prompt: Prompt) -> Sample:
        texts, request = self._model.texts, self._request
        detokenizer = Detokenizer(texts.tokenizer, texts.last_line(prompt.ids))
        joined = texts.tokenizer.joins_words and prompt.text[-1:].isspace()
        eos_id = self._model.facts.eos_id
        return Sample(detokenizer, self._stops, request.max_tokens, eos_id, request.ignore_eos, joined)


def _starts(ids: Ids, eos_id: int) -> int:
    """1 if a prompt begins with the end symbol from which the first token of a text is predicted, otherwise 0."""
    return int(len(ids) > 0 and int(ids[0]) == eos_id)


def _prompts(request: CompletionRequest, model: Model, limits: Limits) -> list[Prompt]:
    given, texts = request.prompt, model.texts
    if isinstance(given, str) or (given and isinstance(given[0], int)) or given == []:
        given = [given]
    if len(given) * request.n > limits.max_prompts:
        what = f"{len(given):,} prompts" + (f" and {request.n} completions of each" if request.n > 1 else "")
        raise ApiError(
            400, f"prompt: {what}, but at most {limits.max_prompts:,} are allowed.", "prompt", "too_many_prompts"
        )
    with_offsets = request.echo and request.logprobs is not None
    return [
        texts.prompt(p, with_offsets) if isinstance(p, str) else texts.prompt_of_ids(p, request.echo) for p in given
    ]


def _row(request: CompletionRequest, model: Model) -> Callable[[Position, int], Draw]:
    """A function that makes the row of a completion from the position after its prompt and its number."""
    if request.max_tokens == 0 and not request.echo:
        raise ApiError(400, "max_tokens: 0 without echo asks for nothing.", "max_tokens", "invalid_value")
    if request.stream_options is not None and not request.stream:
        raise ApiError(400, "stream_options: needs stream.", "stream_options", "invalid_value")
    sampling = Sampling(
        float(request.temperature),
        request.top_k if request.top_k > 0 else None,
        float(request.top_p),
        secrets.randbits(63) if request.seed is None else request.seed,
        float(request.min_p),
    )
    return partial(
        Draw,
        sampling=sampling,
        count=request.max_tokens,
        top=request.logprobs,
        bias=_bias(request, model.facts.vocab_size),
        through=request.ignore_eos,
        context=model.context,
    )


def _bias(request: CompletionRequest, vocab_size: int) -> tuple[Ids, Any] | None:
    if not request.logit_bias:
        return None
    for key in request.logit_bias:
        if not (key.isascii() and key.isdigit() and len(key) < 10 and int(key) < vocab_size):
            text = f"logit_bias: {key[:80]!r} is no token id from 0 to {vocab_size - 1}."
            raise ApiError(400, text, "logit_bias", "invalid_value")
    return np.array([*map(int, request.logit_bias)]), np.array([*request.logit_bias.values()], np.float32)


def _merged(parts: list[Choice]) -> Choice:
    """The parts of a choice as one."""
    whole = choice(parts[0]["index"], "".join(part["text"] for part in parts), None, parts[-1]["finish_reason"])
    for name in ("prompt_token_ids", "token_ids"):
        if any(name in part for part in parts):
            whole[name] = [token for part in parts for token in part.get(name, [])]
    if parts[0]["logprobs"] is not None:
        names = parts[0]["logprobs"]
        whole["logprobs"] = {name: [each for part in parts for each in part["logprobs"][name]] for name in names}
    return whole
