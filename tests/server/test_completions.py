"""Drawn text: seeds, samples, stop strings, biases, line ends, streams, and clients that leave."""

from __future__ import annotations

import json
import socket
import struct

import numpy as np
import pytest

import keraslm
from keraslm.scoring.sampler import Sampling, generate
from tests.support.served_models import make_model
from tests.support.serving import serving, wait_for


@pytest.fixture(scope="module", params=["word", "char", "bpe"])
def served(request, tmp_path_factory):
    """A server, and the scorer of its model."""
    model = make_model(tmp_path_factory.mktemp(request.param), request.param)
    with serving(model) as server:
        yield server, keraslm.load(model, "cpu")


def drawn(scorer, prompt: str, count: int, through: bool = False, **settings) -> str:
    return "".join(generate(scorer.session, prompt, count, Sampling(**settings), stop_at_eos=not through, as_text=True))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 0},
        {"top_k": 3},
        {"top_p": 0.5},
        {"min_p": 0.4},
        {"top_k": 9, "top_p": 0.8},
    ],
)
def test_text_is_that_of_generate(served, settings):
    server, scorer = served
    for seed in (0, 7, 2**63 + 5):
        fields = {"prompt": "the cat", "max_tokens": 12, "seed": seed, **settings}
        found = server.complete(**fields, ignore_eos=True)["choices"][0]
        assert found["text"] == drawn(scorer, "the cat", 12, True, seed=seed, **settings)
        assert found["finish_reason"] == "length"
        found = server.complete(**fields)["choices"][0]
        assert found["text"] == drawn(scorer, "the cat", 12, seed=seed, **settings).removesuffix("\n")


def test_samples_differ_and_each_is_the_same_whatever_their_number(served):
    server, _ = served
    fields = {"prompt": ["the", "a dog"], "max_tokens": 8, "seed": 3, "ignore_eos": True}
    many = server.complete(**fields, n=4)
    assert [choice["index"] for choice in many["choices"]] == [*range(8)]
    texts = [choice["text"] for choice in many["choices"]]
    assert len(set(texts[:4])) > 1
    few = [choice["text"] for choice in server.complete(**fields, n=2)["choices"]]
    assert few == [texts[0], texts[1], texts[4], texts[5]]
    assert many["usage"]["completion_tokens"] == 64
    assert server.complete(prompt="the", max_tokens=8)["choices"][0]["finish_reason"] in ("stop", "length")


def test_a_completion_ends_before_a_stop_string(served):
    server, _ = served
    fields = {"prompt": "the cat", "max_tokens": 30, "seed": 11, "ignore_eos": True, "logprobs": 0}
    whole = server.complete(**fields)["choices"][0]
    text = whole["text"]
    for start, length in ((3, 2), (5, 4), (0, 1), (len(text) - 3, 3)):
        stop = text[start : start + length]
        choice = server.complete(**fields, stop=[stop, "never so"])["choices"][0]
        place = text.index(stop)
        assert choice["text"] == text[:place] and choice["finish_reason"] == "stop"
        before = sum(at < place for at in whole["logprobs"]["text_offset"])
        for name in ("tokens", "token_logprobs", "text_offset"):
            assert choice["logprobs"][name] == whole["logprobs"][name][:before]
        assert choice == {**choice, **_joined(server, **fields, stop=stop)}


def test_streams_have_the_same_content(served):
    server, _ = served
    fields = {"prompt": ["the cat", "a"], "max_tokens": 20, "seed": 5, "logprobs": 2, "n": 2, "echo": True}
    whole = server.complete(**fields, return_token_ids=True)
    for number, choice in enumerate(whole["choices"]):
        found = _joined(server, index=number, **fields, return_token_ids=True)
        assert {name: choice[name] for name in found} == found
    events = server.post("/v1/completions", **fields, stream=True, stream_options={"include_usage": True}).events
    assert events[-1] == "[DONE]" and events[-2]["choices"] == [] and events[-2]["usage"] == whole["usage"]
    assert all(event["usage"] is None and event["object"] == "text_completion" for event in events[:-2])
    assert len({event["id"] for event in events[:-1]}) == 1


def _joined(server, index: int = 0, **fields):
    """The parts of one choice of a stream, joined."""
    answer = server.post("/v1/completions", **fields, stream=True)
    assert answer.status == 200 and answer.headers["content-type"] == "text/event-stream"
    parts = [c for event in answer.events[:-1] for c in event["choices"] if c["index"] == index]
    assert all(part["finish_reason"] is None for part in parts[:-1])
    found = {"text": "".join(part["text"] for part in parts), "finish_reason": parts[-1]["finish_reason"]}
    names = parts[0]["logprobs"] or {}
    found["logprobs"] = {name: [x for part in parts for x in part["logprobs"][name]] for name in names} or None
    if fields.get("return_token_ids"):
        found["token_ids"] = [x for part in parts for x in part.get("token_ids", [])]
    return found


def test_a_bias_forces_and_bans_tokens(served):
    server, scorer = served
    token = int(scorer.tokenizer.encode_prompt("the")[0])
    fields = {"prompt": "the", "max_tokens": 4, "return_token_ids": True, "logprobs": 0}
    forced = server.complete(**fields, logit_bias={str(token): 100})
    (choice,) = forced["choices"]
    assert choice["token_ids"] == [token] * 4
    _, context = scorer.advance_all(scorer.begin(), scorer.tokenizer.encode_prompt("the"))
    assert choice["logprobs"]["token_logprobs"][0] == float(scorer.next_logprobs(context)[token])  # without the bias
    free = {"prompt": "the", "max_tokens": 60, "seed": 1, "ignore_eos": True, "return_token_ids": True}
    common = np.bincount(server.complete(**free)["choices"][0]["token_ids"]).argmax()
    banned = server.complete(**free, logit_bias={str(common): -100})["choices"][0]["token_ids"]
    assert common not in banned and len(banned) == 60


def test_the_unknown_token_is_never_drawn(served):
    server, scorer = served
    if scorer.tokenizer.unk_id < 0:
        pytest.skip("this tokenizer has no unknown token")
    fields = {"prompt": "", "max_tokens": 300, "temperature": 5.0, "seed": 2, "ignore_eos": True}
    (choice,) = server.complete(**fields, return_token_ids=True, logit_bias={str(scorer.tokenizer.unk_id): 100})[
        "choices"
    ]
    assert scorer.tokenizer.unk_id not in choice["token_ids"] and len(set(choice["token_ids"])) > 10


def test_an_end_symbol_ends_a_completion_and_is_its_last_token(served):
    server, scorer = served
    end = str(scorer.tokenizer.eos_id)
    fields = {"prompt": "the", "max_tokens": 3, "logit_bias": {end: 100}, "logprobs": 1, "return_token_ids": True}
    (choice,) = server.complete(**fields)["choices"]
    assert (choice["text"], choice["finish_reason"], choice["token_ids"]) == ("", "stop", [int(end)])
    assert choice["logprobs"]["tokens"] == ["\n"]
    (choice,) = server.complete(**fields, ignore_eos=True)["choices"]
    assert (choice["text"], choice["finish_reason"], choice["token_ids"]) == ("\n\n\n", "length", [int(end)] * 3)


@pytest.mark.parametrize("context", ["sentence", "paragraph", "document"])
def test_drawn_line_ends_reset_the_state_as_the_context_says(tmp_path, context):
    model = make_model(tmp_path, "word", context=context)
    end = keraslm.load(model).tokenizer.eos_id
    fields = {"prompt": "the cat", "max_tokens": 80, "seed": 4, "ignore_eos": True, "logprobs": 0}
    fields["logit_bias"] = {str(end): 4}
    with serving(model) as server:
        (choice,) = server.complete(**fields)["choices"]
        text = "the cat" + choice["text"]
        assert text.count("\n\n") > 1
        (again,) = server.complete(prompt=text, max_tokens=0, echo=True, logprobs=0)["choices"]
    assert again["logprobs"]["token_logprobs"][2:] == choice["logprobs"]["token_logprobs"]


def test_white_space_at_the_end_of_a_prompt_is_not_repeated(tmp_path):
    with serving(make_model(tmp_path, "word")) as server:
        fields = {"max_tokens": 3, "seed": 1, "ignore_eos": True, "echo": True}
        plain = server.complete(prompt="the cat", **fields)["choices"][0]["text"]
        assert plain.startswith("the cat ")
        assert server.complete(prompt="the cat ", **fields)["choices"][0]["text"] == plain


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_stops_the_work(served, stream):
    server, _ = served
    fields = {"prompt": "the", "max_tokens": 200_000, "ignore_eos": True, "stream": stream}
    body = json.dumps(fields).encode()
    before = sum(record["status"] == 499 for record in server.log)
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        head = f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        if stream:
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        else:
            wait_for(lambda: server.metric("keraslm_active_requests") == 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closes at once
    wait_for(lambda: server.metric("keraslm_active_requests") == 0)
    wait_for(lambda: sum(record["status"] == 499 for record in server.log) == before + 1)
    assert server.log[-1].get("completion_tokens", 0) < 200_000
