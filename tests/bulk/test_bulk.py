"""Bulk scoring of texts into a folder, and later jobs in the same folder."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from pathlib import Path

import pytest

from keraslm.bulk import driver
from keraslm.bulk.driver import BulkResult, score_files
from keraslm.bulk.job import Job, Outcome, score_shards
from keraslm.bulk.shards import Shard, groups, plan
from keraslm.errors import InputError, KeraslmError, ModelFileError, TextError, UsageError
from keraslm.report.options import ScoreOptions
from keraslm.report.writer import write_scores
from tests.support import fake_model
from tests.support.bulk import alone, begun, expected, obedient, outputs, score_here, temporaries


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Nothing here depends on which process scores a shard."""
    monkeypatch.setattr(driver, "score_in_processes", score_here)


@pytest.mark.parametrize(
    ("options", "ending"),
    [
        (ScoreOptions(level="sentence", context="document", lines_ahead=7), ".tsv"),
        (ScoreOptions(format="jsonl", columns=("token", "rank")), ".jsonl"),
        (ScoreOptions(level="summary", signature=True), ".tsv"),
        (ScoreOptions(format="srilm"), ".txt"),
    ],
)
def test_outputs_follow_the_options(bulk_model, texts, tmp_path, options, ending):
    score_files(bulk_model, texts, tmp_path / "out", options)
    assert outputs(tmp_path / "out") == {
        f"{path.name.removesuffix('.gz')}{ending}": alone(bulk_model, path, options) for path in texts
    }


def test_compressed_outputs_have_the_same_content_and_are_reproducible(bulk_model, texts, tmp_path):
    for folder in ("one", "two"):
        score_files(bulk_model, texts, tmp_path / folder, ScoreOptions(), gzip=True)
    found = outputs(tmp_path / "one")
    assert {name[:-3]: gzip.decompress(data) for name, data in found.items()} == expected(bulk_model, texts)
    assert outputs(tmp_path / "two") == found


def test_no_temporary_file_is_left_and_each_output_has_its_record(bulk_model, texts, tmp_path):
    score_files(bulk_model, texts, tmp_path / "out", ScoreOptions())
    names = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    scores = {f"{letter}.txt.tsv" for letter in "abcdef"}
    assert names == scores | {f"{name}.json" for name in scores}
    record = json.loads((tmp_path / "out" / ".keraslm" / "f.txt.tsv.json").read_text())
    assert (record["lines"], record["tokens"], record["replaced"]) == (3, 6, 0)
    assert record["text"]["bytes"] == texts[5].stat().st_size


def test_the_largest_text_starts_first(texts, tmp_path):
    assert [shard.output.name[0] for shard in plan(texts, tmp_path / "out", ".tsv")] == ["d", "a", "e", "b", "f", "c"]


@pytest.mark.parametrize(
    ("sizes", "processes", "lengths"),
    [
        ([9] * 6, 2, [1] * 6),
        ([9] * 400, 2, [25] * 16),
        ([9] * 10_000, 2, [32] * 312 + [16]),
        ([1 << 30, 1 << 18, 1 << 17, 1 << 17, *[9] * 12], 1, [1, 1, 2, 2, 2, 2, 2, 2, 2]),
    ],
)
def test_small_shards_are_grouped_in_order(sizes, processes, lengths):
    shards = [Shard(str(number), Path("a"), Path("b"), size) for number, size in enumerate(sizes)]
    found = groups(shards, processes)
    assert [len(group) for group in found] == lengths
    assert [shard for group in found for shard in group] == shards


def test_a_group_of_shards_is_finished_except_for_a_faulty_text(bulk_model, texts, tmp_path):
    texts[1].write_bytes(b"the\xff\n")
    (tmp_path / "out" / ".keraslm").mkdir(parents=True)
    job = Job(((bulk_model, hashlib.sha256(bulk_model.read_bytes()).hexdigest()),), ScoreOptions())
    shards = plan(texts, tmp_path / "out", ".tsv")
    found = score_shards(job, shards)
    assert [outcome.shard for outcome in found] == shards
    assert [outcome.shard.text for outcome in found if outcome.failure] == [texts[1]]
    assert outputs(tmp_path / "out") == expected(bulk_model, [texts[0], *texts[2:]])
    assert all(
        (shard.record.exists(), shard.output.exists()) == (True, True) for shard in shards if shard.text != texts[1]
    )
    assert temporaries(tmp_path / "out") == [] and not (tmp_path / "out" / ".keraslm" / "b.txt.tsv.json").exists()


def test_a_pattern_is_expanded(texts, tmp_path):
    found = plan([str(tmp_path / "[ab].txt")], tmp_path / "out", ".tsv")
    assert [shard.output.name for shard in found] == ["a.txt.tsv", "b.txt.tsv"]


def test_texts_with_the_same_name_are_refused_before_anything_is_written(bulk_model, texts, tmp_path):
    other = tmp_path / "more"
    other.mkdir()
    (other / "a.txt.gz").write_bytes(gzip.compress(b"the\n"))
    with pytest.raises(UsageError, match=r"a\.txt and .*more/a\.txt\.gz would both be scored into .*out/a\.txt\.tsv"):
        score_files(bulk_model, [texts[0], other / "a.txt.gz"], tmp_path / "out", ScoreOptions())
    with pytest.raises(UsageError, match="Give each text once"):
        score_files(bulk_model, [texts[0], texts[0]], tmp_path / "out", ScoreOptions())
    assert not (tmp_path / "out").exists()


def test_a_text_is_not_overwritten_by_scores(bulk_model, tmp_path):
    for name in ("a", "a.tsv"):
        (tmp_path / name).write_text("the\n")
    with pytest.raises(UsageError, match=r"a\.tsv is a text and would be overwritten"):
        score_files(bulk_model, [tmp_path / "a", tmp_path / "a.tsv"], tmp_path, ScoreOptions(), overwrite=True)
    assert (tmp_path / "a.tsv").read_text() == "the\n"


@pytest.mark.parametrize(
    ("files", "error", "words"),
    [
        ([], UsageError, "No texts to score"),
        (["-"], UsageError, "Standard input cannot be scored into a folder"),
        (["gone.txt"], TextError, r"gone\.txt: cannot be read \(No such file"),
        (["gone*.txt"], TextError, r"gone\*\.txt: no file matches"),
        (["pipe"], UsageError, "pipe is no plain file, but a shard is read more than once"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(
    bulk_model, texts, tmp_path, monkeypatch, files, error, words
):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with pytest.raises(error, match=words):
        score_files(bulk_model, files, tmp_path / "out", ScoreOptions())
    with pytest.raises(UsageError, match="`workers` is 0, but must be at least 1"):
        score_files(bulk_model, texts, tmp_path / "out", ScoreOptions(), workers=0)
    with pytest.raises(ModelFileError, match="it looks like a text"):
        score_files(texts[0], texts, tmp_path / "out", ScoreOptions())
    assert not (tmp_path / "out").exists()


def test_a_model_file_that_changed_during_the_job_is_refused(bulk_model, texts, tmp_path):
    shard = plan(texts[:1], tmp_path, ".tsv")[0]
    with pytest.raises(ModelFileError, match="the file has changed since the job began"):
        score_shards(Job(((bulk_model, "0" * 64),), ScoreOptions()), [shard])


def test_existing_outputs_are_replaced_only_with_overwrite(bulk_model, texts, tmp_path):
    score_files(bulk_model, texts, tmp_path / "out", ScoreOptions())
    before, options = outputs(tmp_path / "out"), ScoreOptions(level="sentence")
    with pytest.raises(UsageError, match=r"\.tsv exists\. Pass `resume=True` .* `overwrite=True`"):
        score_files(bulk_model, texts, tmp_path / "out", options)
    assert outputs(tmp_path / "out") == before
    assert score_files(bulk_model, texts, tmp_path / "out", options, overwrite=True).finished == 0
    assert outputs(tmp_path / "out")["a.txt.tsv"] == alone(bulk_model, texts[0], options)


def test_resume_scores_only_new_texts(bulk_model, texts, tmp_path, watched):
    score_files(bulk_model, texts[:2], tmp_path / "out", ScoreOptions(), write=obedient)
    result = score_files(bulk_model, texts, tmp_path / "out", ScoreOptions(), write=obedient, resume=True)
    assert (result.finished, len(result.outcomes)) == (2, 4)
    assert begun(watched) == sorted(path.name for path in texts)
    assert outputs(tmp_path / "out") == expected(bulk_model, texts)
    for path in (*texts, *(tmp_path / "out").iterdir()):
        os.utime(path, (1, 1))  # copies may have other times
    lines, options = [], ScoreOptions()
    result = score_files(bulk_model, texts, tmp_path / "out", options, write=obedient, resume=True, log=lines.append)
    assert (result.finished, result.outcomes, len(begun(watched))) == (6, (), 6)
    assert lines == [str(result)] and lines[0].startswith("0 shards, 6 finished before; 0 tokens in ")


def assert_refused_to_resume(words, model, texts, folder, options=None, **arguments):
    before = outputs(folder)
    with pytest.raises(UsageError, match=words):
        score_files(model, texts, folder, options or ScoreOptions(), resume=True, **arguments)
    assert outputs(folder) == before


def test_resume_with_different_settings_is_refused_with_the_difference(bulk_model, texts, tmp_path):
    folder, other = tmp_path / "out", fake_model.write(tmp_path / "other.onnx")
    score_files(bulk_model, texts[:1], folder, ScoreOptions())
    assert_refused_to_resume("made of something else: model [0-9a-f]{12}…, now [0-9a-f]{12}…", other, texts, folder)
    changed = ScoreOptions(level="sentence", columns=("tokens", "oovs"))
    assert_refused_to_resume(
        "level token, now sentence; columns none, now tokens,oovs", bulk_model, texts, folder, changed
    )
    assert_refused_to_resume("errors strict, now replace", bulk_model, texts, folder, errors="replace")
    texts[0].write_text("the cat sat\n")
    assert_refused_to_resume(r"a different .*a\.txt\. Resume with the same settings", bulk_model, texts, folder)
    (folder / ".keraslm" / "a.txt.tsv.json").write_text("[]")
    assert_refused_to_resume("its record is damaged", bulk_model, texts, folder)


def test_records_of_earlier_versions_still_fit(bulk_model, texts, tmp_path):
    score_files(bulk_model, texts, tmp_path / "out", ScoreOptions())
    settings = json.loads((tmp_path / "out" / ".keraslm" / "f.txt.tsv.json").read_text())["settings"]
    options = {"level", "format", "columns", "base", "unk", "context", "lines_ahead", "spaces", "signature"}
    assert settings.keys() == options | {"model", "errors", "gzip"}


def test_resume_with_a_different_list_of_frequencies_is_refused(bulk_model, texts, tmp_path):
    counts = tmp_path / "counts.tsv"
    counts.write_text("the\t3\n")
    options = ScoreOptions(level="word", columns=("word", "frequency"), frequencies=str(counts))
    score_files(bulk_model, texts, tmp_path / "out", options)
    assert score_files(bulk_model, texts, tmp_path / "out", options, resume=True).finished == len(texts)
    counts.write_text("the\t3\ncat\t1\n")
    assert_refused_to_resume(
        "frequencies [0-9a-f]{12}…, now [0-9a-f]{12}…", bulk_model, texts, tmp_path / "out", options
    )


@pytest.mark.parametrize("arguments", [{}, {"resume": True}, {"overwrite": True}, {"resume": True, "overwrite": True}])
def test_a_file_without_a_record_is_not_replaced(bulk_model, texts, tmp_path, arguments):
    """The folder may hold files of somebody else."""
    (tmp_path / "a.txt.tsv").write_text("mine\n")
    with pytest.raises(UsageError, match=r"a\.txt\.tsv exists and was not written by an earlier job: it has no record"):
        score_files(bulk_model, texts, tmp_path, ScoreOptions(), **arguments)
    assert (tmp_path / "a.txt.tsv").read_text() == "mine\n" and not (tmp_path / "b.txt.tsv").exists()


def test_resume_with_overwrite_repeats_outputs_of_changed_texts(bulk_model, texts, tmp_path, watched):
    score_files(bulk_model, texts[:3], tmp_path / "out", ScoreOptions(), write=obedient)
    texts[1].write_text("the cat sat\n")
    arguments = {"resume": True, "overwrite": True, "write": obedient}
    assert score_files(bulk_model, texts[:3], tmp_path / "out", ScoreOptions(), **arguments).finished == 2
    assert begun(watched) == ["a.txt", "b.txt", "b.txt", "c.txt"]
    assert outputs(tmp_path / "out")["b.txt.tsv"] == alone(bulk_model, texts[1])


@pytest.mark.parametrize("damage", ["bit", "cut", "gone"])
def test_resume_repairs_a_damaged_output(bulk_model, texts, tmp_path, damage):
    score_files(bulk_model, texts, tmp_path / "out", ScoreOptions())
    before, path = outputs(tmp_path / "out"), tmp_path / "out" / "a.txt.tsv"
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(data[:-9])
    else:
        data[50] ^= 1
        path.write_bytes(data)
    assert score_files(bulk_model, texts, tmp_path / "out", ScoreOptions(), resume=True).finished == 5
    assert outputs(tmp_path / "out") == before


def test_only_abandoned_temporary_files_are_removed(bulk_model, texts, tmp_path):
    side = tmp_path / "out" / ".keraslm"
    side.mkdir(parents=True)
    abandoned = [side.parent / ".a.txt.tsv.x1_y2z3w.keraslm", side / ".a.txt.tsv.json.abcdefgh.keraslm"]
    names = (".a.txt.tsv", ".notes.txt", ".a.txt.tsv.abcdefgh", ".a.txt.tsv.swp", ".z.txt.tsv.abcdefgh.keraslm")
    others = [side.parent / name for name in names]
    for path in (*abandoned, *others):
        path.touch()
    score_files(bulk_model, texts, tmp_path / "out", ScoreOptions(), resume=True)
    assert [path.exists() for path in (*abandoned, *others)] == [False, False, *[True] * 5]


def test_a_text_that_changes_while_it_is_scored_gets_no_output(bulk_model, texts, tmp_path):
    def growing(*arguments, **named):
        write_scores(*arguments, **named)
        texts[0].write_text("the cat\n")

    result = score_files(bulk_model, texts[:1], tmp_path / "out", ScoreOptions(), write=growing)
    assert [outcome.failure for outcome in result.failed] == [f"{texts[0]}: changed while it was scored."]
    assert outputs(tmp_path / "out") == {}


def test_replaced_lines_are_counted_for_each_text(bulk_model, texts, tmp_path):
    texts[1].write_bytes(b"the \xff\ncat\n\xfe\n")
    lines = []
    result = score_files(bulk_model, texts[:3], tmp_path / "out", ScoreOptions(), errors="replace", log=lines.append)
    assert lines[:-1] == [f"{texts[1]}: 2 lines contained invalid UTF-8, read as U+FFFD"]
    assert sum(outcome.replaced for outcome in result.outcomes) == 2
    assert outputs(tmp_path / "out")["b.txt.tsv"] == alone(bulk_model, texts[1])


def test_the_result_is_described_in_one_line():
    shard = Shard("a", Path("/a"), Path("/out/a.tsv"), 1)
    done = Outcome(shard, 2, 3000)
    assert str(BulkResult((done,), 0, 2.0)) == "1 shard; 3,000 tokens in 2.0 s, 1,500 tokens per second"
    failed = Outcome(shard, failure="a: bad.", exit_code=2)
    assert str(BulkResult((failed,), 2, 1.0)).startswith("0 shards, 2 finished before, 1 failed; 0 tokens in 1.0 s")
    assert str(BulkResult((), 2, 0.0)) == "0 shards, 2 finished before; 0 tokens in 0.0 s, 0 tokens per second"


def test_failures_are_listed_in_one_error():
    shard = Shard("a", Path("/a"), Path("/out/a.tsv"), 1)
    text, process = Outcome(shard, failure="a: bad.", exit_code=2), Outcome(shard, failure="b: dead.", exit_code=1)
    BulkResult((Outcome(shard),), 0, 1.0).check()
    with pytest.raises(InputError, match=r"^1 of 3 shards failed, the others are finished:\n  a: bad\.$"):
        BulkResult((text, Outcome(shard)), 1, 1.0).check()
    with pytest.raises(KeraslmError, match="b: dead") as caught:
        BulkResult((text, process), 0, 1.0).check()
    assert caught.value.exit_code == 1
