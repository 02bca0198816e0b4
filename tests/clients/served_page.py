"""The page of `keraslm serve`: the models that are served, what the page shows, and what it should show."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keraslm
from keraslm.perplexity import perplexity
from keraslm.pictures.markup import color
from keraslm.pictures.spans import lay
from keraslm.scoring.measures import LineScore
from tests.pictures.test_page import pictured
from tests.support.served_models import make_model
from tests.support.serving import Server

TOLERANCE = 1e-4  # bits
# The state of the page; "" while it is busy.
READ = """
document.readyState !== "complete" || document.querySelector('[aria-busy="true"]') ? "" : JSON.stringify({
  text: document.getElementById("text").value,
  status: document.getElementById("status").textContent,
  facts: [...document.querySelectorAll("#facts div")].map((each) => [...each.children].map((part) => part.textContent)),
  lines: [...document.querySelectorAll("#t div")].map((line) => line.textContent),
  pieces: [...document.querySelectorAll("#t i")].map((piece) => ({
    line: Number(piece.parentNode.id), text: piece.textContent, bits: Number(piece.dataset.bits),
    classes: [...piece.classList],
  })),
  now: [...document.querySelectorAll("#t i")].findIndex((piece) => piece.classList.contains("now")),
  tip: document.getElementById("tip").hidden ? null : {
    caption: document.querySelector("#tip caption").textContent,
    boxes: ["#tip", "#t .now"].map((each) => document.querySelector(each).getBoundingClientRect()),
    numbers: Object.fromEntries([...document.querySelectorAll("#tip tr")].filter((row) => row.cells[0].rowSpan === 1 &&
      row.cells[0].tagName === "TH").map((row) => [...row.cells].map((cell) => cell.textContent)).map(
      ([name, ...values]) => [name, values])),
    alternatives: [...document.querySelectorAll("#tip tr.first, #tip tr.first ~ tr")].map((row) =>
      [...row.querySelectorAll("td")].map((cell) => [...cell.childNodes].map((part) => part.textContent))),
  },
  totals: Object.fromEntries([...document.querySelectorAll("#totals div")].map((each) =>
    [...each.children].map((part) => part.textContent))),
  bits: Number(document.getElementById("totals").dataset.bits),
  perplexity: Number(document.getElementById("totals").dataset.perplexity),
  heading: document.getElementById("next").textContent,
  words: [...document.querySelectorAll("#words li")].map((item) => ({
    word: item.dataset.word, probability: Number(item.dataset.probability),
    shown: [...item.querySelectorAll("bdi, small")].map((part) => part.textContent),
  })),
  continuation: document.getElementById("continuation").textContent,
  finish: document.getElementById("finish").textContent,
  useful: !document.getElementById("use").disabled && !document.getElementById("drawn").hidden,
  key: !document.getElementById("key").hidden,
  focus: document.activeElement.id,
  width: document.documentElement.scrollWidth,
  field: document.getElementById("text").offsetWidth,
  seen: window.seen ?? null,
})
"""


class Served:
    """A model file of random weights, its scores, and the server that it is served by."""

    server: Server

    def __init__(self, folder: Path, kind: str):
        self.path = make_model(folder, kind)
        self.scorer = keraslm.load(self.path, provider="cpu")
        self.tokenizer = self.scorer.tokenizer

    @property
    def address(self) -> str:
        return self.server.address

    @cached_property
    def context(self) -> str:
        return self.server.get("/v1/models").json["data"][0]["meta"]["context"]

    def lines(self, text: str) -> list[LineScore]:
        lines = text.removesuffix("\n").split("\n")
        return list(self.scorer.score_lines(lines, self.context, distributions=True))

    def distributions(self, text: str) -> list[list[np.ndarray]]:
        """Log-probabilities of all tokens, for each token of each line; natural logarithm."""
        position, found = self.scorer.begin(), []
        for ids in self.tokenizer.encode_lines(text.split("\n")):
            position = self.scorer.begin() if self.context == "sentence" else position
            found.append([])
            for token in ids.tolist():
                found[-1].append(self.scorer.next_logprobs(position))
                _, position = self.scorer.advance(position, token)
        return found

    def pieces(self, line: LineScore) -> list[tuple[list[int], float, bool]]:
        """Of each piece, begin and end in characters and in tokens, bits, and whether it is out of vocabulary."""
        laid = lay(line, self.tokenizer)
        return list(zip(laid.pieces.tolist(), laid.piece_bits.tolist(), laid.oov.tolist(), strict=True))

    def difference(self, text: str, state: dict[str, Any]) -> float:
        """The largest difference of a number of bits of the page; all else about the text is equal."""
        lines = self.lines(text)
        assert state["status"] == "" and state["text"] == text
        assert state["lines"] == [pictured(line.text) for line in lines]
        pieces = [(line, *piece) for line in lines for piece in self.pieces(line)]
        assert len(state["pieces"]) == len(pieces)
        for shown, (line, (begin, until, *_), bits, oov) in zip(state["pieces"], pieces, strict=True):
            part = line.text[begin:until]
            assert (lines[shown["line"] - 1], shown["text"]) == (line, pictured(part.lstrip() or part))
            assert shown["classes"] == [color(bits), *["U"] * oov, *["E"] * (begin == until)]
        differences = [abs(shown["bits"] - bits) for shown, (*_, bits, _) in zip(state["pieces"], pieces, strict=True)]
        return max(*differences, self._of_totals(lines, state))

    def _of_totals(self, lines: list[LineScore], state: dict[str, Any]) -> float:
        nats, tokens = -sum(line.logprob for line in lines), sum(len(line.ids) for line in lines)
        totals, oovs = state["totals"], sum(int(line.oov.sum()) for line in lines)
        assert state["perplexity"] == pytest.approx(perplexity(nats, tokens), rel=1e-5)
        assert totals.pop("total") == f"{state['bits']:.2f} bits"
        assert float(totals.pop("perplexity per token")) == pytest.approx(state["perplexity"], rel=1e-3)
        assert totals == {"tokens": str(tokens)} | ({"out of vocabulary": str(oovs)} if oovs else {})
        return abs(state["bits"] - nats / np.log(2)) / tokens


def evaluated(script: str) -> dict[str, str]:
    """A step that runs a script with variables of its own."""
    return {"evaluate": f"{{ {script} }}"}
