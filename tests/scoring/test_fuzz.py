"""Changed metadata of a sealed model file are refused with a sentence, or the model answers with finite numbers."""

from __future__ import annotations

import hashlib
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import strategies
from tests.fuzz.targets import TARGETS, is_refused
from tests.support import fake_model

SOUND = fake_model.model_info().to_metadata()
STRINGS = st.sampled_from([str(odd) for odd in strategies.ODD if "\ud800" not in str(odd)]) | st.text(
    st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=9
)


def run(entries: dict[str, str]) -> None:
    parts = [part.replace("\x00", "").encode() for pair in entries.items() for part in pair]
    is_refused(TARGETS["metadata"], b"\x00".join(parts))


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(sorted(SOUND)), STRINGS, min_size=1, max_size=2))
def test_any_value(entries):
    run(entries)


@settings(max_examples=100)
@given(strategies.json_texts(json.loads(SOUND["config"])))
def test_any_configuration(data):
    run({"config": data.decode("utf-8", "replace")})


@settings(max_examples=150)
@given(strategies.changed(json.loads(SOUND["tokenizer"])))
def test_any_tokenizer_with_its_digest(value):
    text = json.dumps(value)
    run({"tokenizer": text, "tokenizer_sha256": hashlib.sha256(text.encode()).hexdigest()})
