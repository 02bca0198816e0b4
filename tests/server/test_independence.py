"""An answer does not depend on what else is computed: alone, and among many that are sent at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keraslm
from tests.support.made_run import make_run
from tests.support.served_models import KINDS, LINES, SIZES, TEXT, make_model
from tests.support.serving import Server, serving

INT8 = 0.03  # nats: the largest difference that 8-bit weights may make in a log-probability; 0.005 was seen


def requests() -> list[tuple[str, dict[str, Any]]]:
    """Requests of all kinds, with texts of different lengths."""
    found: list[tuple[str, dict[str, Any]]] = []
    texts = [*LINES[:5], *(" ".join(TEXT[:count]) for count in (1, 3, 9, 40))]
    for number, text in enumerate(texts):
        echo = {"prompt": text, "echo": True}
        found.append(("/v1/completions", {**echo, "max_tokens": 0, "logprobs": number % 3}))
        found.append(("/v1/completions", {**echo, "max_tokens": 1, "temperature": 0, "logprobs": 1}))
        drawn = {"prompt": text[:20], "max_tokens": 5 * number + 1, "seed": number, "ignore_eos": True, "n": 2}
        found.append(("/v1/completions", {**drawn, "logprobs": 2}))
        found.append(("/v1/completions", {**drawn, "top_p": 0.8, "temperature": 0.7}))
        found.append(("/score", {"text": text, "alternatives": number}))
        found.append(("/predict", {"text": text[:10], "count": 5}))
    return found


def ask(server: Server, request: tuple[str, dict[str, Any]]) -> Any:
    path, fields = request
    answer = server.post(path, **fields)
    assert answer.status == 200, answer.json
    return answer.json.get("choices", answer.json)


@pytest.mark.parametrize("kind", ["word", "bpe", "mixture"])
def test_an_answer_is_the_same_alone_and_among_others(tmp_path, kind):
    with serving(make_model(tmp_path, kind)) as server, ThreadPoolExecutor(54) as threads:
        alone = [ask(server, request) for request in requests()]
        for workers in range(3):
            assert list(threads.map(lambda request: ask(server, request), requests())) == alone, workers


def test_an_answer_is_the_same_from_several_workers(tmp_path):
    model = make_model(tmp_path, "word")
    with serving(model) as server:
        alone = [ask(server, request) for request in requests()]
    with serving(model, workers="2", threads="1") as server, ThreadPoolExecutor(54) as threads:
        assert list(threads.map(lambda request: ask(server, request), requests())) == alone


def test_8_bit_scores_depend_little_on_their_neighbours(tmp_path):
    model = _int8(tmp_path)
    asked = [{"prompt": line, "echo": True, "max_tokens": 0, "logprobs": 0} for line in TEXT[:60]]
    with serving(model) as server, ThreadPoolExecutor(60) as threads:
        alone = [server.complete(**fields)["choices"][0]["logprobs"]["token_logprobs"] for fields in asked]
        found = threads.map(lambda fields: server.complete(**fields), asked)
        beside = [each["choices"][0]["logprobs"]["token_logprobs"] for each in found]
    largest = max(np.abs(np.subtract(a, b)).max() for a, b in zip(alone, beside, strict=True))
    print(f"8-bit weights: largest difference {largest:.1e} nats")
    assert largest < INT8


def _int8(folder: Path) -> Path:
    run = make_run(folder, TEXT, **(SIZES | KINDS["word"]))
    (folder / "text.txt").write_text("\n".join(TEXT), encoding="utf-8")
    keraslm.export(run, folder / "model.onnx", int8=True, text=folder / "text.txt", tolerance=0.5)
    return folder / "model.onnx"
