"""The scripts of the page for browsers, run by Node.js: their tokens, words and next words are those of keraslm."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keraslm.config import DataConfig
from keraslm.scoring.measures import line_score
from keraslm.scoring.words import word_scores
from keraslm.text.tokenizer import Tokenizer
from keraslm.text.vocabulary import train_tokenizer
from keraslm_export.targets import web
from tests.support.node import run_module
from tests.support.tiny import text_lines

LINES = [*text_lines(150, seed=1), "Ta, la-la. (it's) ΟΔΟΣ οδος ß 🙂 naïve", "we'll see 100 1st <eos> $5"]
TOKENIZERS: dict[str, dict[str, Any]] = {
    "word": {},
    "lower": {"lowercase": True},
    "punctuation": {"split_punctuation": True, "lowercase": True},
    "char": {"tokenizer": "char"},
    "char-lower": {"tokenizer": "char", "lowercase": True},
    "byte": {"tokenizer": "byte"},
    "bpe": {"tokenizer": "bpe", "vocab_size": 320},
    "bpe-lower": {"tokenizer": "bpe", "vocab_size": 320, "lowercase": True},
}
TRICKY = [
    *("", " ", "  the  cat ", "the <eos> cat <unk>", "a<unk>the<eos>+the", "<UNK> < unk >", "Ċ Ġ the", "日本 naïve"),
    *("THE Cat, sat.", "a\tb", "ΌΔΟΣ ΑΣ ΑΣ. Σ\u0301", "ς ß ẞ ﬁ İI ı Ǆ ǅ", "🙂🙂 👩‍👩‍👧 e\u0301 é", "the\x1ccat\x1f"),
    *("the\x85cat\u2028a", "it's we'll I'M x'y", "a  b   c \u00a0 d\u3000", "\ufeffthe\u200bcat", "1st 100% ½ ²"),
    *("constructor __proto__", "--(a)--", "a\x0bb\x0c", "\x00\x07", "$+<=>^`|~ «x» ¿? 。", "\U0010ffff \ue000 ᾘ"),
]  # fmt: skip


# The tokenizer


def tokenizer_of(name: str) -> Tokenizer:
    return train_tokenizer(LINES, DataConfig(**TOKENIZERS[name]))


ENCODE = """
import { readFileSync } from "node:fs";
import { Tokenizer } from "./tokenizer.js";
const { file, facts, lines } = JSON.parse(readFileSync(0, "utf8"));
const tokenizer = new Tokenizer(file, facts);
console.log(JSON.stringify(lines.map((line) => {
  const { ids, spans } = tokenizer.encode(line);
  const shown = ({ begin, end, first, last }) => [line.slice(begin, end) || "<eos>", first, last];
  return { ids, spans, words: tokenizer.words(line, spans).map(shown) };
})));
"""


def facts_of(name: str, own: Tokenizer) -> dict[str, Any]:
    facts = web.tokenizer_facts(own.to_json())
    assert facts is not None
    return facts | {"unk_id": own.unk_id, "eos_id": own.eos_id, "vocab_size": own.vocab_size}


def encoded(name: str, lines: Iterable[str]) -> list[dict[str, Any]]:
    own = tokenizer_of(name)
    value = {"file": json.loads(own.to_json()), "facts": facts_of(name, own), "lines": list(lines)}
    found: list[dict[str, Any]] = run_module(ENCODE, web.PAGE, value)
    return found


def assert_equal_to_the_library(name: str, lines: list[str]) -> None:
    own = tokenizer_of(name)
    for line, found, ids in zip(lines, encoded(name, lines), own.encode_lines(lines), strict=True):
        assert [*found["ids"], own.eos_id] == ids.tolist(), (name, line)
        units = [len(line[:at].encode("utf-16-le")) // 2 for at in range(len(line) + 1)]
        spans = [[units[begin], units[end]] for begin, end in own.offsets(line)[:-1].tolist()]
        assert found["spans"] == spans, (name, line)
        score = line_score(line, ids, ids == own.unk_id, np.zeros((1, len(ids))))
        words = [[word.word, *word.tokens] for word in word_scores(score, own)]
        assert found["words"] == words, (name, line)


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_javascript_splits_as_the_library_does(name):
    assert_equal_to_the_library(name, [*TRICKY, *LINES])


ASSIGNED = st.characters(exclude_categories=["Cs", "Cn", "Co"], exclude_characters="\n\r")
TEXTS = st.text(ASSIGNED | st.sampled_from("ΣσςİIẞß'sdt <>unkeos.,🙂\u0301\u0307\x1c\x85\xa0\u2028\u200b"), max_size=30)


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
@settings(max_examples=3)
@given(st.lists(TEXTS, min_size=200, max_size=200))
def test_javascript_splits_any_text_as_the_library_does(name, lines):
    assert_equal_to_the_library(name, lines)


def test_half_of_a_surrogate_pair_is_a_replacement_character():
    """As in keraslm; a browser has such a half while an emoji is typed on some systems."""
    (found,) = encoded("byte", ["a\ud83d"])
    assert [*found["ids"], 10] == tokenizer_of("byte").encode_lines(["a\ud83d"])[0].tolist()


# Next words


SUGGEST = """
import { readFileSync } from "node:fs";
import { Tokenizer } from "./tokenizer.js";
import { suggest, underWay } from "./suggest.js";
import { Line, Model } from "./model.js";
const { file, facts, lines, table } = JSON.parse(readFileSync(0, "utf8"));
const size = facts.vocab_size;
class Table extends Model {
  async call(inputs, state, targets) {
    const known = targets[0].length, logProbs = [], targetLogProbs = [];
    inputs.forEach((row, at) => {
      targets[at].forEach((target, step) => targetLogProbs.push(table[row[step]][target]));
      for (const id of row.slice(known)) logProbs.push(...table[id]);
    });
    const wide = new Float32Array(inputs.length);
    return { logProbs: Float64Array.from(logProbs), targetLogProbs, state: { h: wide, c: wide } };
  }
}
const model = new Table(null, null, { ...facts, layers: 1, units: 1, steps: 3, precision: "float32" });
const tokenizer = new Tokenizer(file, facts), line = new Line(model), found = [];
for (const text of lines) {
  const { ids, spans } = tokenizer.encode(text);
  const logProbs = await line.read(ids), { begin, position } = underWay(tokenizer, text, spans);
  const words = await suggest(model, tokenizer, line, position, text.slice(begin), async () => false);
  found.push({ logProbs, begin, words: words.map(({ word, probability }) => [word, probability]) });
}
console.log(JSON.stringify(found));
"""


def suggested(name: str, lines: list[str], own: Tokenizer, table: np.ndarray) -> list[dict[str, Any]]:
    value = {"file": json.loads(own.to_json()), "facts": facts_of(name, own), "lines": lines, "table": table.tolist()}
    found: list[dict[str, Any]] = run_module(SUGGEST, web.PAGE, value)
    return found


def bigrams(size: int) -> np.ndarray:
    """Log-probabilities of each token after each other, `(V, V)`."""
    found: np.ndarray = np.log(np.random.default_rng(0).dirichlet(np.full(size, 0.3), size) * 0.9 + 0.1 / size)
    return found


def test_words_are_the_most_probable_ones_with_the_beginning_that_was_typed():
    own = tokenizer_of("punctuation")
    table, names = bigrams(own.vocab_size), own.tokens(range(own.vocab_size))
    lines = {"": ("", ""), "the ": ("the", ""), "the": ("", "the"), "the cat s": ("the cat", "s")}  # context, beginning
    lines |= {"the cat, TH": ("the cat ,", "th"), "the zzz": ("the", "zzz"), "a <eos> ": ("a <eos>", "")}
    found = suggested("punctuation", [*lines], own, table)
    for (line, (context, begun)), shown in zip(lines.items(), found, strict=True):
        last = [own.eos_id, *own.encode_prompt(context)][-1]
        order = [i for i in np.argsort(-table[last], kind="stable") if i not in (own.eos_id, own.unk_id)]
        order = [i for i in order if names[i].startswith(begun)][:10]
        assert [word for word, _ in shown["words"]] == [names[i] for i in order], line
        assert [p for _, p in shown["words"]] == pytest.approx(np.exp(table[last][order]).tolist()), line
        ids = own.encode_lines([line])[0]
        assert shown["logProbs"] == pytest.approx(table[[own.eos_id, *ids[:-1]], ids].tolist())
    assert [shown["begin"] for shown in found] == [0, 4, 0, 8, 9, 4, 8]


def test_words_of_several_tokens_have_the_probability_of_all_their_tokens():
    """With three letters and a blank, all words of up to six letters can be listed."""
    own = train_tokenizer(["ab ba a b c cab"], DataConfig(tokenizer="char"))
    ids, table = own.encode_prompt("abc ").tolist(), bigrams(own.vocab_size)
    (a, b, c, blank), end = ids, own.eos_id
    table[[a, b, c]] = np.log(np.exp(table[[a, b, c]]) * 0.4 + 0.6 * np.eye(own.vocab_size)[blank])  # words are short
    letters = {"a": a, "b": b, "c": c}

    def probability(before: int, word: str) -> float:
        path = [before, *(letters[letter] for letter in word)]
        inside = sum(table[x, y] for x, y in pairwise(path))
        return math.exp(inside) * (math.exp(table[path[-1], blank]) + math.exp(table[path[-1], end]))

    words = ["".join(made) for size in range(1, 7) for made in product("abc", repeat=size)]
    lines = ["", "ab", "a ", "a b", "ca  c"]
    begun = ["", "ab", "", "b", "c"]
    found = suggested("char", lines, own, table)
    for line, beginning, shown in zip(lines, begun, found, strict=True):
        first = line.strip() == beginning
        lead = 1.0 if first else math.exp(table[own.encode_prompt(line.removesuffix(beginning).rstrip())[-1], blank])
        expected = {w: lead * probability(end if first else blank, w) for w in words if w.startswith(beginning)}
        best = sorted(expected, key=lambda word: -expected[word])
        assert [word for word, _ in shown["words"]][:3] == best[:3], line
        for word, value in shown["words"]:
            if len(word) <= 6:
                assert value == pytest.approx(expected[word]), (line, word)


def test_bytes_that_are_no_characters_are_not_suggested():
    own = tokenizer_of("bpe")
    found = suggested("bpe", ["the cat ", "the ca", "日"], own, bigrams(own.vocab_size))
    for shown, beginning in zip(found, ["", "ca", "日"], strict=True):
        words = [word for word, _ in shown["words"]]
        assert len(set(words)) == len(words) and all(
            word.startswith(beginning) and word.split() == [word] for word in words
        )
        assert all("\ufffd" not in word for word in words)
    assert found[0]["words"] and [shown["begin"] for shown in found] == [8, 4, 0]
