"""`/openapi.json`: the routes as OpenAPI 3.1 describes them. Requests are described by the schemas that check them."""

from __future__ import annotations

import dataclasses
from typing import Any

from keraslm.server.fields import (
    CompletionRequest,
    DetokenizeRequest,
    PredictRequest,
    ScoreRequest,
    TokenizeRequest,
    schemas_of,
)
from keraslm.server.settings import Limits
from keraslm.system import VERSION

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _map(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


_LISTS = _object(
    tokens=_list(TEXT),
    token_logprobs=_list(_or_null(NUMBER)),
    top_logprobs=_list(_or_null(_map(NUMBER))),
    text_offset=_list(INTEGER),
    top_ids=_list(_or_null(_map(NUMBER))),
)
_CHOICE = _object(
    index=INTEGER,
    text=TEXT,
    logprobs=_or_null(_LISTS),
    finish_reason=_or_null({"enum": ["stop", "length"]}),
    prompt_token_ids=_list(INTEGER),
    token_ids=_list(INTEGER),
)
_COMPLETION = _object(
    id=TEXT,
    object={"const": "text_completion"},
    created=INTEGER,
    model=TEXT,
    choices=_list(_CHOICE),
    usage=_object(prompt_tokens=INTEGER, completion_tokens=INTEGER, total_tokens=INTEGER),
)
_ALTERNATIVE = _object(token=TEXT, id=INTEGER, probability=NUMBER)
_TOKEN = _object(
    token=TEXT,
    id=INTEGER,
    start=INTEGER,
    end=INTEGER,
    logprob=NUMBER,
    surprisal=NUMBER,
    rank=INTEGER,
    entropy=NUMBER,
    oov=FLAG,
    alternatives=_list(_ALTERNATIVE),
)
_WORD = _object(word=TEXT, start=INTEGER, end=INTEGER, surprisal=NUMBER, oov=FLAG, tokens=_list(INTEGER))
_SCORE = _object(tokens=_list(_TOKEN), words=_list(_WORD), bits=NUMBER, perplexity=NUMBER, oovs=INTEGER)
_PREDICTION = _object(begun=TEXT, start=INTEGER, words=_list(_object(word=TEXT, probability=NUMBER)))
_IDS = _object(tokens=_list(INTEGER), count=INTEGER, max_model_len=INTEGER, token_strs=_list(TEXT))
_MODEL = _object(id=TEXT, object={"const": "model"}, created=INTEGER, owned_by=TEXT, meta={"type": "object"})
_ERROR = _object(error=_object(message=TEXT, type=TEXT, param=_or_null(TEXT), code=_or_null(TEXT)))
_INFO = _object(
    tokenizer_class=TEXT, eos_token=TEXT, bos_token=TEXT, pad_token={"type": "null"}, chat_template={"type": "null"},
    vocab_size=INTEGER, eos_token_id=INTEGER,
)  # fmt: skip

# Path, summary, and the schema of the answer; of routes that compute, the class of the request too.
POSTS: tuple[tuple[str, type[Any], Schema], ...] = (
    ("/v1/completions", CompletionRequest, _COMPLETION),
    ("/score", ScoreRequest, _SCORE),
    ("/predict", PredictRequest, _PREDICTION),
    ("/tokenize", TokenizeRequest, _IDS),
    ("/detokenize", DetokenizeRequest, _object(prompt=TEXT, content=TEXT)),
)
GETS: tuple[tuple[str, str, str, Schema], ...] = (
    ("/v1/models", "The model.", "application/json", _object(object={"const": "list"}, data=_list(_MODEL))),
    ("/health", "Whether the server can answer.", "application/json", _object(status={"const": "ok"})),
    ("/tokenizer_info", "The end symbol and the size of the vocabulary.", "application/json", _INFO),
    ("/metrics", "Numbers for Prometheus.", "text/plain", TEXT),
    ("/openapi.json", "This description.", "application/json", {"type": "object"}),
    ("/", "A page that shows the surprisal of a text.", "text/html", TEXT),
)
ERRORS = {
    "400": "A field is wrong; `param` names it.",
    "401": "The key is missing or wrong.",
    "404": "The model has a different name.",
    "408": "The body did not arrive in time.",
    "413": "The body is too long.",
    "429": "Too many requests are being answered; Retry-After says when to try again.",
    "503": "The model is being loaded, the server ends, or the request took too long.",
}


def openapi(limits: Limits) -> Schema:
    """The description of a server with some limits."""
    paths: Schema = {}
    for path, kind, answer in POSTS:
        body = {"required": True, "content": {"application/json": {"schema": _reference(kind.__name__)}}}
        content: Schema = {"application/json": {"schema": answer}}
        if kind is CompletionRequest:
            content["text/event-stream"] = {"schema": TEXT}
        paths[path] = {"post": _operation(kind.__doc__ or "", content) | {"requestBody": body}}
    for path, summary, media, answer in GETS:
        paths[path] = {"get": _operation(summary, {media: {"schema": answer}})}
    schemas = {kind.__name__: request_schema(kind, limits) for _, kind, _ in POSTS} | {"Error": _ERROR}
    security = {"key": {"type": "http", "scheme": "bearer", "description": "Only if the server has a key."}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "keraslm serve", "version": VERSION},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": security},
        "security": [{"key": []}, {}],
    }


def request_schema(kind: type[Any], limits: Limits) -> Schema:
    """The schema of a class of requests."""
    schemas, required = schemas_of(kind, limits)  # type: ignore[arg-type]
    properties = {}
    for field in dataclasses.fields(kind):
        schema = schemas[field.name] | {"description": field.metadata["help"]}
        properties[field.name] = schema | ({} if field.default is None else {"default": field.default})
    found = {"type": "object", "description": kind.__doc__, "properties": properties, "additionalProperties": False}
    return found | ({"required": required} if required else {})


def _operation(summary: str, content: Schema) -> Schema:
    answers: Schema = {"200": {"description": "The answer.", "content": content}}
    for status, text in ERRORS.items():
        answers[status] = {"description": text, "content": {"application/json": {"schema": _reference("Error")}}}
    return {"summary": summary, "responses": answers}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
