"""The routes of the server, and what all of them share: key, limits, time-out, log and metrics."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from keraslm.errors import InputError, KeraslmError
from keraslm.server import scores
from keraslm.server.completions import Completion
from keraslm.server.errors import ApiError, unavailable
from keraslm.server.exchange import Exchange, GoneError, encoded, in_thread
from keraslm.server.fields import (
    CompletionRequest,
    DetokenizeRequest,
    PredictRequest,
    ScoreRequest,
    TokenizeRequest,
    parse,
)
from keraslm.server.metrics import Metrics, Record, log
from keraslm.server.model import Model
from keraslm.server.openapi import POSTS, openapi
from keraslm.server.page import page
from keraslm.server.settings import Settings

LARGE = 1 << 16  # bytes of a body or of an answer that are handled in a thread
BODY_SECONDS = 60.0
LAST_SECONDS = 5.0  # for the answer that a request has failed
GONE = 499  # in the log: the client closed the connection
CHAT = "/v1/chat/completions: this is a language model without chat; send a prompt to /v1/completions."


class Service:
    """What the routes share.

    Attributes:
        model: None until it is loaded.
        draining: whether the server ends after the requests that are being answered.
        stopping: set when these are given up.
        active: number of requests that are being answered.
    """

    def __init__(self, settings: Settings):
        self.settings, self.metrics = settings, Metrics()
        self.model: Model | None = None
        self.draining, self.stopping, self.active = False, asyncio.Event(), 0

    def ready(self) -> Model:
        """The model; raises `ApiError` 503 while it is loaded, and when the server ends."""
        if self.draining:
            raise unavailable("The server is shutting down.", "shutting_down")
        if self.model is None:
            raise unavailable("The model is being loaded.", "loading")
        return self.model

    @property
    def loaded(self) -> Model:
        """The model, for a request that was accepted: it is completed while the server ends."""
        assert self.model is not None
        return self.model

    def check_key(self, header: str) -> None:
        """Raise `ApiError` 401 unless a request has the key."""
        key = self.settings.api_key
        if key is None:
            return
        scheme, _, given = header.partition(" ")
        is_right = hmac.compare_digest(given.strip().encode("latin-1", "replace"), key.encode())
        if scheme.lower() != "bearer" or not is_right:
            raise ApiError(
                401, "The key is missing or wrong: send the header Authorization: Bearer KEY.", code="invalid_api_key"
            )


@dataclass(frozen=True)
class Endpoint:
    """A route that computes, as an ASGI application: `kind` is the class of its requests."""

    service: Service
    path: str
    kind: type[Any]
    respond: Callable[[Endpoint, Exchange, Record, Any], Awaitable[None]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service = self.service
        exchange = Exchange(scope, receive, send, service.stopping)
        record = Record(f"req-{secrets.token_hex(8)}", (scope["client"] or ("",))[0], scope["method"], self.path)
        try:
            await self._within_limits(exchange, record)
        except ApiError as error:
            record.status, record.error = error.status, error.code or error.message
            await self._fail(exchange, record, error)
        except GoneError:
            record.status = GONE
        except Exception as error:
            traceback.print_exc()
            record.status, record.error = 500, type(error).__name__
            await self._fail(exchange, record, _bug(error))
        finally:
            record.end()
            service.metrics.add(record)
            log(record)

    async def _within_limits(self, exchange: Exchange, record: Record) -> None:
        """Answer a request if it has the key and there is room; an error with a message becomes an `ApiError`."""
        service, limits = self.service, self.service.settings.limits
        service.check_key(exchange.headers.get("authorization", ""))
        service.ready()
        if service.active >= limits.max_queue:
            raise ApiError(429, "Too many requests are being answered. Try again.", code="queue_full", retry_after=1)
        service.active += 1
        try:
            async with asyncio.timeout(limits.timeout):
                await self._answer(exchange, record)
        except TimeoutError:
            raise unavailable(f"No answer within {limits.timeout:g} seconds, which is the limit.", "timeout") from None
        except KeraslmError as error:
            raise ApiError(400 if isinstance(error, InputError) else 500, str(error), code="failed") from error
        finally:
            service.active -= 1

    async def _answer(self, exchange: Exchange, record: Record) -> None:
        limits = self.service.settings.limits
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await exchange.body(limits.max_body)
        except TimeoutError:
            message = f"The body did not arrive within {BODY_SECONDS:g} seconds."
            raise ApiError(408, message, code="body_too_slow") from None
        request = await in_thread(parse, self.kind, body, limits, large=len(body) > LARGE)
        self.service.loaded.check_name(request.model)
        if self.service.settings.log_prompts:
            record.prompt = getattr(request, "prompt", None) or getattr(request, "text", None)
        await self.respond(self, exchange, record, request)

    async def _fail(self, exchange: Exchange, record: Record, error: ApiError) -> None:
        with suppress(TimeoutError):  # a client that does not read
            async with asyncio.timeout(LAST_SECONDS):
                if not exchange.started:
                    await exchange.answer(error.status, encoded(error.body()), headers=_headers(record) | error.headers)
                elif record.stream:
                    await exchange.error_event(error)


def _headers(record: Record) -> dict[str, str]:
    return {"x-request-id": record.id, "cache-control": "no-store"}


async def _complete(endpoint: Endpoint, exchange: Exchange, record: Record, request: CompletionRequest) -> None:
    service = endpoint.service
    model, limits = service.loaded, service.settings.limits
    completion = await in_thread(Completion, model, request, limits, large=exchange.size > LARGE)
    record.prompt_tokens, record.stream = completion.prompt_tokens, request.stream
    try:
        if request.stream:
            await exchange.guarded(exchange.events(completion.stream(), _headers(record)))
            record.status = 200
            return
        found = await exchange.guarded(completion.answer())
    finally:
        record.completion_tokens = completion.completion_tokens
    tokens = completion.prompt_tokens + completion.completion_tokens
    body = await in_thread(encoded, found, large=100 * tokens > LARGE)
    record.status = 200
    await exchange.answer(200, body, headers=_headers(record))


def _simple(function: Callable[..., Coroutine[Any, Any, dict[str, Any]]]) -> Callable[..., Awaitable[None]]:
    """An endpoint whose answer is one JSON object."""

    async def respond(endpoint: Endpoint, exchange: Exchange, record: Record, request: Any) -> None:
        service = endpoint.service
        found: dict[str, Any] = await exchange.guarded(function(service.loaded, request, service.settings.limits))
        record.prompt_tokens = len(found.get("tokens", ()))
        record.status = 200
        body = await in_thread(encoded, found, large=exchange.size > LARGE)
        await exchange.answer(200, body, headers=_headers(record))

    return respond


RESPONSES: dict[type[Any], Callable[..., Awaitable[None]]] = {
    CompletionRequest: _complete,
    ScoreRequest: _simple(scores.score),
    PredictRequest: _simple(scores.predict),
    TokenizeRequest: _simple(scores.tokenize),
    DetokenizeRequest: _simple(scores.detokenize),
}


def make_app(service: Service) -> Starlette:
    """The application."""

    def get(path: str, function: Callable[[], Response], is_open: bool = False) -> Route:
        async def endpoint(request: Request) -> Response:
            if not is_open:
                service.check_key(request.headers.get("authorization", ""))
            return function()

        return Route(path, endpoint, methods=["GET"])

    def models() -> Response:
        return json_response({"object": "list", "data": [_described(service)]})

    html, policy = page(service.settings.name or "keraslm")
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    routes = [Route(path, Endpoint(service, path, kind, RESPONSES[kind]), methods=["POST"]) for path, kind, _ in POSTS]
    routes += [
        get("/", lambda: HTMLResponse(html, headers=headers), is_open=True),
        get("/health", lambda: json_response({"status": "ok"} if service.ready() else {}), is_open=True),
        get("/v1/models", models),
        get("/tokenizer_info", lambda: json_response(_tokenizer_info(service.ready()))),
        get("/metrics", lambda: _metrics(service)),
        get("/openapi.json", lambda: json_response(openapi(service.settings.limits)), is_open=True),
    ]
    handlers: Any = {ApiError: _api_error, HTTPException: _http_error, Exception: _unexpected}
    origins = list(service.settings.cors_origins)
    middleware = [
        Middleware(
            CORSMiddleware, allow_origins=origins, allow_methods=["GET", "POST"], allow_headers=["authorization", "*"]
        )
    ]
    app = Starlette(routes=routes, exception_handlers=handlers, middleware=middleware if origins else [])
    app.router.redirect_slashes = False  # an answer that is no JSON, to an address that the request names
    return app


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(encoded(value), status, headers, "application/json")


def _described(service: Service) -> dict[str, Any]:
    model, limits = service.ready(), service.settings.limits
    meta = model.facts.meta | {"context": model.context}
    meta |= {"max_tokens": limits.max_tokens, "max_prompts": limits.max_prompts, "max_logprobs": limits.max_logprobs}
    return {"id": model.name, "object": "model", "created": model.created, "owned_by": "keraslm", "meta": meta}


def _tokenizer_info(model: Model) -> dict[str, Any]:
    """What evaluation harnesses ask of a tokenizer: the text of the end symbol is one token."""
    found = {
        "tokenizer_class": "keraslm",
        "eos_token": "\n",
        "bos_token": "\n",
        "pad_token": None,
        "chat_template": None,
    }
    return found | {"vocab_size": model.facts.vocab_size, "eos_token_id": model.facts.eos_id}


def _metrics(service: Service) -> Response:
    service.metrics.active.set(service.active)
    service.metrics.waiting.set(service.model.batcher.waiting if service.model else 0)
    service.metrics.deaths.set(service.model.batcher.deaths if service.model else 0)
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return json_response(error.body(), error.status, error.headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    path = path if path.isprintable() else ascii(path)[1:-1]
    if path.startswith("/v1/chat/completions"):
        return json_response(ApiError(404, CHAT, code="no_chat").body(), 404)
    messages = {
        404: f"{path[:200]}: there is no such route.",
        405: f"{request.method[:20]} is not a method of {path[:200]}.",
    }
    found = ApiError(error.status_code, messages.get(error.status_code, str(error.detail)), code="no_route")
    return json_response(found.body(), error.status_code, dict(error.headers or {}))


async def _unexpected(_: Request, error: Exception) -> Response:
    return json_response(_bug(error).body(), 500)


def _bug(error: Exception) -> ApiError:
    message = f"Unexpected {type(error).__name__}. This is a bug in keraslm; the log of the server has more."
    return ApiError(500, message, code="bug")
