"""Wrong requests: the status, the field that is named, and a sentence; nothing is ignored silently."""

from __future__ import annotations

import json
import socket
import time

import pytest

from tests.support.served_models import make_model
from tests.support.serving import serving

FIELDS = [
    ("prompt", 5, "prompt: 5, but a string or a list is expected."),
    ("prompt", {"a": 1}, "prompt: {'a': 1}, but a string or a list is expected."),
    ("prompt", ["a", 1], "prompt[1]: 1, but a string is expected."),
    ("prompt", [1, "a"], "prompt[1]: 'a', but an integer is expected."),
    ("prompt", [1.5], "prompt[0]: 1.5, but an integer is expected."),
    ("prompt", [True], "prompt[0]: True, but an integer is expected."),
    ("prompt", [[1], [-1]], "prompt[1][0]: -1, but must be at least 0."),
    ("prompt", [10**9], "prompt: token id 1000000000 is outside the vocabulary of 0 to 51."),
    ("prompt", ["a"] * 20, "prompt: 20 prompts, but at most 10 are allowed."),
    ("prompt", "the " * 2000, "prompt: the request may need 2,016 tokens, but at most 1,000 are allowed."),
    ("max_tokens", 0, "max_tokens: 0 without echo asks for nothing."),
    ("max_tokens", -1, "max_tokens: -1, but must be at least 0."),
    ("max_tokens", 1.5, "max_tokens: 1.5, but an integer is expected."),
    ("max_tokens", True, "max_tokens: True, but an integer is expected."),
    ("max_tokens", 1001, "max_tokens: 1001, but must be at most 1000."),
    ("max_tokens", 1000, "max_tokens: the request may need 1,001 tokens, but at most 1,000 are allowed."),
    ("temperature", -0.1, "temperature: -0.1, but must be at least 0."),
    ("temperature", "hot", "temperature: 'hot', but a number is expected."),
    ("top_p", 0, "top_p: 0, but must be above 0."),
    ("top_p", 1.1, "top_p: 1.1, but must be at most 1."),
    ("top_k", -2, "top_k: -2, but must be at least -1."),
    ("min_p", 2, "min_p: 2, but must be at most 1."),
    ("seed", -1, "seed: -1, but must be at least 0."),
    ("seed", 2**64, "seed: 18446744073709551616, but must be at most 18446744073709551615."),
    ("stop", "", "stop: empty."),
    ("stop", ["a"] * 17, "stop: 17 items, but at most 16 are allowed."),
    ("stop", ["a", 1], "stop[1]: 1, but a string is expected."),
    ("logprobs", 6, "logprobs: 6, but must be at most 5."),
    ("logprobs", True, "logprobs: True, but an integer is expected."),
    ("echo", "yes", "echo: 'yes', but true or false is expected."),
    ("n", 0, "n: 0, but must be at least 1."),
    ("n", 11, "n: 11, but must be at most 10."),
    ("stream", 1, "stream: 1, but true or false is expected."),
    ("stream_options", {"include_usage": True}, "stream_options: needs stream."),
    ("stream_options", {"usage": True}, "stream_options: this server has no field 'usage' in it."),
    ("logit_bias", {"5": 101}, "logit_bias['5']: 101, but must be at most 100."),
    ("logit_bias", {"99": 1}, "logit_bias: '99' is no token id from 0 to 51."),
    ("logit_bias", {"cat": 1}, "logit_bias: 'cat' is no token id from 0 to 51."),
    ("best_of", 2, "best_of: not supported by this server; leave it out, or send 1 or null."),
    ("suffix", "end", 'suffix: not supported by this server; leave it out, or send "" or null.'),
    ("presence_penalty", 0.5, "presence_penalty: not supported by this server; leave it out, or send 0 or null."),
    ("frequency_penalty", True, "frequency_penalty: not supported by this server; leave it out, or send 0 or null."),
    ("return_token_ids", 0, "return_token_ids: 0, but true or false is expected."),
    ("ignore_eos", "no", "ignore_eos: 'no', but true or false is expected."),
    ("user", 1, "user: 1, but a string is expected."),
    ("typo", 1, "typo: this server has no such field."),
    ("a\nb", 1, "'a\\nb': this server has no such field."),
]
OTHERS = [
    ("/score", {}, "text", "text: missing."),
    ("/score", {"text": 1}, "text", "text: 1, but a string is expected."),
    ("/score", {"text": "a", "alternatives": 9}, "alternatives", "alternatives: 9, but must be at most 5."),
    ("/score", {"text": "a " * 1001}, "text", "text: 1,002 tokens, but at most 1,000 are allowed."),
    ("/predict", {"text": "a", "count": 0}, "count", "count: 0, but must be at least 1."),
    ("/tokenize", {}, "prompt", "prompt: missing."),
    ("/detokenize", {"tokens": [99]}, "tokens", "tokens: token id 99 is outside the vocabulary of 0 to 51."),
    ("/v1/completions", {}, "prompt", "prompt: missing."),
]
BODIES = {
    b"": "The body is not JSON (",
    b"{": "The body is not JSON (",
    b"[1, 2]": "The body is [1, 2], but a JSON object is expected.",
    b'{"prompt": NaN}': "The body is not JSON (NaN is no JSON).",
    b'{"prompt": "a", "temperature": 1e999}': "temperature: inf, but a finite number is expected.",
    b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}": "The body is not JSON (",
    b"[" * 100_000: "The body is not JSON (",
    b'{"prompt": "\xff"}': "The body is not JSON (",
}
LIMITS = {"max_tokens": "1000", "max_prompts": "10", "max_logprobs": "5", "max_body": "200000"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(make_model(tmp_path_factory.mktemp("model"), "word"), **LIMITS) as server:
        yield server


@pytest.mark.parametrize(("name", "value", "message"), FIELDS)
def test_a_wrong_field_is_named(server, name, value, message):
    answer = server.post("/v1/completions", **{"prompt": "the", name: value})
    assert answer.status == 400
    assert (answer.error["message"], answer.error["param"]) == (message, name)
    assert answer.error["type"] == "invalid_request_error" and answer.error["code"]


@pytest.mark.parametrize(("path", "fields", "name", "message"), OTHERS)
def test_a_wrong_field_of_other_requests_is_named(server, path, fields, name, message):
    answer = server.post(path, **fields)
    assert answer.status == 400 and (answer.error["param"], answer.error["message"]) == (name, message)


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_a_body_that_is_no_request_is_refused(server, body):
    answer = server.request("POST", "/v1/completions", body)
    assert answer.status == 400 and answer.error["message"].startswith(BODIES[body])


def test_an_integer_beyond_64_bits_is_no_finite_number(server):
    answer = server.post("/v1/completions", prompt="the", temperature=10**400)
    assert answer.status == 400 and answer.error["message"].endswith(", but a finite number is expected.")


def test_null_and_neutral_values_are_the_same_as_absent_ones(server):
    names = {name for name, _, _ in FIELDS} - {"prompt", "typo", "a\nb", "max_tokens", "seed"}
    fields = {"prompt": "the", "seed": 1, "max_tokens": 5}
    neutral = {"best_of": 1, "suffix": "", "presence_penalty": 0, "frequency_penalty": 0.0, "user": "me"}
    plain = server.complete(**fields)["choices"]
    assert server.complete(**fields, **dict.fromkeys(names))["choices"] == plain
    assert server.complete(**fields, **neutral)["choices"] == plain


def test_half_a_character_is_read_as_the_replacement_character(server):
    body = b'{"prompt": "the \\ud83d cat", "echo": true, "max_tokens": 0, "logprobs": 0}'
    answer = server.request("POST", "/v1/completions", body)
    assert answer.status == 200 and answer.json["choices"][0]["logprobs"]["tokens"] == ["the", " <unk>", " cat"]


@pytest.mark.parametrize("path", ["/score", "/predict"])
def test_half_a_character_is_read_by_all_requests(server, path):
    found = [server.request("POST", path, b'{"text": "the %s cat "}' % half) for half in (b"\\ud83d", b"\\ufffd")]
    assert found[0].status == 200 and found[0].json == found[1].json


def test_a_body_over_the_limit_is_refused_before_it_is_read(server):
    answer = server.request("POST", "/v1/completions", json.dumps({"prompt": "a" * 200_000}).encode())
    assert answer.status == 413 and answer.error["code"] == "body_too_large"
    with socket.create_connection(("127.0.0.1", server.port)) as client:  # chunks without a length
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
        client.sendall((b"8000\r\n" + b" " * 0x8000 + b"\r\n") * 7)
        assert client.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_routes_methods_and_models_that_do_not_exist(server):
    assert server.get("/nowhere").status == 404
    assert server.get("/nowhere").error["message"] == "/nowhere: there is no such route."
    assert server.get("/v1/completions").status == 405
    assert server.get("/v1/completions").error["message"] == "GET is not a method of /v1/completions."
    assert server.get("/health/").status == 404 and server.get("/%1b").error["message"].startswith("/\\x1b: ")
    chat = server.post("/v1/chat/completions", messages=[])
    assert chat.status == 404 and "send a prompt to /v1/completions" in chat.error["message"]
    other = server.post("/v1/completions", prompt="a", model="gpt")
    assert (other.status, other.error["param"], other.error["code"]) == (404, "model", "model_not_found")
    assert server.complete(prompt="a", model="model")["model"] == "model"


def test_a_trailer_without_end_is_refused(server):
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(
            b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n"
        )
        time.sleep(0.2)  # what arrives with a part of the body is not counted
        client.sendall(b"x: " + b"y" * 70_000)
        assert client.recv(1000).startswith(b"HTTP/1.1 431 ")


def test_what_is_not_http_gets_an_error_too(server):
    for data, status in ((b"nonsense\r\n\r\n", 400), (b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000, 431)):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(data)
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} ".encode())
        assert json.loads(body)["error"]["code"] == "invalid_http"
