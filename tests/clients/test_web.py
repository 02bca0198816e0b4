"""The page of target `web` in headless Chromium: its numbers are those of keraslm, and it asks no other host."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keraslm
from keraslm.perplexity import perplexity
from keraslm.scoring.words import word_scores
from tests.support.made_run import make_run
from tests.support.node import node
from tests.support.tiny import text_lines

PROGRAM = Path(__file__).parent / "browser.mjs"
TOLERANCE = 1e-4  # bits
WIDTHS = (400, 1200)  # pixels
TEXT = [*text_lines(150, seed=1), "Η οδός, ο ΟΔΟΣ και η θάλασσα. 🙂 it's (naïve) <eos> the end", "η οδός 🙂 🙂"] * 2
KINDS: dict[str, dict[str, Any]] = {
    "word": {"lowercase": True, "split_punctuation": True},
    "char": {"tokenizer": "char", "cell": "gru"},
    "byte": {"tokenizer": "byte"},
    "bpe": {
        **{"tokenizer": "bpe", "vocab_size": 400, "softmax": "adaptive", "cutoffs": (50, 200)},
        **{"mogrifier_rounds": 3, "input_gate": "capped"},
    },
}
LINES = [
    "the cat sat on the mat",
    "Η ΟΔΟΣ, ο Σίσυφος και η θάλασσα: ΑΣ ς.",
    "🙂 naïve 👩‍👩‍👧 日本 e\u0301",
    "zebra the xylophone's <unk> ...",
    "  the   cat\u00a0sat\u0085here ",
    "the <eos> cat <eos><eos> sat",
    "",
]


class Made:
    """A run, its folder for browsers, and the scores of its model file."""

    def __init__(self, folder: Path, modules: Path, kind: str, **options: Any):
        fields = {"layer_units": (16, 12), "embedding_dim": 8} | KINDS[kind]
        self.run, self.folder = make_run(folder, TEXT, **fields), folder / "page"
        keraslm.export(self.run, self.folder, target="web", **options)
        (self.folder / "node_modules").symlink_to(modules)
        self.scorer = keraslm.load(self.folder / "model.onnx", provider="cpu")

    def scores(self, line: str) -> tuple[np.ndarray, list[tuple[str, float, bool]]]:
        """Bits of each token, and each word with its bits and whether it is unknown."""
        (score,) = self.scorer.score_lines([line])
        words = word_scores(score, self.scorer.tokenizer)
        return -score.logprobs / np.log(2), [(w.word, -w.logprob / np.log(2), w.oov) for w in words]


@contextmanager
def served(folder: Path) -> Iterator[str]:
    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *values: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def visit(chromium, tmp_path):
    """A function that opens the page of a folder and takes steps in it."""

    def visit(folder: Path, *steps: dict[str, Any], reported: int = 0) -> list[dict[str, Any]]:
        with served(folder) as address:
            line = [*node(web_socket=True), PROGRAM, chromium, tmp_path / "profile", address]
            done = subprocess.run(
                line, input=json.dumps(steps), capture_output=True, text=True, timeout=180, check=False
            )
            assert done.returncode == 0, done.stderr
            found = json.loads(done.stdout)
        assert [url for url in found["requests"] if not url.startswith(address)] == []
        assert len(found["reported"]) == reported, found["reported"]
        print(f"\n{found['version']}", end="")
        return found["states"]

    return visit


def difference(made: Made, line: str, state: dict[str, Any]) -> float:
    """The largest difference of a number of bits of the page from those of keraslm; words and tokens are equal."""
    tokens, words = made.scores(line)
    shown = [(w["word"] or "<eos>", float(w["bits"]), w["unknown"]) for w in state["words"]]
    assert [(word, unknown) for word, _, unknown in shown] == [(word, unknown) for word, _, unknown in words], line
    found = np.array([float(x) for word in state["words"] for x in word["tokens"].split()])
    assert len(found) == len(tokens) == int(state["totals"]["tokens"])
    assert float(state["totals"]["perplexity"]) == pytest.approx(
        perplexity(tokens.sum() * np.log(2), len(tokens)), rel=1e-5
    )
    of_words = [abs(bits - expected) for (_, bits, _), (_, expected, _) in zip(shown, words, strict=True)]
    assert all(word["shown"].endswith(f"{float(word['bits']):.1f}") for word in state["words"])
    return float(max(*np.abs(found - tokens), *of_words))


@pytest.fixture(scope="module", params=sorted(KINDS))
def made(request, modules, tmp_path_factory) -> Made:
    return Made(tmp_path_factory.mktemp(request.param), modules, request.param)


@pytest.fixture(scope="module")
def words(modules, tmp_path_factory) -> Made:
    return Made(tmp_path_factory.mktemp("words"), modules, "word")


def test_the_numbers_are_those_of_keraslm(made, visit):
    states = visit(made.folder, *({"text": line} for line in LINES))
    assert states[0]["status"] == ""
    largest = max(difference(made, line, state) for line, state in zip(["", *LINES], states, strict=True))
    print(f", {made.run.config.data.tokenizer}: largest difference {largest:.2e} bits")
    assert largest < TOLERANCE
    assert len({word["colour"] for state in states for word in state["words"]}) >= 3


def test_the_numbers_do_not_depend_on_how_the_text_was_typed(made, visit):
    """Each character on its own, then a different end, a different beginning, and lines that are pasted."""
    typed = "the ΟΔΟΣ 🙂 sat"
    steps = [{"type": typed}, {"text": "the ΟΔΟΣ ran."}, {"text": "a ΟΔΟΣ ran."}, {"text": "two\r\nlines\n"}]
    *_, first, second, third, fourth = visit(made.folder, *steps)
    lines = [typed, "the ΟΔΟΣ ran.", "a ΟΔΟΣ ran.", "two lines "]
    assert [state["text"] for state in (first, second, third, fourth)] == lines
    for line, state in zip(lines, (first, second, third, fourth), strict=True):
        assert difference(made, line, state) < TOLERANCE


def test_the_next_words_are_the_most_probable_ones(words, visit):
    scorer, lines = words.scorer, ["", "the ", "the cat, "]
    names = scorer.tokenizer.tokens(range(scorer.session.info.vocab_size))
    states = visit(words.folder, *({"text": line} for line in lines), {"choose": 2}, {"type": "s"})
    for line, state in zip(lines, states[1:4], strict=True):
        _, context = scorer.advance_all(scorer.begin(), scorer.tokenizer.encode_prompt(line))
        found = scorer.next_logprobs(context)
        found[[scorer.tokenizer.eos_id, scorer.tokenizer.unk_id]] = -np.inf
        order = np.argsort(-found, kind="stable")[:10]
        assert [item["word"] for item in state["suggestions"]] == [names[i] for i in order]
        shown = [float(item["probability"]) for item in state["suggestions"]]
        assert shown == pytest.approx(np.exp(found[order]).tolist(), rel=1e-4)
        assert state["heading"] == "Next word"
    chosen, begun = states[4:]
    assert chosen["text"] == f"the cat, {states[3]['suggestions'][2]['word']} "
    assert difference(words, chosen["text"], chosen) < TOLERANCE
    assert begun["heading"] == "Words that begin with “s”"
    assert begun["suggestions"] and all(item["word"].startswith("s") for item in begun["suggestions"])


def test_words_of_several_tokens_can_be_chosen(made, visit):
    *_, before, after = visit(made.folder, {"text": "the c"}, {"choose": 0})
    chosen = before["suggestions"][0]["word"]
    assert chosen.startswith("c") and after["text"] == f"the {chosen} "
    assert difference(made, after["text"], after) < TOLERANCE


def test_8_bit_numbers_are_those_of_keraslm(modules, tmp_path, visit):
    (tmp_path / "text.txt").write_text("\n".join(TEXT), encoding="utf-8")
    made = Made(tmp_path, modules, "word", int8=True, text=tmp_path / "text.txt", tolerance=0.5)
    # Sentences that end inside a line are scored side by side by keraslm, on which 8-bit scores depend.
    lines = [line for line in [*LINES, LINES[0]] if "<eos>" not in line]
    _, *states, typed = visit(made.folder, *({"text": line} for line in lines), {"type": " and"})
    largest = max(difference(made, line, state) for line, state in zip(lines, states, strict=True))
    largest = max(largest, difference(made, f"{LINES[0]} and", typed))
    print(f", 8-bit weights: largest difference {largest:.2e} bits")
    assert largest < TOLERANCE


def test_the_page_cannot_reach_other_hosts(words, visit):
    tried = "fetch('http://127.0.0.1:9/').catch(() => null)"
    with pytest.raises(AssertionError, match=r"127\.0\.0\.1:9"):
        visit(words.folder, {"evaluate": tried})


def test_what_is_missing_is_named(words, visit, tmp_path):
    folder = tmp_path / "page"
    folder.mkdir()
    for path in words.folder.iterdir():
        if path.name != "node_modules":
            (folder / path.name).write_bytes(path.read_bytes())
    (state,) = visit(folder, reported=1)  # the file that was not found
    assert "npm install --ignore-scripts" in state["status"] and state["words"] == []
    (folder / "tokenizer.json").unlink()
    (state,) = visit(folder, reported=1)
    assert state["status"] == "tokenizer.json cannot be read (404). Export the run again."


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_a_phone_and_a_screen(words, visit, tmp_path, dark):
    text = {"text": "the cat sat on the mat, and an unheard-of-hippopotamus-with-a-very-long-name ran there"}
    sizes = [
        {"picture": str(tmp_path / f"{width}.png"), "width": width, "height": 900, "dark": dark} for width in WIDTHS
    ]
    *_, narrow, wide = visit(words.folder, text, *sizes)
    assert (narrow["width"], wide["width"]) == WIDTHS
