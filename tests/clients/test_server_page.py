"""The page of `keraslm serve` in headless Chromium: every number of it is the one of keraslm."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from keraslm.scoring.measures import LineScore
from tests.clients.served_page import TOLERANCE, Served

COLUMNS = 4  # tokens of one piece that the tip shows
TEXT = "🙂 the cat 👩‍👩‍👧 sat, 日本\nzebra  <unk> Η ΟΔΟΣ e\u0301  \n\nשלום the 🙂 cat"
ON_TEXT = {"evaluate": "document.getElementById('t').focus()"}


def tip_difference(line: LineScore, tokens: range, distributions: list[np.ndarray], tip: dict[str, Any]) -> float:
    """The largest difference of a number of bits in a tip, beyond rounding; all else about the tokens is equal."""
    most, shown = tokens[:COLUMNS], tip["numbers"]
    assert (shown["token"][-1] == "…") == (len(tokens) > COLUMNS)
    assert shown["id"][: len(most)] == [str(line.ids[at]) for at in most]
    assert line.ranks is not None and shown["rank"][: len(most)] == [f"{line.ranks[at]:,}" for at in most]
    assert ("note" in shown) == any(line.oov[at] for at in most)
    names = ("surprisal", "log-probability", "probability", "entropy")
    bits, nats, probabilities, entropies = ([float(x.split()[0]) for x in shown[name][: len(most)]] for name in names)
    logprobs = line.logprobs[most.start : most.stop]
    assert line.entropies is not None
    np.testing.assert_allclose(probabilities, np.exp(logprobs), rtol=6e-3)
    check_alternatives(tip["alternatives"], [distributions[at] for at in most])
    differences = [
        np.abs(bits + logprobs / np.log(2)) - 5e-4,
        np.abs(nats - logprobs) / np.log(2) - 5e-5 / np.log(2),
        np.abs(entropies - line.entropies[most.start : most.stop] / np.log(2)) - 5e-3,
    ]
    return float(np.max(differences))


def check_alternatives(shown: list[list[list[str]]], distributions: list[np.ndarray]) -> None:
    """Check the percentages of the five most probable tokens: a row per rank, a column per token."""
    assert len(shown) == 5
    for column, logprobs in enumerate(distributions):
        best = np.exp(np.sort(logprobs)[::-1][:5].astype(np.float64))
        percents = [float(cells[column][1].removesuffix(" %").removeprefix("< ")) for cells in shown]
        np.testing.assert_allclose(percents, 100 * best, rtol=0.06, atol=1e-3)


def test_the_numbers_are_those_of_keraslm(served: Served, visit_server):
    """Each token is reached with the arrow keys, and its tip is read."""
    places = [
        (line, number, piece) for number, line in enumerate(served.lines(TEXT)) for piece, *_ in served.pieces(line)
    ]
    keys = [{"key": "ArrowRight"}] * (len(places) + 1)
    empty, typed, focused, *states = visit_server(served.address, {"text": TEXT}, ON_TEXT, *keys)
    assert (empty["status"], empty["pieces"], empty["totals"]) == ("", [], {})
    largest, distributions = served.difference(TEXT, typed), served.distributions(TEXT)
    states = states if focused["now"] < 0 else [focused, *states]
    for place, (line, number, piece) in enumerate(places):
        assert states[place]["now"] == place
        tokens, tip = range(*piece[2:]), states[place]["tip"]
        assert tip["caption"].startswith(f"line {number + 1}")
        largest = max(largest, tip_difference(line, tokens, distributions[number], tip))
    assert states[-1]["now"] == len(places) - 1
    print(f"\n{served.tokenizer}: largest difference {largest:.2e} bits", end="")
    assert largest < TOLERANCE


def test_the_facts_are_those_of_the_model(served: Served, visit_server):
    (state,) = visit_server(served.address)
    facts, size = dict(state["facts"]), served.scorer.session.info.vocab_size
    assert re.fullmatch("(LSTM|GRU) of (16, 12|2 × [0-9]+) units", facts["network"]) and facts["model"] == "model"
    assert facts["vocabulary"].split()[0] == f"{size:,}" and facts["context"] == served.context
    assert "validation perplexity" not in facts  # the run was not trained


def test_the_numbers_do_not_depend_on_how_the_text_was_typed(served_words: Served, visit_server):
    texts = ["the 🙂 cat", "the 🙂 ran", "two\nlines ", "one line\n", "\n\n"]
    steps = [{"type": texts[0]}, {"text": texts[1]}, {"text": "two\r\nlines "}, {"text": texts[3]}, {"text": texts[4]}]
    _, *states, empty = visit_server(served_words.address, *steps, {"text": ""})
    for text, state in zip(texts, states, strict=True):
        assert served_words.difference(text, state) < TOLERANCE
    assert (empty["pieces"], empty["totals"]) == ([], {})


def test_characters_that_rearrange_a_page_are_shown_as_pictures(served_words: Served, visit_server):
    text = "a\u202ecat\u2066 \x00 \x7f <b>&amp;</b> \ufdd0 \u200f"
    _, state = visit_server(served_words.address, {"text": text})
    assert state["lines"] == ["a[U+202E]cat[U+2066] ␀ ␡ <b>&amp;</b> [U+FDD0] [U+200F]"] and state["status"] == ""


def test_a_tip_appears_where_the_mouse_or_a_finger_is(served_words: Served, visit_server):
    steps = [{"text": "the cat"}, {"point": "#t i", "at": 1}, {"point": "h1"}, {"tap": "#t i", "at": 0}]
    *_, pointed, left, tapped = visit_server(served_words.address, *steps)
    assert (pointed["now"], left["now"], left["tip"], tapped["now"]) == (1, -1, None, 0)
    for tip, piece in (pointed["tip"]["boxes"], tapped["tip"]["boxes"]):
        assert 0 < tip["left"] < piece["right"] and (
            0 < piece["top"] - tip["bottom"] < 9 or 0 < tip["top"] - piece["bottom"] < 9
        )
    named = [[name.strip("␣") for name in state["tip"]["numbers"]["token"]] for state in (pointed, tapped)]
    assert named == [["cat"], ["the"]]


def test_a_tip_has_its_full_width_after_the_window_became_narrow(served_words: Served, visit_server, tmp_path):
    size = {"picture": str(tmp_path / "page.png"), "height": 900, "dark": False}
    steps = [{"text": "the cat sat " * 6}, {**size, "width": 1200}, {"point": "#t i", "at": 17}]
    steps += [{**size, "width": 400}, {"point": "#t i", "at": 7}]
    *_, wide, left, narrow = visit_server(served_words.address, *steps)
    boxes = [state["tip"]["boxes"][0] for state in (wide, narrow)]
    assert left["tip"] is None and boxes[0]["left"] > 400 and boxes[1]["right"] <= 400
    assert abs(boxes[0]["height"] - boxes[1]["height"]) < 1 and boxes[1]["width"] > 200


def test_the_next_words_are_the_most_probable_ones(served_words: Served, visit_server):
    texts = ["", "the 🙂 ", "one\nthe cat, "]
    choose = {"evaluate": "document.querySelectorAll('#words button')[2].click()"}
    _, *states, chosen = visit_server(served_words.address, *({"text": text} for text in texts), choose)
    for text, state in zip(texts, states, strict=True):
        expected = served_words.server.post("/predict", text=text, count=10).json["words"]
        found = [{"word": item["word"], "probability": item["probability"]} for item in state["words"]]
        assert found == expected and state["heading"] == "Next word"
    scorer, tokenizer = served_words.scorer, served_words.tokenizer
    _, context = scorer.advance_all(scorer.begin(), tokenizer.encode_prompt(texts[1]))
    logprobs = scorer.next_logprobs(context)
    logprobs[[tokenizer.eos_id, tokenizer.unk_id]] = -np.inf
    order = np.argsort(-logprobs, kind="stable")[:10]
    assert [item["word"] for item in states[1]["words"]] == tokenizer.tokens(order)
    bits = [-np.log2(item["probability"]) for item in states[1]["words"]]
    np.testing.assert_allclose(bits, -logprobs[order] / np.log(2), atol=TOLERANCE)
    assert chosen["text"] == f"{texts[2]}{states[2]['words'][2]['word']} " and chosen["focus"] == "text"


def test_a_word_that_is_begun_is_completed(served: Served, visit_server):
    text, choose = "🙂 sat\n🙂 the c", {"evaluate": "document.querySelector('#words button').click()"}
    _, before, after = visit_server(served.address, {"text": text}, choose)
    expected = served.server.post("/predict", text=text, count=10).json["words"]
    assert before["heading"] == "Words that begin with “c”"
    assert [item["word"] for item in before["words"]] == [item["word"] for item in expected]
    chosen = before["words"][0]["word"]
    assert chosen.startswith("c") and after["text"] == f"🙂 sat\n🙂 the {chosen} "
    assert served.difference(after["text"], after) < TOLERANCE
