"""Runs in an environment with the package openai and without keraslm: asks a server for completions.

    python openai_program.py ADDRESS KEY      answers to requests of many kinds
    python openai_program.py ADDRESS busy     what a second request gets while the only place is taken

Prints JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import openai

MODEL = "made"
PROMPT = "the cat sits"


def answers(client: openai.OpenAI, address: str) -> dict[str, Any]:
    create = client.completions.create
    ids = create(model=MODEL, prompt=PROMPT, max_tokens=0, extra_body={"echo": True, "return_token_ids": True})
    ids = ids.choices[0].model_dump()["prompt_token_ids"]
    bias = {str(ids[0]): 100}
    score = {"model": MODEL, "max_tokens": 0, "echo": True, "logprobs": 2}
    draw = {"model": MODEL, "prompt": PROMPT, "max_tokens": 8, "seed": 7}
    wrong = openai.OpenAI(base_url=f"{address}v1", api_key="wrong", max_retries=0)
    return {
        "models": [each.model_dump() for each in client.models.list()],
        "ids": ids,
        "echo": create(prompt=f"{PROMPT}\n", **score).model_dump(),
        "of_ids": create(prompt=ids, **score).model_dump(),
        "several": create(prompt=[PROMPT, "a zebra"], **score).model_dump(),
        "n": create(n=3, **draw).model_dump(),
        "again": create(n=3, **draw).model_dump(),
        "greedy": create(model=MODEL, prompt="", max_tokens=20, temperature=0).model_dump(),
        "stopped": create(model=MODEL, prompt="", max_tokens=20, temperature=0, stop="\n").model_dump(),
        "biased": create(logit_bias=bias, logprobs=1, **draw).model_dump(),
        "stream": [part.model_dump() for part in create(stream=True, stream_options={"include_usage": True}, **draw)],
        "bad": failure(lambda: create(model=MODEL, prompt=PROMPT, temperature=-1)),
        "unknown": failure(lambda: create(model="other", prompt=PROMPT)),
        "wrong_key": failure(lambda: wrong.completions.create(model=MODEL, prompt=PROMPT)),
        "chat": failure(
            lambda: client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": ""}])
        ),
    }


def failure(call: Callable[[], object]) -> dict[str, Any]:
    """The exception that a call raises."""
    try:
        call()
    except openai.APIStatusError as error:
        names = ("status_code", "param", "code", "type", "message")
        headers = {name: error.response.headers.get(name) for name in ("retry-after", "x-request-id")}
        return {"class": type(error).__name__, **{name: getattr(error, name) for name in names}, **headers}
    return {"class": "none"}


def busy(client: openai.OpenAI) -> dict[str, Any]:
    """While a stream takes the only place, a request fails at once, or succeeds after retries when it has ended."""
    endless = {"model": MODEL, "prompt": PROMPT, "max_tokens": 200_000, "extra_body": {"ignore_eos": True}}
    with client.completions.create(stream=True, **endless) as stream:
        first = next(iter(stream)).model_dump()
        refused = failure(
            lambda: client.with_options(max_retries=0).completions.create(model=MODEL, prompt=PROMPT, max_tokens=1)
        )
        refused_again = failure(
            lambda: client.with_options(max_retries=1).completions.create(model=MODEL, prompt=PROMPT, max_tokens=1)
        )
    later = client.with_options(max_retries=5).completions.create(model=MODEL, prompt=PROMPT, max_tokens=1)
    return {"first": first, "refused": refused, "refused_again": refused_again, "later": later.model_dump()}


if __name__ == "__main__":
    address, key = sys.argv[1:]
    client = openai.OpenAI(base_url=f"{address}v1", api_key=key, max_retries=0)
    found = busy(client) if key == "busy" else answers(client, address)
    print(json.dumps({"version": openai.__version__, "found": found}))
