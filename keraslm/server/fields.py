"""The fields of requests: JSON in, checked values out.

Each request is a class whose fields carry a schema. The same schema checks a request and describes it in
`openapi.json`. A field that is not listed is refused, so that nothing is ignored silently; null is the same as absent.
"""

# ruff: noqa: RUF009, `_field` makes a field

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from keraslm.errors import shown
from keraslm.server.errors import ApiError
from keraslm.server.settings import Limits

T = TypeVar("T")
Schema = dict[str, Any]
STOPS = 16  # of a request; OpenAI's API has 4, but tasks of lm-evaluation-harness have up to 7
_TEXT: Schema = {"type": "string"}
_IDS: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0}}
_PROMPTS: Schema = {
    "anyOf": [
        _TEXT,
        _IDS,
        {"type": "array", "items": _TEXT, "minItems": 1},
        {"type": "array", "items": _IDS, "minItems": 1},
    ]
}
_NUMBERS = {"integer": "an integer", "number": "a number"}
_KINDS = {"string": "a string", "boolean": "true or false", "array": "a list", "object": "an object"} | _NUMBERS
_TYPES = {"string": str, "boolean": bool, "array": list, "object": dict, "integer": int, "number": (int, float)}


def _field(help: str, schema: Schema, default: Any = None, required: bool = False) -> Any:
    """A field of a request. `maximum` may be the name of a limit."""
    return dataclasses.field(default=default, metadata={"help": help, "schema": schema, "required": required})


def _neutral(value: Any) -> Any:
    """A field that this server does not support, and may be sent with the value that changes nothing."""
    return _field(f"Not supported; may be {json.dumps(value)}.", {"enum": [value]})


_STOP: Schema = {"type": "string", "minLength": 1}
_MODEL = _field("Name of the model, as in /v1/models.", _TEXT)


@dataclass(frozen=True, kw_only=True)
class CompletionRequest:
    """Score a prompt, continue it, or both."""

    prompt: Any = _field("A text, a list of texts, a list of token ids, or a list of those.", _PROMPTS, required=True)
    model: str | None = _MODEL
    max_tokens: int = _field(
        "Tokens to generate; 0 needs `echo`.", {"type": "integer", "minimum": 0, "maximum": "max_tokens"}, 16
    )
    temperature: float = _field("0: always the most probable token.", {"type": "number", "minimum": 0}, 1.0)
    top_p: float = _field(
        "Draw from the most probable tokens that together reach this probability.",
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        1.0,
    )
    top_k: int = _field("Draw from this many tokens; 0 or -1: all.", {"type": "integer", "minimum": -1}, 0)
    min_p: float = _field(
        "Draw from tokens with at least this share of the highest probability.",
        {"type": "number", "minimum": 0, "maximum": 1},
        0.0,
    )
    seed: int | None = _field(
        "The same seed gives the same text.", {"type": "integer", "minimum": 0, "maximum": (1 << 64) - 1}
    )
    stop: Any = _field(
        "Up to 16 texts, before which the completion ends.",
        {"anyOf": [_STOP, {"type": "array", "items": _STOP, "maxItems": STOPS}]},
    )
    logprobs: int | None = _field(
        "Return log-probabilities (nats) of tokens, and of this many alternatives.",
        {"type": "integer", "minimum": 0, "maximum": "max_logprobs"},
    )
    echo: bool = _field("Return the prompt too, with its log-probabilities.", {"type": "boolean"}, False)
    n: int = _field("Completions per prompt.", {"type": "integer", "minimum": 1, "maximum": "max_prompts"}, 1)
    stream: bool = _field("Send the text as it is generated, as server-sent events.", {"type": "boolean"}, False)
    stream_options: dict[str, Any] | None = _field(
        "With `stream`.",
        {"type": "object", "properties": {"include_usage": {"type": "boolean"}}, "additionalProperties": False},
    )
    logit_bias: dict[str, float] | None = _field(
        "Added to the log-probabilities of token ids before a token is drawn.",
        {"type": "object", "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100}},
    )
    ignore_eos: bool = _field("Continue after the end of a line.", {"type": "boolean"}, False)
    return_token_ids: bool = _field(
        "Return token ids: of prompts, completions and alternatives.", {"type": "boolean"}, False
    )
    user: str | None = _field("Ignored.", _TEXT)
    best_of: int | None = _neutral(1)
    suffix: str | None = _neutral("")
    presence_penalty: float | None = _neutral(0)
    frequency_penalty: float | None = _neutral(0)


@dataclass(frozen=True, kw_only=True)
class ScoreRequest:
    """Score the lines of a text, each with its end symbol."""

    text: str = _field("Lines of text.", _TEXT, required=True)
    model: str | None = _MODEL
    alternatives: int = _field(
        "Most probable tokens to return per token.", {"type": "integer", "minimum": 0, "maximum": "max_logprobs"}, 0
    )


@dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """The most probable next words of a text, or completions of the word that it ends with."""

    text: str = _field("A text that ends after a blank, or inside a word.", _TEXT, required=True)
    model: str | None = _MODEL
    count: int = _field("Number of words.", {"type": "integer", "minimum": 1, "maximum": 100}, 10)


@dataclass(frozen=True, kw_only=True)
class TokenizeRequest:
    """Token ids of a text."""

    prompt: str | None = _field("The text.", _TEXT)
    content: str | None = _field("The text; a different name of `prompt`.", _TEXT)
    model: str | None = _MODEL
    add_special_tokens: bool = _field("Ignored: a prompt has no special tokens.", {"type": "boolean"}, False)
    return_token_strs: bool = _field("Return the texts of the tokens too.", {"type": "boolean"}, False)


@dataclass(frozen=True, kw_only=True)
class DetokenizeRequest:
    """The text of token ids."""

    tokens: list[int] = _field("Token ids.", _IDS, required=True)
    model: str | None = _MODEL


def parse(kind: type[T], data: bytes, limits: Limits) -> T:
    """A request of a class from the body of an HTTP request; raises `ApiError` 400, which names the field."""
    values = _json(data)
    if not isinstance(values, dict):
        raise ApiError(400, f"The body is {_shown(values)}, but a JSON object is expected.")
    schemas, required = schemas_of(kind, limits)  # type: ignore[arg-type]
    given = {name: value for name, value in values.items() if value is not None}
    for name in given:
        if name not in schemas:
            place = name[:100] if name.isprintable() and name else _shown(name)
            raise ApiError(400, f"{place}: this server has no such field.", name[:100], "unknown_field")
    for name, schema in schemas.items():
        if name in given:
            check(given[name], schema, name, name)
        elif name in required:
            raise ApiError(400, f"{name}: missing.", name, "missing_field")
    return kind(**given)


@cache
def schemas_of(kind: type[Any], limits: Limits) -> tuple[dict[str, Schema], list[str]]:
    """The schema of each field of a class, with the limits of the server, and the names of required fields."""
    schemas, required = {}, []
    for field in dataclasses.fields(kind):
        schema = schemas[field.name] = dict(field.metadata["schema"])
        if isinstance(limit := schema.get("maximum"), str):
            schema["maximum"] = getattr(limits, limit)
        required += [field.name] * field.metadata["required"]
    return schemas, required


def check(value: Any, schema: Schema, name: str, place: str) -> None:
    """Raise `ApiError` 400 unless a value fits a schema; `place` is its position in the field `name`."""
    if problem := _problem(value, schema, place):
        raise ApiError(400, problem, name, "invalid_value")


def _problem(value: Any, schema: Schema, place: str) -> str:
    """What is wrong with a value, as a sentence; empty if nothing is."""
    if "anyOf" in schema:
        return _problem_of_any(value, schema["anyOf"], place)
    if "enum" in schema:
        known = " or ".join(map(json.dumps, schema["enum"]))
        is_known = any(value == known and type(value) is not bool for known in schema["enum"])
        return "" if is_known else f"{place}: not supported by this server; leave it out, or send {known} or null."
    kind = schema["type"]
    if not _is(value, kind):
        return f"{place}: {_shown(value)}, but {_KINDS[kind]} is expected."
    if kind in _NUMBERS:
        return _problem_of_number(value, schema, place)
    if kind == "object":
        return _problem_of_object(value, schema, place)
    if kind in ("string", "array"):
        least = int(schema.get("minLength", 0)) or int(schema.get("minItems", 0))
        most = float(schema.get("maxItems", math.inf))
        if len(value) < least:
            return f"{place}: empty."
        if len(value) > most:
            return f"{place}: {len(value):,} items, but at most {most:g} are allowed."
    if kind == "array" and not _are_ids(value, schema["items"]):
        problems = (_problem(item, schema["items"], f"{place}[{at}]") for at, item in enumerate(value))
        return next(filter(None, problems), "")
    return ""


def _are_ids(values: list[Any], schema: Schema) -> bool:
    """Whether a list is right at a glance, because it may hold very many token ids."""
    return schema == _IDS["items"] and set(map(type, values)) == {int} and min(values) >= 0


def _problem_of_any(value: Any, schemas: list[Schema], place: str) -> str:
    """The problem of the alternative that the value is most like."""
    like = [schema for schema in schemas if _is(value, schema["type"])]
    if isinstance(value, list) and value:
        like = [schema for schema in like if _is(value[0], schema["items"]["type"])] or like[:1]
    if not like:
        kinds = dict.fromkeys(_KINDS[schema["type"]] for schema in schemas)
        return f"{place}: {_shown(value)}, but {' or '.join(kinds)} is expected."
    return _problem(value, like[0], place)


def _problem_of_number(value: float, schema: Schema, place: str) -> str:
    if schema["type"] == "number" and not _is_finite(value):
        return f"{place}: {_shown(value)}, but a finite number is expected."
    low, above, high = schema.get("minimum"), schema.get("exclusiveMinimum"), schema.get("maximum")
    if low is not None and value < low:
        return f"{place}: {_shown(value)}, but must be at least {low}."
    if above is not None and value <= above:
        return f"{place}: {_shown(value)}, but must be above {above}."
    if high is not None and value > high:
        return f"{place}: {_shown(value)}, but must be at most {high}."
    return ""


def _is_finite(value: float) -> bool:
    """Whether a number of JSON is finite in 64 bits; an integer of JSON may be too large for that."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _problem_of_object(value: dict[str, Any], schema: Schema, place: str) -> str:
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    for key, item in value.items():
        if key not in known and not others:
            return f"{place}: this server has no field {_shown(key)} in it."
        if problem := _problem(item, known.get(key, others), f"{place}[{_shown(key)}]"):
            return problem
    return ""


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool) and kind != "boolean":
        return False
    return isinstance(value, _TYPES[kind])  # type: ignore[arg-type]


def _json(data: bytes) -> Any:
    def refused(name: str) -> Any:
        raise ValueError(f"{name} is no JSON")

    try:
        return json.loads(data, parse_constant=refused)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"The body is not JSON ({str(error)[:200]}).", code="invalid_json") from error


def _shown(value: Any) -> str:
    text = shown(value)
    return text.encode("ascii", "backslashreplace").decode() if not text.isprintable() else text
