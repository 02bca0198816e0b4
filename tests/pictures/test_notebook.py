"""A scored text in a notebook: all of the text, its numbers, nothing unescaped, and no style outside."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import keraslm
from keraslm.errors import ArgumentTypeError, UsageError
from keraslm.pictures import notebook
from keraslm.pictures.markup import NAMES, SCHEMES
from keraslm.pictures.notebook import ScoredText
from keraslm.text.tokenizer import Tokenizer
from tests.pictures.test_page import HOSTILE, TOKENIZERS, pictured
from tests.support import fake_model
from tests.support.scored import scored

kinds = pytest.mark.parametrize("kind", TOKENIZERS)
LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=30)


class Fragment(HTMLParser):
    """A fragment parsed by the standard library: elements, lines of text, the style and the words at the end."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.lines: list[str] = []
        self.titles: list[str] = []
        self.content = {"style": "", "p": ""}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []
        assert self.elements[0] == ("div", {"class": "keraslm-text"})

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._open.append(tag)
        if self._open == ["div", "div"]:
            self.lines.append("")
        if "title" in dict(attributes):
            self.titles.append(dict(attributes)["title"])

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open[:2] == ["div", "div"]:
            self.lines[-1] += data
        else:
            self.content[self._open[1]] += data

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")

    unknown_decl = handle_decl = handle_pi = handle_comment


def made(lines, tokenizer: Tokenizer, level: str = "token", **settings) -> ScoredText:
    """A text with made-up scores."""
    text = object.__new__(ScoredText)
    text.options = keraslm.ScoreOptions(level, **settings)
    text.lines, text._tokenizer = scored(lines, tokenizer), tokenizer
    return text


def check(text: ScoredText, lines) -> Fragment:
    fragment = Fragment(text._repr_html_())
    assert fragment.lines == [pictured(line) for line in lines]
    assert {tag for tag, _ in fragment.elements} <= {"div", "style", "i", "u", "p"}
    for _, attributes in fragment.elements[1:]:
        assert attributes.keys() <= {"class", "title"}
        assert re.fullmatch(r"[a-p]?( ?U)?( ?E)?", attributes.get("class", ""))
    return fragment


@kinds
@pytest.mark.parametrize("level", ["token", "word"])
def test_hostile_text_is_only_text(kind, level):
    fragment = check(made(HOSTILE, TOKENIZERS[kind], level), HOSTILE)
    assert len(fragment.titles) >= len(HOSTILE)
    assert all(title == pictured(title) for title in fragment.titles)


@kinds
@given(lines=st.lists(LINES, max_size=4), level=st.sampled_from(["token", "word"]))
@example(lines=["", "a"], level="word")
def test_any_text_is_complete(kind, lines, level):
    check(made(lines, TOKENIZERS[kind], level), lines)


def test_each_token_has_its_numbers(by_id):
    """Token i has probability (i + 1) / 21: <eos> 0, sat 1, the 2, cat 3, dog 4, <unk> 5."""
    fragment = check(by_id.show("the <b>  sat\n\ncat"), ["the <b>  sat", "", "cat"])
    assert fragment.titles == [
        "the: 2.807 bits, rank 4",
        "<unk>: 1.807 bits, out of vocabulary, rank 1",
        "sat: 3.392 bits, rank 5",
        "<eos>: 4.392 bits, rank 6",
        "<eos>: 4.392 bits, rank 6",
        "cat: 2.392 bits, rank 3",
        "<eos>: 4.392 bits, rank 6",
    ]
    classes = [own.get("class") for _, own in fragment.elements if "title" in own]
    assert classes == ["c", "b U", "d", "e E", "e E", "c", "e E"]
    perplexity = by_id.perplexity(["the <b>  sat", "", "cat"])
    assert fragment.content["p"].endswith(f" bits per token; 3 lines, 7 tokens, perplexity {perplexity:.4g}")


@pytest.mark.parametrize("settings", [{}, {"base": "e"}, {"unk": "exclude"}, {"context": "document"}], ids=str)
@pytest.mark.parametrize("level", ["token", "word"])
def test_the_numbers_are_those_of_the_table(by_history, level, settings):
    lines = ["the zebra sat", "", "cat  dog"]
    text = by_history.show(lines, level, **settings)
    table = by_history.table(lines, level, columns=[level, "surprisal"], **settings)
    unit = "nats" if "base" in settings else "bits"
    numbers = [f"{value:.3f} {unit}" if value == value else "left out" for value in table["surprisal"]]
    titles = Fragment(text._repr_html_()).titles
    assert [title.split(", ")[0] for title in titles] == [
        f"{word}: {number}" for word, number in zip(table[level], numbers, strict=True)
    ]
    assert "rank" in titles[0] or level == "word"


def test_words_of_several_tokens_say_so():
    titles = Fragment(made(["the catts"], TOKENIZERS["bpe"], "word")._repr_html_()).titles
    assert re.fullmatch(r"catts: \d+\.\d{3} bits, \d tokens", titles[1])


def test_the_style_applies_to_nothing_else(by_id):
    style = Fragment(by_id.show("the")._repr_html_()).content["style"]
    rules = [rule for rule in style.splitlines() if rule]
    light = [rule for rule in rules if rule.startswith(".keraslm-text")]
    dark = [rule for rule in rules if rule.startswith(":is(html[") and '"]) .keraslm-text .' in rule]
    assert len(light) + len(dark) == len(rules) and len(dark) == len(NAMES)
    for rule in rules:
        assert re.fullmatch(r"[^{},]*(?:\(.*\) )?[^{},]*\{[^{}]*\}", rule)
        assert not re.search("@|url|expression|position", rule)
    for scheme, own in (("light", light), ("dark", dark)):
        grounds, white = SCHEMES[scheme]
        for name, ground in zip(NAMES, grounds.split(), strict=True):
            ink = "#ffffff" if name in white else "#000000"
            assert any(f".keraslm-text .{name}{{background:{ground};color:{ink};" in rule for rule in own)


def test_long_texts_are_cut(by_id, monkeypatch):
    monkeypatch.setattr(notebook, "LIMIT", 7)
    note = "; only the first 7 tokens are shown"
    for lines, shown in ((["the"] * 3, 3), (["the"] * 4, 3), (["the cat"] * 2 + ["sat"], 2), ([], 0)):
        fragment = Fragment(by_id.show(lines)._repr_html_())
        assert fragment.lines == lines[:shown]
        assert (note in fragment.content["p"]) is (shown < len(lines))
        assert f"{len(lines)} line" in fragment.content["p"]
    fragment = Fragment(by_id.show("the cat sat " * 4)._repr_html_())
    assert fragment.lines == ["the cat sat the cat sat the"] and note in fragment.content["p"]


def test_a_terminal_shows_the_numbers_as_text(by_id):
    assert repr(by_id.show("the cat\x1b\nzebra\n")).splitlines() == [
        "ScoredText: 2 lines, 5 tokens, perplexity 8.233; surprisal in bits",
        "1  the 2.81  <unk> 1.81  <eos> 4.39",
        "2  <unk> 1.81  <eos> 4.39",
    ]
    assert repr(by_id.show("the cat\x1b", "word")).splitlines()[1:] == ["1  the 2.81  cat␛ 1.81  <eos> 4.39"]
    assert "\n... 5 more lines" in repr(by_id.show(["the"] * 25))
    assert repr(by_id.show("the " * 50)).splitlines()[1].endswith("  the 2.81  ...")


def test_wrong_arguments_are_named(by_id):
    for kind, message, call in (
        (ArgumentTypeError, "`scorer` is None, but a Scorer", lambda: ScoredText(None, "the")),
        (ArgumentTypeError, "`text` is 3, but an iterable of strings", lambda: by_id.show(3)),
        (ArgumentTypeError, r"`text\[0\]` is None, but a string", lambda: by_id.show([None])),
        (UsageError, "`level` is 'sentence', but must be one of token, word", lambda: by_id.show("a", "sentence")),
        (UsageError, "`base` is '3', but must be one of", lambda: by_id.show("a", base="3")),
    ):
        with pytest.raises(kind, match=message):
            call()


def test_an_infinite_surprisal_is_shown(tmp_path):
    with np.errstate(divide="ignore"):
        table = np.log(np.tile(np.array([0.5, 0.5, 0, 0, 0, 0]), (6, 1)))
    scorer = keraslm.load(fake_model.write(tmp_path / "m.onnx", table))
    assert Fragment(scorer.show("cat")._repr_html_()).titles[0].startswith("cat: inf bits")
    assert repr(scorer.show("cat")).splitlines() == [
        "ScoredText: 1 line, 2 tokens, perplexity inf; surprisal in bits",
        "1  cat inf  <eos> 1.00",
    ]
