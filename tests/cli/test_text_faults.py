"""Texts as the world has them, through the commands."""

import bz2
import gzip
import json
import lzma
import subprocess
import sys

import pytest

from keraslm.scoring.scorer import load
from tests.support import fake_model
from tests.support.memory import PEAK
from tests.support.program import assert_refused

PACK = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
CLEAN = "the cat\nthe dog sat\n"


def rows_of(program, fake, path, *more):
    outcome = program("score", fake, path, "--level", "sentence", *more)
    assert (outcome.code, outcome.err) == (0, "")
    return outcome.out.splitlines()[1:]


@pytest.fixture
def fake(tmp_path):
    return fake_model.write(tmp_path / "fake.onnx")


def packed(kind, data):
    if kind == "zst":
        return pytest.importorskip("zstandard", reason="the extra zstd is not installed").compress(data)
    return PACK[kind](data)


@pytest.mark.parametrize(
    "odd", ["a\x00b", "\u2028", "x\x0cy", "\u200b", "\u2029 a", "\x85", "\x1c\x1e", "\ufeff", "\r", "a\rb"]
)
def test_odd_characters_stay_in_their_line(program, fake, text, odd):
    """As many rows as `wc -l` counts lines, and the lines around them cost what they cost."""
    path = text(f"the cat\n{odd}\nthe dog sat\n")
    rows = rows_of(program, fake, path)
    assert len(rows) == path.read_bytes().count(b"\n") == 3
    clean = rows_of(program, fake, text(CLEAN, "clean.txt"))
    assert (rows[0], rows[2].split("\t")[1:]) == (clean[0], clean[1].split("\t")[1:])


@pytest.mark.parametrize(
    "data", [CLEAN.replace("\n", "\r\n"), "\ufeff" + CLEAN, CLEAN.removesuffix("\n"), "\ufeffthe cat\r\nthe dog sat"]
)
def test_line_ends_and_marks_change_no_score(program, fake, text, data):
    assert rows_of(program, fake, text(data)) == rows_of(program, fake, text(CLEAN, "clean.txt"))


def test_unknown_words_alone_have_a_finite_score(program, fake, text):
    out = program("score", fake, text("zebra gnu\n"), "--level", "summary").out
    assert "perplexity_excluding_oovs nan" in out and "note: no word of this text" in out
    assert "nats                      nan" not in out


def test_special_words_in_a_text_are_the_tokens_of_that_name(program, fake, text):
    out = program("score", fake, text("<unk> <eos> the\n")).out.splitlines()[1:]
    assert [row.split("\t")[2] for row in out] == ["<unk>", "<eos>", "the", "<eos>"]


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
def test_a_compressed_text_is_told_by_its_first_bytes(program, fake, text, kind):
    path = text(packed(kind, CLEAN.encode()))  # named text.txt
    assert rows_of(program, fake, path) == rows_of(program, fake, text(CLEAN, "clean.txt"))


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
def test_a_truncated_text_is_scored_to_its_last_good_line(program, fake, text, kind):
    lines = [f"the cat {number * 2654435761 % 2**32}" for number in range(30_000)]
    whole = packed(kind, "\n".join(lines).encode())
    outcome = program("score", fake, text(whole[: len(whole) // 2]), "--level", "sentence")
    assert outcome.code == 2 and "damaged or cut short" in outcome.err and outcome.err.count("\n") == 1
    rows = outcome.out.splitlines()[1:]
    assert all(len(row.split("\t")) == 6 for row in rows) and (kind == "bz2" or len(rows) > 1000)


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"version": "1.0"}', '{"model": {"type": "BPE"}}', "\x00"])
def test_a_malformed_tokenizer_is_refused(program, text, content):
    path = text(content, "tokenizer.json")
    assert_refused(program("train", "--train", text("a b\n"), "--tokenizer", path), str(path))


def test_one_endless_line_costs_what_its_pieces_cost_in_bounded_memory(fake, tmp_path):
    """20 MB without a line end, in a process of its own whose memory is looked at."""
    words = "the cat sat dog " * 64
    (tmp_path / "long.txt").write_text(words * 20_000)
    script = (
        "import sys; from keraslm.cli import run\n"
        "code = run(['score', *sys.argv[1:], '--level', 'summary', '--json'])\n"
        f"print(code, {PEAK})"
    )
    command = [sys.executable, "-c", script, fake, tmp_path / "long.txt"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    summary, last = done.stdout.splitlines()
    code, kilobytes = map(int, last.split())
    found, scorer = json.loads(summary), load(fake)
    (piece,) = scorer.logprobs([words])  # each token of this model costs what its own id says
    assert code == 0 and found["tokens"] == 64 * 4 * 20_000 + 1
    assert found["nats"] == pytest.approx(-20_000 * piece[:-1].sum() - piece[-1], rel=1e-6)
    assert kilobytes < 1_500_000
