"""Stop strings and held-back text: the same however the tokens arrive."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from keraslm.config import Config
from keraslm.server.rows import Seen
from keraslm.server.samples import Sample, join, part
from keraslm.text.decoding import Detokenizer
from keraslm.text.vocabulary import train_tokenizer

LETTERS = "ab🙂 "
BYTES = train_tokenizer([LETTERS], Config().replace(tokenizer="byte").data)
TEXTS = st.text(LETTERS, min_size=1, max_size=12)


def seen_of(ids: list[int]) -> Seen:
    logprobs = -np.arange(len(ids), dtype=np.float32)
    return Seen(np.array(ids, np.int32), logprobs, (np.array([ids]).T, logprobs[:, None]))


def sample(stops: list[str], count: int = 1000, through: bool = True) -> Sample:
    return Sample(Detokenizer(BYTES), stops, count, BYTES.eos_id, through, joined=False)


def deltas(made: Sample, ids: list[int], cuts: list[int]):
    """What comes out when the tokens arrive in pieces that end at `cuts`."""
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(ids)}), len(ids)]
    seen = seen_of(ids)
    for first, last in pairwise(edges):
        if not made.finish:
            yield made.add(part(seen, first, last))


@given(TEXTS, st.lists(TEXTS, max_size=3), st.lists(st.integers(0, 40)))
@example("ab🙂ab", ["🙂a"], [3])
@example("aab", ["ab", "aac"], [1, 2])
def test_the_text_ends_before_the_first_stop_string(text, stops, cuts):
    ids = BYTES.encode_prompt(text).tolist()
    made = sample(stops, len(ids))
    found = list(deltas(made, ids, cuts))
    # The first stop string that is complete ends the text; of those that are complete at once, the first that begins.
    ends = [text.index(stop) + len(stop) for stop in stops if stop in text]
    places = [text.index(stop) for stop in stops if stop in text and text.index(stop) + len(stop) == min(ends)]
    wanted = text[: min(places)] if places else text
    assert "".join(delta.text for delta in found) == wanted
    assert found[-1].finish == ("stop" if places else "length")
    tokens = join([delta.seen for delta in found])
    assert tokens.ids.tolist() == BYTES.encode_prompt(wanted).tolist()
    assert not wanted or tokens.tops[0][:, 0].tolist() == tokens.ids.tolist()
    offsets = [offset for delta in found for offset in delta.offsets]
    assert offsets == [at for at, character in enumerate(wanted) for _ in character.encode()]
    assert made.tokens == (len(BYTES.encode_prompt(text[: min(ends)])) if ends else len(ids))


@given(TEXTS, TEXTS, st.lists(st.integers(0, 40)))
def test_only_what_may_be_a_stop_string_is_held_back(text, stop, cuts):
    made, shown = sample([stop]), ""
    for delta in deltas(made, BYTES.encode_prompt(text).tolist(), cuts):
        shown += delta.text
        rest = made._text
        assert len(rest) < len(stop) and (delta.finish or stop.startswith(rest))


def test_the_end_symbol_is_a_token_without_text():
    ids = [*BYTES.encode_prompt("ab").tolist(), BYTES.eos_id, *BYTES.encode_prompt("b").tolist()]
    (delta,) = deltas(sample([], through=False), ids, [])
    assert (delta.text, delta.finish, delta.seen.ids.tolist(), delta.offsets) == ("ab", "stop", ids[:3], [0, 1, 2])
    (delta,) = deltas(sample([], 4), ids, [])
    assert (delta.text, delta.finish, delta.offsets) == ("ab\nb", "length", [0, 1, 2, 3])


def test_an_incomplete_character_is_shown_at_the_end():
    ids = BYTES.encode_prompt("a🙂").tolist()[:-1]
    (delta,) = deltas(sample([], len(ids)), ids, [])
    assert delta.text == "a\ufffd" and delta.finish == "length" and len(delta.seen) == len(ids)
