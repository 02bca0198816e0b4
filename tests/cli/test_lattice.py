"""`keraslm lattice` on a model whose answers are formulas: <eos> 1/21, sat 2, the 3, cat 4, dog 5, <unk> 6."""

from __future__ import annotations

import gzip
import math

import pytest

from tests.support.program import assert_refused

SLF = """\
VERSION=1.0
UTTERANCE=u1
N=4 L=4
I=0 t=0.0
I=1 t=0.3
I=2 t=0.9
I=3 t=1.0
J=0 S=0 E=1 W=the a=-1 l=-1
J=1 S=1 E=2 W=cat a=-2 l=-1.5
J=2 S=1 E=2 W=sat a=-1.5 l=-2.5
J=3 S=2 E=3 W=</s> a=-0.5 l=-0.5
"""
KALDI = "k1\n0 1 1 2,10,5_5\n0 1 2 1,10.5,\n1\n\nk2\n0 0.5,1,\n\n"
WORDS = "<eps> 0\ndog 1\nsat 2\n"


def ln(*shares):
    return math.log(math.prod(shares) / 21 ** len(shares))


@pytest.fixture
def slf(text):
    return text(SLF, "u1.slf")


@pytest.mark.parametrize(
    ("flags", "best"),
    [
        ([], "the cat"),  # -3.5 + ln(3 * 4) against -3 + ln(3 * 2): 0.69 is more than 0.5
        (["--lm-scale", "0.6"], "the sat"),
        (["--acoustic-scale", "2"], "the sat"),
        (["--lm-scale", "0.6", "--mix", "0.4"], "the cat"),  # 0.6 of the old difference, 1, and 0.4 of 0.69
        (["--fillers", "cat,dog"], "the"),  # an end costs nothing there
        (["--word-penalty", "9", "--fillers", "cat"], "the sat"),
    ],
)
def test_the_best_text(program, fake, slf, flags, best):
    outcome = program("lattice", fake, slf, *flags)
    assert (outcome.code, outcome.out, outcome.err) == (0, f"u1\t{best}\n", "")


def test_lists_are_those_that_rescore_reads(program, fake, slf, text):
    outcome = program("lattice", fake, slf, "--nbest", "5")
    assert outcome.out == (
        "utterance\tacoustic\told_lm\tlm_logprob\ttext\n"
        f"u1\t-3.500000\t-3.000000\t{ln(3, 4, 1):.6f}\tthe cat\nu1\t-3.000000\t-4.000000\t{ln(3, 2, 1):.6f}\tthe sat\n"
    )
    assert program("lattice", fake, slf, "--nbest", "1").out.count("\n") == 2
    lists = text(outcome.out, "lists.tsv")
    scored = program("rescore", fake, lists, "--name", "again").out.splitlines()
    assert scored[1].split("\t")[3:5] == [f"{ln(3, 4, 1):.6f}"] * 2
    assert program("rescore", fake, lists, "--best", "--scales", "1,0,0").out == "u1\tthe cat\n"


def test_a_rescored_lattice_is_printed_and_read_again(program, fake, slf, text):
    outcome = program("lattice", fake, slf, "--output-format", "slf")
    assert outcome.out.startswith(
        "VERSION=1.0\nUTTERANCE=u1\nlmscale=1 acscale=1 wdpenalty=0\nstart=0 end=4\nN=5 L=5\n"
    )
    again = text(outcome.out, "again.slf")
    assert program("lattice", fake, again, "--mix", "0").out == "u1\tthe cat\n"
    assert program("lattice", fake, again, "--output-format", "slf").out == outcome.out


def test_standard_input_and_compressed_files(program, fake, text):
    assert program("lattice", fake, stdin=gzip.compress(SLF.encode())).out == "u1\tthe cat\n"
    path = text(gzip.compress(SLF.replace("UTTERANCE=u1\n", "").encode()), "talk.slf.gz")
    assert program("lattice", fake, path).out == "talk\tthe cat\n"


def test_archives_of_kaldi(program, fake, text):
    lats, words = text(KALDI, "lats.txt"), text(WORDS, "words.txt")
    line = ["lattice", fake, lats, "--format", "kaldi", "--words", words]
    assert program(*line).out == "k1 dog\nk2 \n"
    assert program(*line, "--mix", "0").out == "k1 sat\nk2 \n"
    assert program(*line, "--output-format", "kaldi").out == (
        f"k1\n0\t1\t1\t{_cost(5)},10,5_5\n0\t2\t2\t{_cost(2)},10.5,\n1\t{_cost(1)},0,\n2\t{_cost(1)},0,\n\n"
        f"k2\n0\t{_cost(1)},1,\n\n"
    )
    outcome = program("lattice", fake, lats, "--format", "kaldi")
    assert outcome.err == "keraslm: k1: all words are integers; if they are those of a words.txt, add --words FILE\n"


def _cost(share):
    import numpy as np

    return f"{-float(np.float32(np.log(share / 21))):.9g}"


def test_several_lattices_go_into_a_folder(program, fake, text, tmp_path):
    folder = tmp_path / "new" / "out"
    (tmp_path / "in").mkdir()
    for name in ("a/b", "c"):
        (tmp_path / "in" / f"{name[-1]}.slf").write_text(SLF.replace("u1", name))
    outcome = program("lattice", fake, tmp_path / "in", "--output-format", "slf", "--output", folder)
    assert (outcome.code, outcome.out) == (0, "") and "its 2 files are read: b.slf, c.slf" in outcome.err
    assert sorted(path.name for path in folder.iterdir()) == ["a_b.slf", "c.slf"]
    assert program("lattice", fake, folder / "a_b.slf", "--mix", "0").out == "a/b\tthe cat\n"
    (tmp_path / "in" / "d.slf").write_text(SLF.replace("u1", "a_b"))
    outcome = program("lattice", fake, tmp_path / "in", "--output-format", "slf", "--output", folder)
    assert "Utterances 'a/b' and 'a_b' have the same file name, a_b.slf" in outcome.err
    outcome = program("lattice", fake, tmp_path / "in", "--output-format", "slf")
    assert "There are several lattices, but SLF has one per file: name a folder with --output." in outcome.err
    assert outcome.out == ""


def test_complete_lattices_before_a_fault_are_written(program, fake, slf, text, tmp_path):
    bad = text(SLF.replace("u1", "u2").replace("E=3", "E=4"), "bad.slf")
    outcome = program("lattice", fake, slf, bad)
    assert_refused(outcome, "bad.slf:11: E=4, but there is no node I=4")
    assert outcome.out == "u1\tthe cat\n"
    assert program("lattice", fake, slf, bad, "--output", tmp_path / "best.tsv").code == 2
    assert not (tmp_path / "best.tsv").exists()


def test_no_output_destroys_an_input(program, fake, slf, tmp_path):
    for flags in ([], ["--output-format", "kaldi"]):
        assert_refused(program("lattice", fake, slf, *flags, "--output", slf), "would overwrite the input")
    outcome = program("lattice", fake, slf, "--output-format", "slf", "--output", tmp_path)  # u1.slf is the input
    assert_refused(outcome, "u1.slf: this output would overwrite the input")
    assert slf.read_text() == SLF


def test_replaced_bytes_are_counted(program, fake, text):
    path = text(SLF.encode().replace(b"W=sat", b"W=s\xff"), "u1.slf")
    assert_refused(program("lattice", fake, path), "u1.slf:10:16: byte 0xff")
    outcome = program("lattice", fake, path, "--errors", "replace")
    assert outcome.err == f"keraslm: {path}: 1 lines contained invalid UTF-8, read as U+FFFD\n"
    latin = text(SLF.replace("W=cat", "W=\\344").encode("latin-1"), "latin.slf")
    assert program("lattice", fake, latin, "--encoding", "latin-1").out == "u1\tthe ä\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--nbest", "3", "--output-format", "slf"], "--nbest needs --output-format nbest, but it is slf."),
        (["--nbest", "0"], "--nbest is 0, but must be at least 1"),
        (["--words", "u1.slf"], "--words needs --format kaldi or --output-format kaldi."),
        (["--mix", "2"], "--mix is 2, but must be between 0 and 1."),
        (["--beam", "-1"], "--beam is -1, but must be 0 or more."),
        (["--recombine", "-1"], "--recombine is -1, but must be 0 or more."),
        (["--lm-scale", "nan"], "--lm-scale is nan, but must be a finite number."),
        (["--format", "kaldi"], "begins a lattice of HTK; read it with --format slf."),
        (["--format", "htk"], "htk"),
        (["--output-format", "slf", "--output", "u1.slf"], "--output is a folder"),
        (["--max-hypothesis", "3"], "--max-hypothesis"),
    ],
)
def test_wrong_use_is_refused(program, fake, slf, monkeypatch, flags, message):
    monkeypatch.chdir(slf.parent)
    assert_refused(program("lattice", fake, "u1.slf", *flags), message)
