"""`keraslm predict` on models whose answers are formulas: tables, JSON, lists of words, and typing in a terminal."""

from __future__ import annotations

import csv
import gzip
import io
import json
import signal
import subprocess
import sys

import numpy as np
import pytest

from keraslm.config import DataConfig
from keraslm.scoring.predict import predict
from keraslm.text.vocabulary import train_tokenizer
from tests.support import fake_model
from tests.support.program import assert_refused, strict_json
from tests.support.pseudo_terminal import pseudo_terminal

HEADER = "context_id\trank\tword\tprobability"


def rows(out: str) -> list[list[str]]:
    assert out.startswith(f"{HEADER}\n")
    return [line.split("\t") for line in out.splitlines()[1:]]


def test_the_most_probable_words_of_each_context(program, fake):
    outcome = program("predict", fake, "the ", "the c", "sat x", "", "-k", 2)
    assert (outcome.code, outcome.err) == (0, "")
    two = [("dog", 5 / 21), ("cat", 4 / 21)]
    expected = [("1", *two[0]), ("1", *two[1]), ("2", *two[1]), ("4", *two[0]), ("4", *two[1])]
    assert [(row[0], row[2], float(row[3])) for row in rows(outcome.out)] == [
        (number, word, pytest.approx(p, rel=1e-5)) for number, word, p in expected
    ]
    assert [row[1] for row in rows(outcome.out)] == ["1", "2", "1", "1", "2"]


def test_five_words_by_default_and_any_number_on_request(program, bulk_model, by_history):
    for flags, count in (([], 5), (["--count", 3], 3), (["-k", 99], 99)):
        found = rows(program("predict", bulk_model, "the cat ", *flags).out)
        expected = predict(by_history, "the cat ", count).words
        assert [row[2] for row in found] == [item.word for item in expected]
        assert [float(row[3]) for row in found] == pytest.approx([item.probability for item in expected], rel=1e-5)


def test_contexts_of_a_file_or_of_standard_input(program, fake, tmp_path):
    data = b"the c\r\n\nthe zebra \nd"
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(data))
    expected = program("predict", fake, "the c", "", "the zebra ", "d").out
    assert len(rows(expected)) == 1 + 4 + 4 + 1
    for flags in (["--input", tmp_path / "a.txt.gz"], ["--input", "-"], ["-"], []):
        assert program("predict", fake, *flags, stdin=data).out == expected
    assert program("predict", fake, stdin=b"").out == f"{HEADER}\n"
    (tmp_path / "b.txt").write_bytes("café \n".encode("latin-1"))
    outcome = program("predict", fake, "--input", tmp_path / "b.txt")
    assert outcome.code == 2 and "b.txt:1:4: byte 0xe9 is not valid UTF-8" in outcome.err
    assert program("predict", fake, "--input", tmp_path / "b.txt", "--encoding", "latin-1", "-k", 1).code == 0


def test_json_has_one_object_per_context(program, fake):
    out = program("predict", fake, "the c", 'a\tη "', "--json", "-k", 1).out
    first, second = map(strict_json, out.splitlines())
    assert first == {
        "context": "the c",
        "begun": "c",
        "start": 4,
        "words": [{"word": "cat", "probability": 4 / 21}],
    } | {"words": [{"word": "cat", "probability": pytest.approx(4 / 21)}]}
    assert second == {"context": 'a\tη "', "begun": '"', "start": 4, "words": []}


def test_tokens_include_the_special_ones(program, fake):
    out = program("predict", fake, "the c", "--tokens", "-k", 3).out
    assert out.splitlines()[0] == "context_id\trank\ttoken\tprobability"
    assert [line.split("\t")[2] for line in out.splitlines()[1:]] == ["<unk>", "dog", "cat"]
    (record,) = map(strict_json, program("predict", fake, "the c", "--tokens", "--json").out.splitlines())
    assert (record["begun"], record["start"]) == ("", 5)
    assert [item["word"] for item in record["words"]] == ["<unk>", "dog", "cat", "the", "sat"]


def test_lists_of_words(program, fake, tmp_path):
    (tmp_path / "bad.txt").write_text("dog\r\n\n the \nzebra\n", encoding="utf-8")
    (tmp_path / "good.txt").write_text("\ufeffsat\ndog\ncat\n", encoding="utf-8")
    bad, good = ["--exclude", tmp_path / "bad.txt"], ["--only", tmp_path / "good.txt"]
    for flags, words in (
        (bad, ["cat", "sat"]),
        (good, ["dog", "cat", "sat"]),
        ([*good, *bad], ["cat", "sat"]),
        ([*good, "-k", 1], ["dog"]),
        ([*bad, "-k", 1], ["cat"]),
    ):
        outcome = program("predict", fake, "the ", *flags)
        assert ([row[2] for row in rows(outcome.out)], outcome.err) == (words, "")


def test_a_list_with_several_words_in_a_line_says_so(program, fake, tmp_path):
    (tmp_path / "bad.txt").write_text("dog\ntwo words\none two three\n", encoding="utf-8")
    outcome = program("predict", fake, "the ", "--exclude", tmp_path / "bad.txt", "-k", 1)
    assert rows(outcome.out)[0][2] == "cat"
    assert outcome.err.count("\n") == 1
    assert "bad.txt: 2 lines with several words have no effect, such as 'one two three'" in outcome.err


def test_a_word_is_quoted_where_a_table_needs_it(program, tmp_path):
    tokenizer = train_tokenizer(['" , "a"'], DataConfig())
    table = np.full((tokenizer.vocab_size,) * 2, -np.log(tokenizer.vocab_size))
    model = fake_model.write(tmp_path / "m.onnx", table, fake_model.info_of(tokenizer))
    for format, delimiter in (("tsv", "\t"), ("csv", ",")):
        out = program("predict", model, "", "--format", format).out
        assert [row[2] for row in csv.reader(io.StringIO(out), delimiter=delimiter)] == ["word", '"', '"a"', ","]
    assert '\t"a"\t' in program("predict", model, "", "--format", "raw").out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["the", "--input", "a.txt"], "Give contexts as arguments or with --input, not both."),
        (["the", "--interactive"], "--interactive reads keys"),
        (["--interactive", "--json"], "--interactive reads keys"),
        (["--interactive"], "--interactive needs a terminal as standard input and standard output."),
        (["the", "--tokens", "--only", "list.txt"], "--only and --exclude name words: leave out --tokens."),
        (["the", "--only", "empty.txt"], "--only empty.txt: no words, so that nothing could be predicted."),
        (["the", "--exclude", "gone.txt"], "gone.txt: cannot be read"),
        (["--input", "gone.txt"], "gone.txt: cannot be read"),
        (["the", "-k", "0"], " is 0, but must be at least 1"),
        (["the", "--cuont", "3"], "Unknown option: --cuont"),
    ],
)
def test_wrong_use_is_refused_in_one_sentence(program, fake, tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n  \n", encoding="utf-8")
    (tmp_path / "list.txt").write_text("cat\n", encoding="utf-8")
    outcome = program("predict", fake, *flags)
    assert_refused(outcome, message)


# In a terminal. With `fake`, the best words are dog, cat, the and sat after any text.

NEXT = "  1 dog  2 cat  3 the  4 sat"


def shows(line: str, below: str):
    return lambda screen: (
        screen.lines[-2:] == [line, below.rstrip()] or (not below and screen.lines and screen.lines[-1] == line)
    )


def test_words_are_shown_while_a_line_is_typed(fake):
    with pseudo_terminal("predict", fake) as terminal:
        terminal.until(shows(">", NEXT))
        first = terminal.screen.lines[0]
        assert first == "Tab or 1 to 5: accept a word. Ctrl-V 1: type 1. Enter: new line. Ctrl-D: end."[:60]
        for keys, line, below in (
            ("th", "> th", "  1 the"),
            ("\t", "> the", NEXT),
            ("c", "> the c", "  1 cat"),
            ("\x7f", "> the", NEXT),
            ("2", "> the cat", NEXT),
            ("\x161", "> the cat 1", ""),
            ("9", "> the cat 19", ""),
            ("\x7f\x7fü🙂", "> the cat ü🙂", ""),
            ("\x7f\x7f\x1b[D", "> the cat", NEXT),
        ):
            terminal.type(keys)
            terminal.until(shows(line, below))
        terminal.type("\r")
        terminal.until(lambda screen: screen.lines[-3:] == ["> the cat", ">", NEXT])
        terminal.type("sat\x04")
        assert terminal.wait() == 0
        assert terminal.screen.lines[-2:] == ["> the cat", "> sat"] and terminal.screen.column == 0
        assert terminal.settings() == terminal.settings_before


def test_the_state_is_carried_over_words_and_lines(bulk_model, by_history):
    def below(text: str) -> str:
        return "  " + "  ".join(f"{n} {item.word}" for n, item in enumerate(predict(by_history, text, 3).words, 1))

    with pseudo_terminal("predict", bulk_model, "-k", 3) as terminal:
        terminal.until(shows(">", below("")))
        for keys, line, text in (
            ("the ", "> the", "the "),
            ("cat ", "> the cat", "the cat "),
            ("\r", ">", "the cat \n"),
            ("dog ", "> dog", "the cat \ndog "),
            ("\x17", ">", "the cat \n"),
        ):
            terminal.type(keys)
            terminal.until(shows(line, below(text)))


def test_lists_apply_while_typing(fake, tmp_path):
    (tmp_path / "bad.txt").write_text("dog\n", encoding="utf-8")
    with pseudo_terminal("predict", fake, "--interactive", "--exclude", tmp_path / "bad.txt", "-k", 2) as terminal:
        terminal.until(shows(">", "  1 cat  2 the"))
        terminal.type("d")
        terminal.until(shows("> d", ""))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (None, 130)])
def test_the_settings_return_after_a_signal_and_ctrl_c(fake, number, code):
    with pseudo_terminal("predict", fake) as terminal:
        terminal.until(shows(">", NEXT))
        terminal.type("th")
        terminal.until(shows("> th", "  1 the"))
        assert terminal.settings() != terminal.settings_before
        if number:
            terminal.process.send_signal(number)
        else:
            terminal.type("\x03")
        assert terminal.wait() == code
        assert terminal.settings() == terminal.settings_before
        message = "keraslm: terminated" if code == 143 else "keraslm: interrupted"
        assert terminal.screen.lines[-2:] == ["> th", message]


FAILING = """
from keraslm.cli import main
from keraslm.errors import KeraslmError
from keraslm.scoring.keyboard import Suggestions
after = Suggestions.after
def fail(self, line):
    if line:
        raise KeraslmError("The model failed.")
    return after(self, line)
Suggestions.after = fail
main()
"""


def test_the_settings_return_after_an_error(fake):
    with pseudo_terminal("predict", fake, command=[sys.executable, "-c", FAILING]) as terminal:
        terminal.until(shows(">", NEXT))
        terminal.type("t")
        assert terminal.wait() == 1
        assert terminal.settings() == terminal.settings_before
        assert terminal.screen.lines[-1] == "keraslm: KeraslmError: The model failed."


def test_a_terminal_is_read_in_lines_if_the_output_goes_elsewhere(fake):
    with pseudo_terminal("predict", fake, "-k", 1, stdout=subprocess.PIPE) as terminal:
        terminal.until(lambda screen: "end it with Ctrl-D" in "".join(screen.lines))
        terminal.type("the c\n\x04")
        assert terminal.wait() == 0
        assert [row[2] for row in rows(terminal.process.stdout.read().decode())] == ["cat"]


def test_json_lines_are_answered_at_once(fake):
    with pseudo_terminal("predict", fake, "-k", 1, "--json", "--input", "-") as terminal:
        terminal.until(lambda screen: "end it with Ctrl-D" in "".join(screen.lines))
        terminal.type("the c\n")
        terminal.until(lambda screen: json.dumps("cat") in "".join(screen.lines))
        terminal.type("\x04")
        assert terminal.wait() == 0
