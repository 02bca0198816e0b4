"""`keraslm filter`"""

from __future__ import annotations

import gzip
import json
import subprocess

import pytest

from tests.support.program import START, assert_refused, environment

DOCUMENTS = '{"id": 1, "text": "the cat sat"}\n{"id": 2, "text": null}\n{"id": 3, "text": "sat sat"}\n'


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "docs.jsonl.gz"
    path.write_bytes(gzip.compress(DOCUMENTS.encode()))
    return path


def test_documents_come_out_with_scores_and_counts_on_standard_error(program, fake, corpus):
    outcome = program("filter", fake, corpus)
    assert outcome.code == 0
    (first, second), lines = map(json.loads, outcome.out.splitlines()), outcome.err.splitlines()
    assert [*first] == ["id", "text", "perplexity", "bits_per_byte", "tokens"] and first["perplexity"] == round(
        21 / 24**0.25, 4
    )
    assert (second["id"], second["tokens"]) == (3, 3)
    assert lines[0] == "keraslm: 3 documents: 2 kept, 0 dropped, 1 without a text"
    assert lines[1] == "keraslm: perplexity: 9.49 (5%), 9.49 (25%), 9.49 (50%), 13.2 (75%), 13.2 (95%)"
    assert lines[2].startswith("keraslm: 7 tokens in ") and len(lines) == 3
    assert program("filter", fake, stdin=DOCUMENTS.encode()).out == outcome.out
    assert program("filter", fake, corpus, "--text-column", "text", "--workers", "2").out == outcome.out


def test_every_criterion_has_a_flag(program, fake, corpus):
    def ids(*flags):
        return [json.loads(line)["id"] for line in program("filter", fake, corpus, *flags).out.splitlines()]

    assert ids("--max-perplexity", "10") == ids("--keep", "0.5") == ids("--keep", "1", "--sample", "1") == [1]
    assert ids("--min-perplexity", "10") == [3]
    assert ids("--max-bits-per-byte", "1.2") == [1] and ids("--min-bits-per-byte", "1.2") == [3]
    outcome = program("filter", fake, corpus, "--bucket", "a,b,c", "--cutoffs", "9,10", "--label", "lm")
    assert [json.loads(line)["lm_bucket"] for line in outcome.out.splitlines()] == ["b", "c"]
    assert "keraslm: buckets: a 0, b 1, c 1; cutoffs 9,10\n" in outcome.err


def test_each_bucket_gets_a_file_and_the_histogram_a_picture(program, fake, corpus, tmp_path):
    pytest.importorskip("matplotlib")
    flags = ("--bucket", "low,high", "--output", tmp_path / "d.{bucket}.jsonl.gz", "--histogram", tmp_path / "h.png")
    outcome = program("filter", fake, corpus, *flags)
    assert (outcome.code, outcome.out) == (0, "")
    assert [len(gzip.decompress((tmp_path / f"d.{name}.jsonl.gz").read_bytes())) > 50 for name in ("low", "high")]
    assert (tmp_path / "h.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_errors_are_sentences(program, fake, corpus, tmp_path):
    assert_refused(program("filter", fake, corpus, "--field", "body"), "docs.jsonl.gz:1: no field 'body'")
    assert_refused(program("filter", fake, stdin=b"cat\n"), "standard input:1: not a JSON object", "--input-format")
    assert_refused(
        program("filter", fake, corpus, "--cutoffs", "3"), "--cutoffs divides buckets", "--bucket head,middle"
    )
    assert_refused(program("filter", fake, corpus, "--bucket", "a,b", "--cutoffs", "x"), "--cutoffs is 'x'")
    assert_refused(program("filter", fake, corpus, "--output", corpus), "this output would overwrite the input")
    assert_refused(program("filter", corpus, corpus), "docs.jsonl.gz")


def test_a_slow_stream_is_answered_at_once(fake):
    command = [*START, "filter", fake]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()) as process:
        process.stdin.write(DOCUMENTS.encode())
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == 1  # before the end of the input
        rest, _ = process.communicate()
    assert json.loads(rest)["id"] == 3 and process.returncode == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_closed_pipe_ends_the_filter(fake, tmp_path, workers):
    (tmp_path / "docs.jsonl").write_text(DOCUMENTS * 20_000)
    command = [*START, "filter", fake, tmp_path / "docs.jsonl", "--workers", workers]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, env=environment()) as process:
        assert json.loads(process.stdout.readline())["id"] == 1
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
