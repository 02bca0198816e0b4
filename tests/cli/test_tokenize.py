from collections import Counter

import pytest

import keraslm
from tests.support.program import assert_refused, strict_json
from tests.support.tiny import HELD_OUT, text_lines


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.txt").write_text("".join(f"{line}\n" for line in text_lines(80, seed=2)), encoding="utf-8")
    return tmp_path


def test_a_tokenizer_is_trained_saved_and_used(program, folder):
    line = ["tokenize", "--train", "train.txt", "--tokenizer", "bpe", "--vocab-size", "300", "--output", "tok.json"]
    outcome = program(*line)
    assert (outcome.code, outcome.err, outcome.out) == (0, "", "done      tok.json: 300 tokens\n")
    (folder / "text.txt").write_text("the cat\n\nzebra\n")
    rows = program("tokenize", "--with", "tok.json", "text.txt").out.splitlines()
    assert rows[0] == "sentence_id\ttokens\toovs\ttext"
    assert [row.split("\t")[0] for row in rows[1:]] == ["1", "2", "3"]
    assert rows[2] == "2\t1\t0\t<eos>"
    pieces = rows[3].split("\t")[3].split(" ")
    assert "".join(pieces[:-1]) == "zebra" and pieces[-1] == "<eos>"


def test_a_run_and_its_model_tokenize_in_the_same_way(program, tiny_run, tiny_model, tiny_folder):
    text = tiny_folder / "held-out.txt"
    by_run, by_model = (program("tokenize", "--with", path, text).out for path in (tiny_run.path, tiny_model))
    assert by_run == by_model
    assert by_run.splitlines()[3] == "3\t8\t1\ta <unk> saw 日本 and naïve fish <eos>"
    tokens = program("tokenize", "--with", tiny_run.path, text, "--level", "token").out.splitlines()
    assert tokens[0] == "sentence_id\ttoken_id\ttoken\tid"
    assert tokens[4] == f"1\t4\t<eos>\t{tiny_run.tokenizer.eos_id}"


def test_unknown_words_are_listed_by_count(program, tiny_run):
    flags = ("--with", tiny_run.path, "--level", "oovs")
    assert program("tokenize", *flags, stdin=b"the zebra saw a gnu\nzebra\n").out == "count\toov\n2\tzebra\n1\tgnu\n"


def test_the_summary_counts_as_the_evaluation_does(program, tiny_run, tiny_folder):
    text = tiny_folder / "held-out.txt"
    found = strict_json(program("tokenize", "--with", tiny_run.path, text, "--level", "summary", "--json").out)
    expected = keraslm.evaluate(tiny_run, text).to_dict()
    for name in ("lines", "words", "tokens", "characters", "bytes", "oovs"):
        assert found[name] == expected[name]
    words = Counter(word for line in HELD_OUT for word in line.split())
    assert found["tokens_per_word"] == 1.0 and found["words"] == words.total()
    assert found["oovs_per_token"] == pytest.approx(found["oovs"] / words.total())
    rows = program("tokenize", "--with", tiny_run.path, text, "--level", "summary").out.splitlines()
    assert rows[0].split() == ["vocabulary", str(tiny_run.tokenizer.vocab_size)]
    empty = strict_json(program("tokenize", "--with", tiny_run.path, "--level", "summary", "--json").out)
    assert empty["tokens"] == 0 and empty["tokens_per_word"] is None


def test_wrong_use_is_refused(program, folder, tiny_run):
    assert_refused(program("tokenize", "train.txt"), "No tokenizer: use --with RUN_OR_FILE, or --train TEXT")
    assert_refused(program("tokenize", "--with", "gone", "train.txt"), "gone: no such tokenizer")
    assert_refused(program("tokenize", "--with", tiny_run.path, "--train", "train.txt"), "leave out --train")
    assert_refused(program("tokenize", "--with", tiny_run.path, "train.txt", "--json"), "add --level summary")
    assert_refused(program("tokenize", "--train", "train.txt", "--tokenizer", "wrod"), "wrod: no such tokenizer")
    assert_refused(
        program("tokenize", "--train", "train.txt", "--output", "gone/tok.json"),
        "gone/tok.json: give the name of a file in a",
    )
