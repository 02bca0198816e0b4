"""The page of the server is one document that allows nothing but its own style, its own script and its own server."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from keraslm.pictures.markup import NAMES, SCHEMES
from keraslm.server.page import page
from tests.pictures.test_page import pictured
from tests.support.node import run_module

HOSTILE = [
    "<script>alert(1)</script>",
    "</title></style><img src=x onerror=alert(1)>",
    "\"' onmouseover=alert(1) &lt; &#0; $style ${policy}",
    "\u202eabc \u2066\x00\ud800",
]
VOID = {"meta", "input", "br"}


class Parsed(HTMLParser):
    """A page parsed by the standard library: its elements, and the text in each kind of element."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.content: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.content.setdefault(self._open[-1] if self._open else "", []).append(data)

    def text(self, tag: str) -> str:
        return "".join(self.content.get(tag, []))


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.fixture(scope="module")
def made() -> tuple[str, str]:
    return page("model.onnx", {"version": "1.0"})


def test_the_policy_allows_only_what_the_page_needs(made):
    html, policy = made
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    parsed = Parsed(html)
    assert rules == {
        "default-src": "'none'",
        "style-src": digest(parsed.text("style")),
        "script-src": digest(parsed.text("script")),
        "base-uri": "'none'",
        "form-action": "'none'",
        "connect-src": "'self'",
        "frame-ancestors": "'none'",
    }
    assert policy.isascii() and "\n" not in policy
    assert [tag for tag, _ in parsed.elements].count("script") == 1


def test_the_page_names_no_other_host(made):
    html, _ = made
    assert not re.search(r"https?:|//\w|url\(|@import|\bimport\b", re.sub(r"^ *// .*| // .*", "", html, flags=re.M))
    for _, attributes in Parsed(html).elements:
        assert not {name for name in attributes if name.startswith("on") or name in ("style", "src", "href", "action")}


def test_the_page_writes_no_markup_and_keeps_nothing(made):
    script = Parsed(made[0]).text("script")
    for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("):
        assert name not in script
    for name in ("localStorage", "sessionStorage", "indexedDB", "document.cookie"):
        assert name not in script


def test_every_input_has_a_label(made):
    parsed = Parsed(made[0])
    named = {attributes["for"] for tag, attributes in parsed.elements if tag == "label" and "for" in attributes}
    inside = re.findall(r'<label>[^<]+ <input id="([\w-]+)"', made[0])
    fields = [attributes for tag, attributes in parsed.elements if tag in ("input", "textarea")]
    assert {field["id"] for field in fields if "hidden" not in field} == named | {*inside}
    identifiers = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(identifiers) == len({*identifiers})
    for _, attributes in parsed.elements:
        assert attributes.get("aria-labelledby", identifiers[0]) in identifiers


@pytest.mark.parametrize("name", HOSTILE)
def test_title_and_facts_are_text(name):
    parsed, plain = (Parsed(page(text, {text: text})[0]) for text in (name, "a"))
    assert parsed.text("title") == parsed.text("dt") == pictured(name)
    assert parsed.content["bdi"] == [pictured(name)] * 2
    assert [tag for tag, _ in parsed.elements] == [tag for tag, _ in plain.elements]
    assert page(name)[1] == page("a")[1]


def test_the_colours_are_those_of_the_report(made):
    parsed = Parsed(made[0])
    assert [attributes["class"] for tag, attributes in parsed.elements if tag == "i"] == list(NAMES)
    for grounds, _ in SCHEMES.values():
        assert all(ground in parsed.text("style") for ground in grounds.split())


READ = """
import { readFileSync } from "node:fs";
const { source, parts } = JSON.parse(readFileSync(0, "utf8"));
const code = /function eventReader[^]*?\\n}\\n/.exec(source)[0];
const read = new Function(`${code} return eventReader();`)();
console.log(JSON.stringify(parts.flatMap(read)));
"""
EVENTS = 'data: {"a": "é🙂"}\n\n: a comment\r\ndata:x\r\ndata: y\r\n\r\nid: 3\rdata: z\r\rdata\n\n\n\ndata: cut'


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_events_may_be_split_anywhere(made, tmp_path, size):
    source = Parsed(made[0]).text("script")
    parts = [EVENTS[start : start + size] for start in range(0, len(EVENTS), size)]
    found = run_module(READ, tmp_path, {"source": source, "parts": parts})
    assert found == ['{"a": "é🙂"}', "x\ny", "z", ""]
