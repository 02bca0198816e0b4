"""Documents for the tests of the filter."""

from __future__ import annotations

import json
import random

import pytest

from keraslm.filtering import driver

WORDS = ["the", "cat", "dog", "sat", "bird", "<eos>"]


def made(count: int, seed: int = 1) -> list[dict]:
    """Documents of one to three lines; a few have no text."""
    source = random.Random(seed)
    found = []
    for number in range(count):
        lines = [" ".join(source.choices(WORDS, k=source.randrange(9))) for _ in range(source.randrange(1, 4))]
        found.append({"id": number, "text": source.choice(["\n", "\r\n"]).join(lines) if number % 17 else None})
    return found


def json_lines(documents) -> str:
    return "".join(f"{json.dumps(document, ensure_ascii=False)}\n" for document in documents)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(driver, "BATCH", 8)


@pytest.fixture
def corpus(text):
    return text(json_lines(made(200)), "docs.jsonl")
