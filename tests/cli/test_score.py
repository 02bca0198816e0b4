"""`keraslm score` on a model whose answers are formulas."""

from __future__ import annotations

import contextlib
import gzip
import subprocess
import threading

import pytest

from tests.support import fake_model
from tests.support.program import START, assert_refused, environment, start, strict_json

HEADER = "sentence_id\ttoken_id\ttoken\tlogprob\tsurprisal\n"
THE_CAT_ = "1\t1\tthe\t-1.945910\t2.807355\n1\t2\tcat\t-1.658228\t2.392317\n1\t3\t<eos>\t-3.044523\t4.392318\n"
BLANK_2 = "2\t1\t<eos>\t-3.044523\t4.392318\n"
BIRD_3 = "3\t1\t<unk>\t-1.252763\t1.807355\n3\t2\t<eos>\t-3.044523\t4.392318\n"
TEXT = "the cat\n\nbird\n"
ROWS = HEADER + THE_CAT_ + BLANK_2 + BIRD_3


def rows_of(out: str) -> list[list[str]]:
    """The cells of a table in which every line is a whole row."""
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
        "perplexity_excluding_oovs 12.7757\n"
        "perplexity_per_word       10.2959\n"
        "bits_per_character        1.4417\n"
        "bits_per_byte             1.4417\n"
    )


def test_summary_as_json(program, fake, text):
    values = strict_json(program("score", fake, text(TEXT), "--level", "summary", "--json").out)
    assert (values["lines"], values["tokens"], values["oovs"], values["bytes"]) == (3, 6, 1, 14)
    assert values["perplexity"] == pytest.approx((21**6 / (3 * 4 * 6)) ** (1 / 6), rel=1e-6)


def test_json_of_rows_is_refused(program, fake):
    assert_refused(program("score", fake, "--json"), "--json prints the summary: add --level summary")


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


def test_several_files_are_one_table_with_ids_counted_on(program, fake, text):
    first, second = text("the cat\n", "first.txt"), text("\nbird\n", "second.txt")
    assert program("score", fake, first, second).out == ROWS
    assert program("score", fake, first, "-", stdin=b"\nbird\n").out == ROWS


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(TEXT.encode()),
        TEXT.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + TEXT.encode(),
        TEXT.encode()[:-1],
        gzip.compress(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode()[:-2]),
    ],
    ids=["gzip", "CR LF", "byte order mark", "no last line end", "all of these"],
)
def test_another_form_of_the_text_gives_the_same_rows(program, fake, text, content):
    assert program("score", fake, text(content)).out == ROWS
    assert program("score", fake, stdin=content).out == ROWS


def test_odd_characters_do_not_break_lines(program, fake, text):
    # Line separator, form feed, next line, file separator, NUL and a zero-width space.
    path = text("the\u2028cat\nthe\x0ccat\nthe\x85cat\nthe\x1ccat\nthe\x00cat\nthe\u200bcat\n")
    rows = rows_of(program("score", fake, path, "--level", "sentence").out)
    assert [row[0] for row in rows[1:]] == ["1", "2", "3", "4", "5", "6"]


def test_invalid_bytes_are_refused_with_their_place(program, fake, text):
    path = text(b"the cat\n\nbird\nthe\xff\ncat\n")
    outcome = program("score", fake, path)
    assert_refused(outcome, f"{path}:4:4: byte 0xff is not valid UTF-8", "byte 17 of the text", "--errors replace")
    assert outcome.out == ROWS


def test_rows_before_invalid_bytes_stay_whole(program, fake, text):
    path = text(b"the cat\n" * 20 + b"\xff\n")
    for level in ("token", "sentence"):
        outcome = program("score", fake, path, "--level", level)
        assert outcome.code == 2
        assert {row[0] for row in rows_of(outcome.out)[1:]} == {str(number) for number in range(1, 21)}


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


def test_a_truncated_gzip_file_is_refused_after_its_good_lines(program, fake, text):
    lines = "".join(f"the cat {number * 7919}\n" for number in range(4000))
    outcome = program("score", fake, text(gzip.compress(lines.encode())[:-2000]), "--level", "sentence")
    assert_refused(outcome, "the gzip data are damaged or cut short")
    assert len(rows_of(outcome.out)) > 100


def test_an_empty_file_has_a_header_and_no_rows(program, fake, text):
    outcome = program("score", fake, text(""))
    assert (outcome.code, outcome.out, outcome.err) == (0, HEADER, "")


def test_the_summary_of_an_empty_file_is_not_a_number(program, fake, text):
    outcome = program("score", fake, text(""), "--level", "summary")
    assert outcome.code == 0
    assert "tokens                    0\n" in outcome.out
    assert "perplexity                nan\n" in outcome.out
    assert strict_json(program("score", fake, text(""), "--level", "summary", "--json").out)["perplexity"] is None


def test_a_missing_text_is_refused(program, fake, tmp_path):
    assert_refused(program("score", fake, tmp_path / "gone.txt"), "gone.txt: cannot be read (No such file")


def test_a_folder_is_no_text(program, fake, tmp_path):
    assert_refused(program("score", fake, tmp_path), f"{tmp_path}: cannot be read (Is a directory)")


@pytest.mark.parametrize(
    ("content", "name"),
    [(b"", "an empty file"), (gzip.compress(b"x"), "gzip data"), ("\\data\\\n", "an ARPA n-gram model")],
    ids=["empty", "gzip", "arpa"],
)
def test_another_file_given_as_the_model_is_named(program, text, content, name):
    outcome = program("score", text(content, "lm"), stdin=b"the cat\n")
    assert_refused(outcome, f"not an ONNX model; it looks like {name}")
    assert outcome.out == ""


def test_a_run_folder_given_as_the_model_is_answered_with_the_export_command(program, tmp_path):
    assert_refused(program("score", tmp_path), f"keraslm export model.onnx --run {tmp_path}")


def test_cuda_without_cuda_is_refused(program, fake, monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert_refused(
        program("score", fake, "--provider", "cuda"), "cuda", "was requested, but this onnxruntime has no CUDA"
    )
    assert program("score", fake, "--provider", "auto", stdin=TEXT.encode()).out == ROWS


def test_the_process_writes_the_same_rows(fake):
    outcome = start("score", fake, stdin=TEXT.encode())
    assert (outcome.code, outcome.out, outcome.err) == (0, ROWS, "")


def reader_that_stops(*arguments, stdin: bytes) -> tuple[int, bytes]:
    """Run the program with a reader that closes the pipe after the first line, as `| head -1` does."""
    process = subprocess.Popen(
        [*START, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    with process, contextlib.suppress(BrokenPipeError):
        process.stdout.close()
        process.stdin.write(stdin)
        process.stdin.close()
        error = process.stderr.read()
    return process.returncode, error


def test_a_reader_that_stops_ends_the_program_in_silence(fake, text):
    code, error = reader_that_stops("score", fake, text("the cat sat\n" * 5000), stdin=b"")
    assert (code, error) == (0, b"")


def test_a_reader_that_stops_before_an_error_gets_no_traceback(fake, text):
    _, error = reader_that_stops("score", fake, text(b"the cat\n\xff\n"), stdin=b"")
    assert b"Traceback" not in error and b"Exception" not in error


def test_first_rows_come_while_standard_input_is_open(fake):
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
