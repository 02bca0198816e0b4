"""Progress of long work: what it shows, when, and that it leaves no trace; in a real pseudo-terminal."""

from __future__ import annotations

import gzip
import io
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from keraslm.commands.flags import shows_progress
from keraslm.system import progress as module
from keraslm.system.progress import Counter, meter, progress
from keraslm.text.files import TextFile, TextFiles
from tests.support.program import START, start
from tests.support.pseudo_terminal import pseudo_terminal


class Clock:
    """Time that passes when somebody looks."""

    def __init__(self, step: float):
        self.now, self.step = 100.0, step

    def monotonic(self) -> float:
        self.now += self.step
        return self.now


def items(count: int, tokens: int = 10):
    return [SimpleNamespace(ids=range(tokens))] * count


def counter(monkeypatch, step: float, share=lambda _: None):
    monkeypatch.setattr(module, "time", Clock(step))
    shown, stops = [], []
    return Counter(lambda *update: shown.append(update), lambda: stops.append(len(shown)), share), shown, stops


def test_lines_and_tokens_per_second(monkeypatch):
    count, shown, stops = counter(monkeypatch, 0.125)
    passed = items(8)
    assert list(count(passed)) == passed
    # After 0.25, 0.5, 0.75 and 1 seconds, 0.125 per line.
    assert shown == [(None, f"{lines} lines  80 tokens/s") for lines in (2, 4, 6, 8)]
    assert (count.lines, count.tokens, stops) == (8, 80, [4])


def test_at_most_five_updates_per_second(monkeypatch):
    count, shown, _ = counter(monkeypatch, 0.001)
    list(count(items(3000)))
    assert 13 <= len(shown) <= 15  # in three seconds
    count, shown, _ = counter(monkeypatch, 0.001)
    list(count(items(100)))
    assert shown == []


def test_the_time_left_is_that_of_the_share(monkeypatch):
    count, shown, _ = counter(monkeypatch, 1.0, lambda counter: counter.tokens / 36_000)
    list(count(items(3, 9), tokens=lambda _: 9, lines=lambda _: 0))
    assert shown[0] == (9 / 36_000, "9 tokens/s  1:06:39 left")
    assert shown[2] == (27 / 36_000, "9 tokens/s  1:06:37 left")


def test_results_are_passed_on_one_by_one_and_the_bar_stops_before_the_end_is_seen(monkeypatch):
    count, _, stops = counter(monkeypatch, 0.0)
    source = iter(items(2))
    passing = count(source)
    assert next(passing) and len(list(source)) == 1
    assert stops == [] and next(passing, None) is None and stops == [0]


def test_an_error_passes_through(monkeypatch):
    count, _, _ = counter(monkeypatch, 0.0)
    with pytest.raises(ZeroDivisionError):
        list(count(1 // number for number in (0,)))


def test_without_a_terminal_nothing_is_loaded_or_written(capfd):
    for show in (True, False):
        with progress("scoring", show, TextFile("-")) as count, meter("reading", 10, show) as advance:
            passed = items(3)
            assert list(count(passed)) == passed and advance(3) is None
    assert capfd.readouterr() == ("", "")
    code = (
        "import sys; from keraslm.system.progress import progress\nwith progress('a', True) as count: list(count([]))\n"
    )
    outcome = start(command=[sys.executable, "-c", f"{code}print('rich' in sys.modules)"])
    assert (outcome.out, outcome.err) == ("False\n", "")


# The share of a text


def test_the_share_follows_the_bytes_that_were_read(tmp_path):
    paths = [tmp_path / "a.txt", tmp_path / "b.txt.gz", tmp_path / "empty.txt"]
    text = "".join(f"line {number:06} of a text\n" for number in range(40_000)).encode()
    paths[0].write_bytes(text)
    paths[1].write_bytes(gzip.compress(os.urandom(200_000).hex().encode() + b"\n" + text))
    paths[2].write_bytes(b"")
    texts = TextFiles(paths)
    sizes = [path.stat().st_size for path in paths]
    assert (texts.known_size(), texts.position(), texts.lines) == (sum(sizes), 0, 0)
    share, before = module._share_of(texts, None), 0
    for lines, _ in enumerate(texts, 1):
        if lines % 5000 == 0:
            assert texts.lines == lines
            taken = texts.position()
            known = lines * len(text) // 40_000 if lines <= 40_000 else sizes[0]
            assert taken >= before and taken >= min(known, len(text))
            assert taken <= known + (1 << 18) or lines > 40_000
            assert share(Counter()) == 0.0
            half = Counter()
            half.lines = lines // 2
            assert share(half) == pytest.approx(taken / sum(sizes) / 2)
            before = taken
    assert (texts.position(), texts.lines) == (sum(sizes), 80_001)
    done = Counter()
    done.lines = 80_001
    assert share(done) == 1.0
    done.lines = 100_000  # several results per line
    assert share(done) == 1.0
    again = iter(texts.files[0])
    assert (next(again), texts.files[0].lines) == ("line 000000 of a text", 1)
    again.close()


def test_the_size_of_pipes_and_standard_input_is_not_known(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo")
    writer = threading.Thread(target=Path.write_bytes, args=(tmp_path / "fifo", b"a\nb\n"))
    writer.start()
    file = TextFile(tmp_path / "fifo")
    assert list(file) == ["a", "b"] and (file.known_size(), file.position(), file.lines) == (None, 0, 2)
    writer.join()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-").write_text("a file of this name\n")
    (tmp_path / "a.txt").write_text("a\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x\n")))
    assert TextFile("-").known_size() is None and TextFiles(["-", "a.txt"]).known_size() is None
    assert module._share_of(TextFile("-"), None)(Counter()) is None
    assert module._share_of(TextFile(tmp_path / "a.txt"), 10)(Counter()) == 0.0


@pytest.mark.parametrize("choice", ["auto", "none"])
@pytest.mark.parametrize("prints", [True, False])
@pytest.mark.parametrize("terminals", ["", "in", "out", "in out"])
def test_it_is_shown_where_it_disturbs_nothing(tmp_path, monkeypatch, choice, prints, terminals):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: "in" in terminals))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda: "out" in terminals))
    beside = prints and "out" in terminals
    files = [TextFile(tmp_path / "a.txt")]
    assert shows_progress(choice, files, prints) is (choice == "auto" and not beside)
    typed = "in" in terminals
    assert shows_progress(choice, [*files, TextFile("-")], prints) is (choice == "auto" and not beside and not typed)


# In a terminal

SLOW = """
import sys, time
from keraslm.rescoring import pairs, rescore
def slow(call):
    def generator(*values, **named):
        for number, item in enumerate(call(*values, **named)):
            if number % 10 == 0:
                time.sleep(0.1)
            if number == 35 and FAILS:
                sys.stderr.write("a note\\n")
                raise MemoryError("no room")
            yield item
    return generator
pairs.score_pairs, rescore.rescore = map(slow, (pairs.score_pairs, rescore.rescore))
from keraslm.cli import main
main()
"""
BAR = re.compile(r"(scoring|rescoring) +━+.* +\d+ lines  [\d,]+ tokens/s  0:00:\d\d left")


def slow(fails: bool = False) -> list[str]:
    return [sys.executable, "-c", SLOW.replace("FAILS", str(fails))]


@pytest.fixture
def sentences(text) -> Path:
    return text("the cat sat\tthe cat cat\n" * 60, "pairs.tsv")


@pytest.fixture
def lists(text) -> Path:
    return text("".join(f"u{number}\t-1\tthe cat\nu{number}\t-2\tdog\n" for number in range(60)), "lists.tsv")


def shows_bar(screen) -> bool:
    return any(BAR.search(line) for line in screen.lines)


def test_a_table_at_the_end_replaces_the_bar(fake, sentences, program):
    expected = program("pairs", fake, sentences).out.expandtabs()
    with pseudo_terminal("pairs", fake, sentences, command=slow(), columns=100) as terminal:
        terminal.until(shows_bar)
        assert len(terminal.screen.lines) == 1
        assert terminal.wait() == 0
        assert [line.split() for line in terminal.screen.lines] == [line.split() for line in expected.splitlines()]
        assert terminal.screen.column == 0


@pytest.mark.parametrize("command", ["pairs", "rescore"])
def test_rows_that_go_elsewhere_are_complete_and_the_screen_is_empty_after_it(fake, sentences, lists, program, command):
    line = [command, fake, *([sentences, "--rows"] if command == "pairs" else [lists])]
    with pseudo_terminal(*line, command=slow(), columns=100, stdout=subprocess.PIPE) as terminal:
        terminal.until(shows_bar)
        assert terminal.wait() == 0
        assert terminal.screen.lines == []
        assert terminal.process.stdout.read().decode() == program(*line).out


@pytest.mark.parametrize("command", ["pairs", "rescore"])
def test_nothing_is_shown_beside_rows_on_the_same_terminal(fake, sentences, lists, program, command):
    line = [command, fake, *([sentences, "--rows"] if command == "pairs" else [lists])]
    with pseudo_terminal(*line, command=slow(), columns=200) as terminal:
        assert terminal.wait() == 0
        assert len(terminal.screen.lines) == program(*line).out.count("\n")
        assert not any("━" in shown for shown in terminal.screen.lines)


def test_a_file_as_output_leaves_the_terminal_to_the_bar(fake, lists, tmp_path, program):
    line = ["rescore", fake, lists, "--output", tmp_path / "out.tsv"]
    with pseudo_terminal(*line, command=slow(), columns=100) as terminal:
        terminal.until(shows_bar)
        assert terminal.wait() == 0 and terminal.screen.lines == []
    assert (tmp_path / "out.tsv").read_text() == program("rescore", fake, lists).out


@pytest.mark.parametrize("flags", [["--progress", "none"], []])
def test_none_shows_nothing(fake, sentences, program, flags):
    with pseudo_terminal("pairs", fake, sentences, *flags, command=slow(), columns=100, stdout=subprocess.PIPE) as one:
        if not flags:
            one.until(shows_bar)
        assert one.wait() == 0 and one.screen.lines == []
        assert bool(one.seen.strip()) is (not flags)


def test_an_error_follows_the_bar_and_notes_stay(fake, sentences):
    with pseudo_terminal("pairs", fake, sentences, command=slow(fails=True), columns=100) as terminal:
        terminal.until(shows_bar)
        assert terminal.wait() == 1
        assert terminal.screen.lines[0] == "a note"
        assert terminal.screen.lines[1].startswith("keraslm: Not enough memory (MemoryError: no room)")
        assert terminal.seen.rindex("\x1b[?25h") > terminal.seen.rindex("\x1b[?25l")  # the cursor is visible again


def test_standard_input_has_no_time_left(fake, sentences):
    """The size of a pipe is not known."""
    with pseudo_terminal("pairs", fake, command=slow(), columns=100, stdin=subprocess.PIPE) as terminal:
        terminal.process.stdin.write(sentences.read_bytes())
        terminal.process.stdin.close()
        terminal.until(lambda screen: any(re.search(r"\d lines  [\d,]+ tokens/s", line) for line in screen.lines))
        assert terminal.wait() == 0 and "left" not in terminal.seen


def test_evaluation_shows_tokens_and_leaves_only_its_table(tiny_run, tiny_folder):
    line = ["evaluate", tiny_run.path, tiny_folder / "valid.txt"]
    with pseudo_terminal(*line, command=START, columns=150) as terminal:
        assert terminal.wait() == 0
        assert "evaluating" in terminal.seen
        assert not any("evaluating" in shown or "━" in shown for shown in terminal.screen.lines)
