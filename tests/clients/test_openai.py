"""The package `openai` itself asks `keraslm serve`; its numbers are those of keraslm."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import keraslm
from tests.clients.conftest import environment_with
from tests.clients.made_model import MadeModel, make_model
from tests.support.serving import serving

VERSION = "3.57.0"
PROGRAM = Path(__file__).parent / "openai_program.py"
PROMPT = "the cat sits"
TOLERANCE = 1e-6  # nats


@pytest.fixture(scope="module")
def openai() -> Path:
    return environment_with(f"openai=={VERSION}")


@pytest.fixture(scope="module")
def model(openai, tmp_path_factory) -> MadeModel:
    return make_model(tmp_path_factory.mktemp("word"), "word")


@pytest.fixture(scope="module")
def found(openai, model) -> Iterator[dict[str, Any]]:
    """What the program found, by kind of request."""
    with serving(model.path, api_key="secret") as server:
        yield ask(openai, server.address, "secret")


def ask(python: Path, address: str, key: str) -> dict[str, Any]:
    line = [str(python), "-I", str(PROGRAM), address, key]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    print(f"\nopenai {answer['version']}")
    return answer["found"]


def choice(answer: dict[str, Any], number: int = 0) -> dict[str, Any]:
    assert answer["object"] == "text_completion" and answer["model"] == "made"
    return answer["choices"][number]


def drawn(model: MadeModel, **sampling: Any) -> str:
    tokens = keraslm.generate(model.scorer.session, PROMPT, 8, keraslm.Sampling(**sampling), as_text=True)
    return "".join(tokens).removesuffix("\n")


def test_the_model_is_listed(found, model):
    (listed,) = found["models"]
    assert (listed["id"], listed["object"], listed["owned_by"]) == ("made", "model", "keraslm")
    assert listed["meta"]["vocab_size"] == model.scorer.tokenizer.vocab_size and listed["created"] > 0


def test_logprobs_of_a_prompt_are_those_of_a_scorer(found, model):
    lines = {"echo": (0, f"{PROMPT}\n"), "of_ids": (0, PROMPT), "several": (1, "a zebra")}
    differences = []
    for name, (number, text) in lines.items():
        own = choice(found[name], number)
        logprobs, expected = own["logprobs"], model.token_logprobs(text)
        assert own["text"] == text and own["finish_reason"] == "length" and own["index"] == number
        pairs = zip(logprobs["token_logprobs"], expected, strict=True)
        differences += [abs(value - known) for value, known in pairs]
        tops = zip(logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True)
        assert all(len(top) in (2, 3) and value in top.values() for value, top in tops)
    print(f"{len(differences)} tokens: largest difference {max(differences):.2e} nats")
    assert max(differences) < TOLERANCE
    assert choice(found["echo"])["logprobs"]["text_offset"] == [0, 3, 7, 12]
    assert found["several"]["usage"] == {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5} | {
        "completion_tokens_details": None,
        "prompt_tokens_details": None,
    }


def test_ids_are_those_of_the_tokenizer(found, model):
    assert found["ids"] == model.scorer.tokenizer.encode_prompt(PROMPT).tolist()
    assert choice(found["of_ids"])["logprobs"] == choice(found["several"])["logprobs"]


def test_completions_are_those_of_generate(found, model):
    texts = [each["text"] for each in found["n"]["choices"]]
    assert texts[0] == drawn(model, seed=7) and len(set(texts)) > 1
    assert texts == [each["text"] for each in found["again"]["choices"]]
    assert choice(found["greedy"])["text"] == model.greedy
    assert choice(found["stopped"]) == choice(found["greedy"])


def test_a_biased_token_is_always_drawn(found, model):
    own, token = choice(found["biased"]), found["ids"][0]
    assert own["text"] == " the" * 8 and own["finish_reason"] == "length"
    _, context = model.scorer.advance_all(model.scorer.begin(), found["ids"])
    expected, _ = model.scorer.advance(context, token)
    assert own["logprobs"]["token_logprobs"][0] == pytest.approx(expected, abs=TOLERANCE)  # without the bias


def test_a_stream_is_the_same_text_and_ends_with_the_usage(found, model):
    *parts, last = found["stream"]
    assert "".join(choice(part)["text"] for part in parts) == drawn(model, seed=7)
    assert [choice(part)["finish_reason"] for part in parts[:-1]] == [None] * (len(parts) - 1)
    assert choice(parts[-1])["finish_reason"] in ("stop", "length")
    assert last["choices"] == [] and last["usage"]["prompt_tokens"] == 3
    assert all(part["usage"] is None for part in parts)


@pytest.mark.parametrize(
    ("name", "kind", "status", "param", "code"),
    [
        ("bad", "BadRequestError", 400, "temperature", "invalid_value"),
        ("unknown", "NotFoundError", 404, "model", "model_not_found"),
        ("wrong_key", "AuthenticationError", 401, None, "invalid_api_key"),
        ("chat", "NotFoundError", 404, None, "no_chat"),
    ],
)
def test_errors_are_the_exceptions_of_the_package(found, name, kind, status, param, code):
    own = found[name]
    assert (own["class"], own["status_code"], own["param"], own["code"]) == (kind, status, param, code)
    assert own["type"] and own["message"]


def test_a_full_queue_is_a_rate_limit(openai, model):
    with serving(model.path, max_queue="1") as server:
        found = ask(openai, server.address, "busy")
    assert len(found["first"]["choices"]) == 1
    for name in ("refused", "refused_again"):
        own = found[name]
        assert (own["class"], own["code"], own["retry-after"]) == ("RateLimitError", "queue_full", "1")
    assert found["later"]["usage"]["completion_tokens"] == 1
