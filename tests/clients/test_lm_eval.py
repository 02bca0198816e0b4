"""lm-evaluation-harness asks `keraslm serve`; its numbers are those of keraslm itself.

The pairs are scored by two tasks: that of `examples/lm_eval`, with line ends, and BLiMP's own template without them.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import keraslm
from tests.clients import harness
from tests.clients.conftest import environment_with
from tests.clients.made_model import MadeModel, make_model, minimal_pairs
from tests.support.serving import serving

VERSION = "0.4.13"
EXAMPLE = Path(__file__).parents[2] / "examples" / "lm_eval"
TASKS = Path(__file__).parent / "harness_tasks"
NAMES = ["minimal_pairs", "blimp_pairs", "rolling", "writing"]
TOLERANCE = 1e-4  # nats
MAX_TOKENS = 4096
TEXTS = [
    "the cat sits on the mat .\nthe zebra runs .\n",
    "the dogs sing .",
    "a bird\n\nthe children sleep in a house near here .\n" * 20,
]
PROMPTS = ["the cat", "the dogs run", "the child sits on", "the zebra"]
RUNS = {  # kind of tokenizer, and arguments of the harness
    "word, batch_size 1": ("word", {"batch_size": 1, "num_concurrent": 8}),
    "word, batch_size 8": ("word", {"batch_size": 8, "num_concurrent": 8}),
    "char, one at a time": ("char", {"batch_size": 8, "num_concurrent": 1}),
    "word, as texts": ("word", {"batch_size": 1, "num_concurrent": 8, "tokenized_requests": False}),
}


@pytest.fixture(scope="module")
def lm_eval() -> Path:
    return environment_with(f"lm-eval[api]=={VERSION}")


@pytest.fixture(scope="module")
def models(lm_eval, tmp_path_factory) -> dict[str, MadeModel]:
    return {kind: make_model(tmp_path_factory.mktemp(kind), kind) for kind in ("word", "char")}


class Asked:
    """A model, and what the harness found by asking its server."""

    def __init__(self, model: MadeModel, pairs: list[tuple[str, str]], stop: str, results: harness.Results):
        self.model, self.pairs, self.stop, self.results = model, pairs, stop, results


@pytest.fixture(scope="module", params=RUNS)
def asked(request, lm_eval, models, tmp_path_factory) -> Iterator[Asked]:
    kind, arguments = RUNS[request.param]
    model, folder = models[kind], tmp_path_factory.mktemp("harness")
    pairs, stop = minimal_pairs(model), stop_string(model)
    write_tasks(folder, package_of(lm_eval), pairs, stop, delimiter=None if kind == "word" else "")
    key = "secret" if arguments["batch_size"] == 8 else ""
    options = {"max_tokens": str(8 * MAX_TOKENS)} | ({"api_key": key} if key else {})
    with serving(model.path, **options) as server:
        arguments = arguments | {"max_length": MAX_TOKENS} | ({"auth_token": key} if key else {})
        line = harness.command(lm_eval, server.address, NAMES, folder / "tasks", **arguments)
        results = harness.run(line, folder, key)
    print(f"\nlm-eval {VERSION}, {request.param}")
    yield Asked(model, pairs, stop, results)


def package_of(python: Path) -> Path:
    line = [python, "-c", "import importlib.util; print(importlib.util.find_spec('lm_eval').origin)"]
    return Path(subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()).parent


def write_tasks(folder: Path, package: Path, pairs: Any, stop: str, delimiter: str | None) -> None:
    """The tasks and their data. BLiMP's template is read where the harness has it."""
    shutil.copytree(TASKS, folder / "tasks")
    shutil.copy(EXAMPLE / "minimal_pairs.yaml", folder / "tasks")
    writing = folder / "tasks" / "writing.yaml"
    writing.write_text(writing.read_text("utf-8").replace("STOP", json.dumps(stop)), "utf-8")
    blimp = {"include": str(package / "tasks" / "blimp" / "_template_yaml"), "task": "blimp_pairs"}
    blimp |= {"dataset_path": "json", "dataset_kwargs": {"data_files": {"train": "pairs.jsonl"}}}
    blimp |= {} if delimiter is None else {"target_delimiter": delimiter}
    (folder / "tasks" / "blimp_pairs.yaml").write_text(json.dumps(blimp), "utf-8")
    write_lines(folder / "pairs.jsonl", [{"sentence_good": good, "sentence_bad": bad} for good, bad in pairs])
    write_lines(folder / "texts.jsonl", [{"text": text} for text in TEXTS])
    write_lines(folder / "prompts.jsonl", [{"prompt": prompt, "expected": ""} for prompt in PROMPTS])


def write_lines(path: Path, records: list[dict[str, str]]) -> None:
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")


def largest(found: list[float], expected: list[float]) -> float:
    assert len(found) == len(expected)
    return max(abs(first - second) for first, second in zip(found, expected, strict=True))


def test_pairs_with_line_ends_are_those_of_keraslm_pairs(asked):
    expected = keraslm.pairs(asked.model.scorer, asked.pairs)
    choices = asked.results.choices("minimal_pairs")
    found = [value for pair in choices for value, _ in pair]
    difference = largest(found, [value for score in expected.scores for value in (score.good, score.bad)])
    accuracy = asked.results.metric("minimal_pairs", "acc")
    print(f"{len(choices)} pairs, accuracy {accuracy:.4f}: largest difference {difference:.2e} nats")
    assert difference < TOLERANCE
    assert expected.count("tie") == 0 and accuracy == expected.accuracy and 0.2 < accuracy < 0.8


def test_pairs_of_blimps_own_task_have_no_end_symbol(asked):
    choices = asked.results.choices("blimp_pairs")
    expected = [math.fsum(asked.model.token_logprobs(text)) for pair in asked.pairs for text in pair]
    difference = largest([value for pair in choices for value, _ in pair], expected)
    accuracy = asked.results.metric("blimp_pairs", "acc")
    right = sum(good > bad for good, bad in zip(expected[::2], expected[1::2], strict=True))
    print(f"without line ends, accuracy {accuracy:.4f}: largest difference {difference:.2e} nats")
    assert difference < TOLERANCE and accuracy == right / len(choices)


@pytest.mark.parametrize(("task", "end"), [("minimal_pairs", "\n"), ("blimp_pairs", "")])
def test_greedy_sentences_are_recognised(asked, task, end):
    found = [is_greedy for pair in asked.results.choices(task) for _, is_greedy in pair]
    assert found == [asked.model.is_greedy(text + end) for pair in asked.pairs for text in pair]
    assert found[-2:] == [True, False] and not any(found[:-2])


def test_perplexities_of_texts(asked):
    sums = [math.fsum(asked.model.token_logprobs(text)) for text in TEXTS]
    found = [float(sample["filtered_resps"][0]) for sample in asked.results.samples("rolling")]
    difference = largest(found, sums)
    total, size = sum(sums), sum(len(text.encode()) for text in TEXTS)
    words = sum(len(re.split(r"\s+", text)) for text in TEXTS)
    expected = {"bits_per_byte": -total / size / math.log(2), "byte_perplexity": math.exp(-total / size)}
    expected |= {"word_perplexity": math.exp(-total / words)}
    for name, value in expected.items():
        print(f"{name}: {asked.results.metric('rolling', name):.6f}, expected {value:.6f}")
        assert asked.results.metric("rolling", name) == pytest.approx(value, rel=1e-6)
    print(f"rolling: largest difference {difference:.2e} nats in texts of up to {len(TEXTS[2]):,} characters")
    assert difference < TOLERANCE


def test_texts_end_before_stop_strings(asked):
    found = asked.results.texts("writing")
    texts = [written(asked.model, prompt) for prompt in PROMPTS]
    assert found == [text.split("\n")[0].split(asked.stop)[0] for text in texts]
    assert any(asked.stop in text for text in texts)


def written(model: MadeModel, prompt: str) -> str:
    """The most probable continuation."""
    greedy = keraslm.Sampling(temperature=0)
    return "".join(keraslm.generate(model.scorer.session, prompt, 12, greedy, as_text=True))


def stop_string(model: MadeModel) -> str:
    """A part of what the model writes after a prompt."""
    text = max((written(model, prompt).split("\n")[0] for prompt in PROMPTS), key=len)
    return text[len(text) // 2 :][:3]
