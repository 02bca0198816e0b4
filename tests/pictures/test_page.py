"""The page has every character of the text, none as markup, and the numbers of each token."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keraslm.config import DataConfig
from keraslm.errors import UsageError
from keraslm.pictures.page import HtmlReport
from keraslm.text.vocabulary import train_tokenizer
from tests.support.fake_model import TOKENIZER
from tests.support.scored import scored

TRAINED_ON = ["the cat sat on the mat", "The Dog: naïve 日本\tran <unk> <eos> ", "</script>&amp;\u2028\x00\u202e"] * 2
KINDS = {
    "word": {},
    "char-lowercase": {"tokenizer": "char", "lowercase": True},
    "byte": {"tokenizer": "byte"},
    "bpe": {"tokenizer": "bpe", "vocab_size": 300},
    "unigram": {"tokenizer": "unigram", "vocab_size": 60},
}
TOKENIZERS = {name: train_tokenizer(TRAINED_ON, DataConfig(**fields)) for name, fields in KINDS.items()}
kinds = pytest.mark.parametrize("kind", KINDS)
LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=30)
HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<!-- --> <![CDATA[ ]]> <!--TEXT--><!--DATA--> $style ${policy}",
    "\"' onmouseover=alert(1) x='\" &lt; &amp &#0; &#x80;",
    "\x00\x01\x08\x0b\x0c\x1b\x7f\x80\x85\x9f",
    "\u2028\u2029 \u202eabc\u2066\u2067\u2069 \u200f\u061c \ufffe\uffff \ufdd0",
    "שלום hello مرحبا e\u0301\u0323 👩‍👩‍👧 \u200b\ufeff",
    "x" * 500,
    "\ud800 \udc00\ud83d\ude00",
    "   two  spaces \t and a tab\t",
    "",
]


class Page(HTMLParser):
    """A page parsed by the standard library."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.lines, self.content = [], [], {}
        self._open = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        inside = any(name == "t" for _, name in self._open)
        self.elements.append((tag, dict(attributes), inside))
        if inside and tag == "div":
            self.lines.append("")
        if tag != "meta":
            self._open.append((tag, dict(attributes).get("id")))

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), False))

    def handle_endtag(self, tag):
        opened, _ = self._open.pop()
        assert opened == tag

    def handle_data(self, data):
        tag, name = self._open[-1] if self._open else ("", None)
        if any(name == "t" for _, name in self._open):
            self.lines[-1] += data
        key = "data" if name == "d" else tag
        self.content[key] = self.content.get(key, "") + data

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")

    def unknown_decl(self, data):
        raise AssertionError(f"a declaration: {data}")


def page_of(lines, tokenizer, title="a text", facts=None, **settings):
    report = HtmlReport(tokenizer, title, facts, **settings)
    for line in lines:
        report.add(line)
    return report.page()


def pictured(text):
    """A text as a page shows it: control characters are replaced by visible ones."""
    numbered = [*range(0x80, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)]
    numbered += [*range(0xD800, 0xE000), *range(0xFDD0, 0xFDF0), 0xFFFE, 0xFFFF]
    table = {number: f"[U+{number:04X}]" for number in numbered}
    table |= {number: chr(0x2400 + number) for number in range(0x20) if number != ord("\t")} | {0x7F: "␡"}
    return text.translate(table)


def check(text, lines):
    """Check that the text is complete and stays text; return the parsed page."""
    page = Page(text)
    assert page.lines == [pictured(line) for line in lines]
    inside = [(tag, attributes) for tag, attributes, within in page.elements if within]
    assert {tag for tag, _ in inside} <= {"div", "i", "u"}
    for tag, attributes in inside:
        assert attributes.keys() <= {"div": {"id"}, "i": {"class", "data-n", "id"}, "u": set()}[tag]
        assert re.fullmatch(r"[a-p]( U)?( E)?", attributes.get("class", "a"))
        assert re.fullmatch(r"\d+|w\d+-\d+", attributes.get("id", "1"))
    assert sum(tag == "script" for tag, *_ in page.elements) == 2
    for _, attributes, _ in page.elements:
        assert not {name for name in attributes if name.startswith("on") or name in ("src", "style")}
        assert re.fullmatch(r"#w\d+-\d+", attributes.get("href", "#w1-1"))
    return page


def test_one_line_in_full(by_id):
    lines = list(by_id.score_lines(["the bürd  sat", ""], distributions=True))
    text = page_of(lines, TOKENIZER)
    # Tokens of 2.8, 1.8, 3.4 and 4.4 bits; all words are among the ten most surprising, and so have names.
    assert (
        '<div\nid=1><i class="c" id=w1-0>the</i> <i class="b U" id=w1-1>bürd</i>  <i class="d" id=w1-2>sat</i>'
        '<i class="e E"></i></div><div\nid=2><i class="e E"></i></div></div>'
    ) in text
    data = json.loads(Page(text).content["data"])
    assert data["names"] == {"0": "<eos>", "1": "sat", "2": "the", "5": "<unk>"}
    assert (data["unk"], data["width"]) == (5, 4)
    entropy = -sum(i / 21 * np.log2(i / 21) for i in range(1, 7))
    rows = np.array(data["tokens"]).reshape(-1, 4)
    assert rows[:, 0].tolist() == [2, 5, 1, 0, 0]
    np.testing.assert_allclose(rows[:, 1], np.log(np.array([3, 6, 2, 1, 1]) / 21), atol=1e-4)
    assert rows[:, 2].tolist() == [4, 1, 5, 6, 6]
    np.testing.assert_allclose(rows[:, 3], entropy, atol=0.01)


def test_the_head_of_the_page(by_id):
    lines = list(by_id.score_lines(["the bürd sat", "", "cat"]))
    text = page_of(lines, TOKENIZER, "a.txt", {"model": "model.onnx", "context": "sentence"})
    terms = dict(re.findall(r"<dt>(.*?)</dt><dd><bdi>(.*?)</bdi>", text))
    assert terms == {
        "lines": "3",
        "words": "4",
        "tokens": "7",
        "out of vocabulary": "1",
        "perplexity per token": "10.32",
        "perplexity per word": "10.32",
        "bits per character": "1.3098",
        "model": "model.onnx",
        "context": "sentence",
    }
    assert "<title>a.txt</title>" in text
    assert re.findall(r'<li><a href="#(.*?)"><bdi(.*?)>(.*?)</bdi></a> <span>(.*?)</span>', text) == [
        ("w1-2", "", "sat", "3.4 bits, line 1"),
        ("w1-0", "", "the", "2.8 bits, line 1"),
        ("w3-0", "", "cat", "2.4 bits, line 3"),
        ("w1-1", ' class="U"', "bürd", "1.8 bits, line 1"),
    ]
    assert 'aria-label="Histogram of surprisal: mean 3.37 bits, median 3.40 bits per token."' in text
    assert 'aria-label="Mean surprisal of each line: from 3.10 to 4.39 bits per token."' in text


@kinds
@settings(max_examples=20)
@given(lines=st.lists(LINES, min_size=1, max_size=3), seed=st.integers(0, 9))
@example(lines=HOSTILE, seed=0)
@example(lines=[" ".join(HOSTILE)], seed=0)
def test_every_character_is_shown_as_text(kind, lines, seed):
    tokenizer = TOKENIZERS[kind]
    scores = scored(lines, tokenizer, seed)
    page = check(page_of(scores, tokenizer), lines)
    data = json.loads(page.content["data"])
    ids = np.concatenate([line.ids for line in scores])
    assert data["tokens"][:: data["width"]] == ids.tolist()
    assert data["names"] == {str(i): pictured(tokenizer.tokens([i])[0]) for i in sorted(set(ids.tolist()))}
    counts = [int(a.get("data-n", 1)) for tag, a, within in page.elements if within and tag == "i"]
    assert sum(counts) == len(ids)


@pytest.mark.parametrize("name", HOSTILE)
def test_title_and_facts_are_text(name):
    text = page_of(scored(["the cat"], TOKENIZER), TOKENIZER, name, {name: name})
    page = check(text, ["the cat"])
    assert page.content["title"].startswith(pictured(name)) or page.content["title"] == pictured(name)
    assert pictured(name) in page.content["dt"]


def test_only_the_own_style_and_script_may_run():
    page = Page(page_of(scored(HOSTILE, TOKENIZER), TOKENIZER))
    policy = next(a["content"] for _, a, _ in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    for rule, held in (("style-src", page.content["style"]), ("script-src", page.content["script"])):
        digest = base64.b64encode(hashlib.sha256(held.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert not re.search(r"https?:|url\(|@import", page.content["style"] + page.content["script"])


def test_bytes_of_one_character_are_one_element():
    text = page_of(scored(["aé日"], TOKENIZERS["byte"]), TOKENIZERS["byte"])
    assert re.search(r'<i class=".">é</i>', text) is None
    assert re.search(r'id=w1-0>a</i><i class="." data-n=2>é</i><i class="." data-n=3>日</i><i class=". E"></i>', text)


def test_a_blank_before_a_subword_has_no_colour():
    tokenizer = TOKENIZERS["bpe"]
    assert len(tokenizer.encode_prompt("the cat")) == 2
    assert re.search(r">the</i> <i class=\"[a-p]\" id=w1-1>cat</i>", page_of(scored(["the cat"], tokenizer), tokenizer))


def test_infinite_and_missing_numbers_are_null():
    line = scored(["the cat"], TOKENIZER)[0]
    line = dataclasses.replace(line, logprobs=np.array([-np.inf, np.nan, -1.0]))
    page = check(page_of([line], TOKENIZER), ["the cat"])
    assert json.loads(page.content["data"])["tokens"][1::4] == [None, None, -1.0]
    assert [a["class"] for tag, a, within in page.elements if within and tag == "i"] == ["p", "p", "b E"]


def test_a_page_without_distributions_has_ids_and_log_probabilities():
    lines = scored(["the cat"], TOKENIZER, distributions=False)
    data = json.loads(Page(page_of(lines, TOKENIZER)).content["data"])
    assert data["width"] == 2 and len(data["tokens"]) == 6


def test_page_of_an_empty_text():
    text = page_of([], TOKENIZER)
    check(text, [])
    assert "Most surprising" not in text and "nan" in text


def test_lines_beyond_the_limit_count_but_are_not_shown():
    lines = scored(["the cat sat", "the dog", "cat", "dog"], TOKENIZER)
    report = HtmlReport(TOKENIZER, "a text", limit=8)
    for line in lines:
        report.add(line)
    assert report.note == "The page shows the first 2 of 4 lines; the numbers are those of the whole text."
    text = page_of(lines, TOKENIZER, limit=8)
    page = check(text, ["the cat sat", "the dog"])
    assert report.note in text and "<dt>tokens</dt><dd><bdi>11</bdi>" in text
    assert len(json.loads(page.content["data"])["tokens"]) == 7 * 4
    links = {a["href"] for tag, a, _ in page.elements if tag == "a"}
    assert links <= {f"#{a['id']}" for _, a, within in page.elements if within and "id" in a}
    assert HtmlReport(TOKENIZER, "a text").note == ""


def test_a_first_line_beyond_the_limit_is_cut():
    text = page_of(scored(["the cat sat on", "dog"], TOKENIZER), TOKENIZER, limit=2)
    page = check(text, ["the cat"])
    assert "The page shows the beginning of the first line; the numbers are those of the whole text." in text
    assert len(json.loads(page.content["data"])["tokens"]) == 2 * 4


def test_a_page_is_written_completely(tmp_path):
    report = HtmlReport(TOKENIZER, "a text")
    report.add(scored(["the cat"], TOKENIZER)[0])
    report.write(tmp_path / "a.html")
    report.write(tmp_path / "again.html")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == (tmp_path / "again.html").read_text(encoding="utf-8")
    check((tmp_path / "a.html").read_text(encoding="utf-8"), ["the cat"])
    with pytest.raises(UsageError, match=r"nowhere/a\.html: give the name of a file in a folder that exists"):
        report.write(tmp_path / "nowhere" / "a.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "again.html"]
