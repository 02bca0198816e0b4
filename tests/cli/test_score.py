"""`keraslm score` on a model whose answers are formulas."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading

import pytest

from keraslm import load
from tests.support import fake_model
from tests.support.program import PEAK, START, assert_refused, environment, start, strict_json

HEADER = "sentence_id\ttoken_id\ttoken\tlogprob\tsurprisal\n"
THE_CAT_ = "1\t1\tthe\t-1.945910\t2.807355\n1\t2\tcat\t-1.658228\t2.392317\n1\t3\t<eos>\t-3.044523\t4.392318\n"
BLANK_2 = "2\t1\t<eos>\t-3.044523\t4.392318\n"
BIRD_3 = "3\t1\t<unk>\t-1.252763\t1.807355\n3\t2\t<eos>\t-3.044523\t4.392318\n"
TEXT = "the cat\n\nbird\n"
ROWS = HEADER + THE_CAT_ + BLANK_2 + BIRD_3


def rows_of(out: str) -> list[list[str]]:
    """The cells of a table of complete rows."""
    assert out.endswith("\n")
    rows = [line.split("\t") for line in out.split("\n")[:-1]]
    assert {len(row) for row in rows} == {len(rows[0])}
    return rows


def test_rows_of_tokens(program, fake, text):
    outcome = program("score", fake, text(TEXT))
    assert (outcome.code, outcome.out, outcome.err) == (0, ROWS, "")


def test_rows_of_sentences(program, fake, text):
    assert program("score", fake, text(TEXT), "--level", "sentence").out == (
        "sentence_id\ttokens\toovs\tlogprob\tsurprisal\tperplexity\n"
        "1\t3\t0\t-6.648661\t9.591990\t9.1726\n"
        "2\t1\t0\t-3.044523\t4.392318\t21.0000\n"
        "3\t2\t1\t-4.297285\t6.199672\t8.5732\n"
    )


def test_summary(program, fake, text):
    assert program("score", fake, text(TEXT), "--level", "summary").out == (
        "lines                     3\n"
        "words                     3\n"
        "tokens                    6\n"
        "characters                14\n"
        "bytes                     14\n"
        "oovs                      1\n"
        "predicted                 6\n"
        "nats                      13.9905\n"
        "oov_nats                  1.2528\n"
        "perplexity                10.2959\n"
        "bits_per_token            3.3640\n"
        "perplexity_excluding_oovs 12.7757\n"
        "perplexity_per_word       10.2959\n"
        "bits_per_character        1.4417\n"
        "bits_per_byte             1.4417\n"
        "note: 33 % of the tokens in lines are <unk>, which is easy to predict\n"
    )
    values = strict_json(program("score", fake, text(TEXT), "--level", "summary", "--json").out)
    assert (values["lines"], values["tokens"], values["oovs"], values["bytes"]) == (3, 6, 1, 14)
    assert values["perplexity"] == pytest.approx((21**6 / (3 * 4 * 6)) ** (1 / 6), rel=1e-6)


def test_faults_are_reported_in_one_sentence(program, fake, tmp_path):
    assert_refused(program("score", fake, "--json"), "--json prints the summary: add --level summary")
    assert_refused(program("score", fake, tmp_path / "gone.txt"), "gone.txt: cannot be read (No such file")
    assert_refused(program("score", fake, tmp_path), f"{tmp_path}: a folder without texts")


def test_document_context_carries_the_state(program, tmp_path, text):
    model = fake_model.write(tmp_path / "model.onnx", fake_model.BY_HISTORY)
    path = text("the cat\nthe cat\n")
    sentence, document = (
        rows_of(program("score", model, path, "--context", context, "--level", "sentence").out)
        for context in ("sentence", "document")
    )
    assert sentence[1][3:] == sentence[2][3:]
    assert document[1] == sentence[1]
    assert document[2][3:] != sentence[2][3:]


def test_each_file_starts_a_document(program, tmp_path, text):
    model = fake_model.write(tmp_path / "model.onnx", fake_model.BY_HISTORY)
    line = ["score", model, "--context", "document", "--level", "sentence"]
    alone = rows_of(program(*line, text("dog the\n")).out)
    second = rows_of(program(*line, text("cat\nsat\n", "first.txt"), text("dog the\n")).out)
    assert second[3][1:] == alone[1][1:]


@pytest.mark.parametrize("names", [[], ["-"]])
def test_standard_input_is_read(program, fake, names):
    assert program("score", fake, *names, stdin=TEXT.encode()).out == ROWS


def test_several_files_are_one_table_with_consecutive_ids(program, fake, text):
    first, second = text("the cat\n", "first.txt"), text("\nbird\n", "second.txt")
    assert program("score", fake, first, second).out == ROWS
    assert program("score", fake, first, "-", stdin=b"\nbird\n").out == ROWS


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(TEXT.encode(), mtime=0),
        TEXT.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + TEXT.encode(),
        TEXT.encode()[:-1],
        gzip.compress(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode()[:-2], mtime=0),
    ],
    ids=["gzip", "CR LF", "byte order mark", "no last line end", "all of these"],
)
def test_line_ends_marks_and_compression_do_not_change_the_rows(program, fake, text, content):
    assert program("score", fake, text(content)).out == ROWS
    assert program("score", fake, stdin=content).out == ROWS


def test_invalid_bytes_are_refused_with_their_place_after_the_rows_before_them(program, fake, text):
    path = text(b"the cat\n\nbird\nthe\xff\ncat\n")
    outcome = program("score", fake, path)
    assert_refused(outcome, f"{path}:4:4: byte 0xff is not valid UTF-8", "byte 17 of the text", "--errors replace")
    assert outcome.out == ROWS
    assert len(rows_of(program("score", fake, path, "--level", "sentence").out)) == 4


def test_invalid_bytes_can_be_replaced_and_are_counted(program, fake, text):
    path = text(b"the cat\n\xff\nbird\n\xfe \xfd\n")
    outcome = program("score", fake, path, "--errors", "replace", "--level", "sentence")
    assert outcome.code == 0
    assert [row[:3] for row in rows_of(outcome.out)[1:]] == [
        ["1", "3", "0"],
        ["2", "2", "1"],
        ["3", "2", "1"],
        ["4", "3", "2"],
    ]
    assert outcome.err == f"keraslm: {path}: 2 lines contained invalid UTF-8, read as U+FFFD\n"


def test_a_truncated_gzip_file_is_refused_after_its_intact_lines(program, fake, text):
    lines = "".join(f"the cat {number * 7919}\n" for number in range(4000))
    outcome = program("score", fake, text(gzip.compress(lines.encode())[:-2000]), "--level", "sentence")
    assert_refused(outcome, "the gzip data are damaged or cut short")
    assert len(rows_of(outcome.out)) > 100


def test_an_empty_text_has_no_rows_and_no_perplexity(program, fake, text):
    assert program("score", fake, text("")).out == HEADER
    outcome = program("score", fake, text(""), "--level", "summary")
    assert outcome.code == 0
    assert "tokens                    0\n" in outcome.out
    assert "perplexity                nan\n" in outcome.out
    assert strict_json(program("score", fake, text(""), "--level", "summary", "--json").out)["perplexity"] is None


def test_cuda_without_cuda_is_refused(program, fake, monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert_refused(
        program("score", fake, "--provider", "cuda"), "cuda", "was requested, but this onnxruntime has no CUDA"
    )
    assert program("score", fake, "--provider", "auto", stdin=TEXT.encode()).out == ROWS


@pytest.mark.parametrize("content", ["the cat sat\n" * 5000, b"the cat\n\xff\n"], ids=["valid", "invalid"])
def test_a_closed_output_pipe_ends_the_program_without_a_traceback(fake, text, content):
    """The reader closes the pipe, as `| head -1` does."""
    command, pipe = [*START, "score", str(fake), str(text(content))], subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, env=environment()) as process:
        process.stdout.close()
        error = process.stderr.read()
    if isinstance(content, str):
        assert (process.returncode, error) == (0, b"")
    assert b"Traceback" not in error and b"Exception" not in error


def test_the_first_rows_appear_while_standard_input_is_open(fake):
    process = subprocess.Popen(
        [*START, "score", str(fake)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
    )
    # The timer only ends a program that never answers; it measures nothing.
    timer = threading.Timer(20, process.kill)
    timer.start()
    try:
        process.stdin.write(b"the cat\n")
        process.stdin.flush()
        rows = [process.stdout.readline().decode() for _ in range(4)]
        assert "".join(rows) == HEADER + THE_CAT_
    finally:
        timer.cancel()
        process.communicate()


@pytest.mark.parametrize(
    "odd", ["a\x00b", "\u2028", "x\x0cy", "\u200b", "\u2029 a", "\x85", "\x1c\x1e", "\ufeff", "\r", "a\rb"]
)
def test_odd_characters_stay_in_their_line(program, fake, text, odd):
    """One row per line as `wc -l` counts them; the scores of the other lines do not change."""
    rows, clean = (
        rows_of(program("score", fake, text(content), "--level", "sentence").out)
        for content in (f"the cat\n{odd}\nthe dog sat\n", "the cat\n\nthe dog sat\n")
    )
    assert len(rows) == 4 and (rows[1], rows[3]) == (clean[1], clean[3])


def test_a_text_of_unknown_words_has_a_finite_score(program, fake, text):
    out = program("score", fake, text("zebra gnu\n"), "--level", "summary").out
    assert "perplexity_excluding_oovs nan" in out and "note: no word of this text" in out
    assert "nats                      nan" not in out


def test_a_line_of_4_mb_is_scored_in_bounded_memory(fake, tmp_path):
    """In a separate process whose memory is measured."""
    words = "the cat sat dog " * 64
    (tmp_path / "long.txt").write_text(words * 4000)
    script = (
        "import sys; from keraslm.cli import run\n"
        "code = run(['score', *sys.argv[1:], '--level', 'summary', '--json'])\n"
        f"print(code, {PEAK})"
    )
    summary, last = start(fake, tmp_path / "long.txt", command=[sys.executable, "-c", script]).out.splitlines()
    code, kilobytes = map(int, last.split())
    found = json.loads(summary)
    (piece,) = load(fake).logprobs([words])  # in this model the log-probability of a token depends only on its id
    assert code == 0 and found["tokens"] == 64 * 4 * 4000 + 1
    assert found["nats"] == pytest.approx(-4000 * piece[:-1].sum() - piece[-1], rel=1e-6)
    assert kilobytes < 400_000
