"""Bulk scoring by processes that are killed, interrupted, and out of room."""

from __future__ import annotations

import errno
import fcntl
import resource
import signal
import sys
from pathlib import Path

import pytest

from keraslm.bulk.driver import score_files
from keraslm.errors import KeraslmError, ModelFileError
from keraslm.report.options import ScoreOptions
from tests.support import fake_model
from tests.support.bulk import alone, begun, driver, is_running, obedient, outputs, wait_until


def expected(model, texts) -> dict[str, bytes]:
    return {f"{path.name.removesuffix('.gz')}.tsv": alone(model, path) for path in texts}


def temporaries(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*.*") if path.is_file()]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_outputs_are_what_one_process_writes(bulk_model, texts, tmp_path, workers):
    result = score_files(bulk_model, texts, tmp_path / "out", ScoreOptions(), workers=workers)
    expected = {f"{path.name.removesuffix('.gz')}.tsv": alone(bulk_model, path) for path in texts}
    assert outputs(tmp_path / "out") == expected
    assert result.tokens == sum(data.count(b"\n") - 1 for data in expected.values())
    assert (result.lines, result.finished, result.failed) == (136, 0, ())


def test_a_model_that_the_workers_cannot_open_ends_the_job(texts, tmp_path):
    model = tmp_path / "model.onnx"
    fake_model.write(model, info=fake_model.model_info(num_layers=2))  # its checksum fits, its metadata do not
    with pytest.raises(ModelFileError, match="metadata say"):
        score_files(model, texts, tmp_path / "out", ScoreOptions(), workers=2)
    assert outputs(tmp_path / "out") == {}


def test_a_worker_that_is_killed_is_replaced_and_its_shard_done_again(bulk_model, texts, tmp_path, watched):
    for name in ("d.txt", "e.txt"):
        (watched / f"die-{name}").touch()
    result = score_files(bulk_model, texts, tmp_path / "out", ScoreOptions(), workers=2, write=obedient)
    assert result.failed == ()
    assert begun(watched) == sorted([*(path.name for path in texts), "d.txt", "e.txt"])
    assert outputs(tmp_path / "out") == expected(bulk_model, texts)
    assert temporaries(tmp_path / "out") == []


def test_a_shard_that_kills_every_worker_fails_with_its_name(bulk_model, texts, tmp_path, watched):
    (watched / "poison-a.txt").touch()
    said = []
    result = score_files(
        bulk_model, texts, tmp_path / "out", ScoreOptions(), workers=1, write=obedient, log=said.append
    )
    assert begun(watched).count("a.txt") == 3
    assert f"{texts[0]}: the process that scored it was killed by SIGKILL, 3 times. Is there memory left?" in said
    assert outputs(tmp_path / "out") == expected(bulk_model, [texts[1], *texts[2:]])
    assert temporaries(tmp_path / "out") == []
    with pytest.raises(KeraslmError, match="1 of 6 shards failed") as caught:
        result.check()
    assert caught.value.exit_code == 1


def test_processes_that_end_whatever_they_score_end_the_job(bulk_model, texts, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(KeraslmError, match="6 scoring processes in a row ended with code 1"):
        score_files(bulk_model, texts, tmp_path / "out", ScoreOptions(), workers=1)


def test_processes_that_cannot_be_started_end_the_job(bulk_model, texts, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
    with pytest.raises(KeraslmError, match=r"A scoring process cannot be started \(.*gone.*\)\. Try fewer --workers"):
        score_files(bulk_model, texts, tmp_path / "out", ScoreOptions(), workers=2)


def test_a_folder_that_cannot_be_locked_is_an_error_of_the_run(bulk_model, texts, tmp_path, monkeypatch):
    def no_locks(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(KeraslmError, match=r"out cannot be written \(No locks available\)"):
        score_files(bulk_model, texts, tmp_path / "out", ScoreOptions())


def test_a_folder_in_the_place_of_an_output_ends_the_job(bulk_model, texts, tmp_path):
    (tmp_path / "out" / "a.txt.tsv").mkdir(parents=True)
    with pytest.raises(KeraslmError, match=r"out cannot be written \(Is a directory\)"):
        score_files(bulk_model, texts[:1], tmp_path / "out", ScoreOptions(), overwrite=True)
    assert temporaries(tmp_path / "out") == []


def test_faulty_texts_fail_alone(bulk_model, texts, tmp_path):
    texts[0].write_bytes(b"the cat\nthe\xff\n")
    texts[5].write_bytes(texts[5].read_bytes()[:-9])
    process = driver(bulk_model, texts, tmp_path / "out", tmp_path, workers=2)
    _, error = process.communicate()
    assert process.returncode == 2
    assert error.startswith("2 of 6 shards failed, the others are finished:\n")
    assert f"\n  {texts[0]}:2:4: byte 0xff is not valid UTF-8" in error
    assert f"\n  {texts[5]}: the gzip data are damaged or cut short" in error
    assert outputs(tmp_path / "out") == expected(bulk_model, texts[1:5])
    assert temporaries(tmp_path / "out") == []


def test_a_folder_that_cannot_be_made_is_an_error_of_the_run(bulk_model, texts, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(KeraslmError, match=r"file/out cannot be written \(Not a directory\)") as caught:
        score_files(bulk_model, texts, tmp_path / "file" / "out", ScoreOptions())
    assert caught.value.exit_code == 1


def test_a_full_disk_ends_the_job_and_leaves_whole_files_alone(bulk_model, texts, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    whole = expected(bulk_model, texts)
    room = len(whole["a.txt.tsv"]) - 1  # too little for a.txt and d.txt
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(KeraslmError, match=r"out cannot be written \(File too large\)\. .* --resume") as caught:
            score_files(bulk_model, texts, tmp_path / "out", ScoreOptions())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.exit_code == 1
    assert outputs(tmp_path / "out").items() <= whole.items()
    assert temporaries(tmp_path / "out") == []
    score_files(bulk_model, texts, tmp_path / "out", ScoreOptions(), resume=True)
    assert outputs(tmp_path / "out") == whole


def held_at(model, texts, folder, watched, name, **arguments):
    """A driver whose workers stand still in the middle of some texts, and the numbers of those workers."""
    (watched / f"hold-{name}").touch()
    process = driver(model, texts, folder, watched, **arguments)
    wait_until((watched / f"held-{name}").exists)
    return process, int((watched / f"held-{name}").read_text())


# Largest first: d, a, e, b, f, c.
@pytest.mark.parametrize("name", ["d.txt", "e.txt", "f.txt.gz"])
def test_a_killed_driver_leaves_what_is_finished_and_resume_does_the_rest(bulk_model, texts, tmp_path, watched, name):
    process, worker = held_at(bulk_model, texts, tmp_path / "out", watched, name, workers=1)
    process.kill()
    process.communicate()
    wait_until(lambda: not is_running(worker))
    done = outputs(tmp_path / "out")
    done = {name: data for name, data in done.items() if not name.startswith(".")}
    assert len(done) == {"d.txt": 0, "e.txt": 2, "f.txt.gz": 4}[name]
    assert len(temporaries(tmp_path / "out")) == 1
    (watched / f"hold-{name}").unlink()
    result = score_files(bulk_model, texts, tmp_path / "out", ScoreOptions(), workers=2, resume=True, write=obedient)
    assert result.finished == len(done)
    assert outputs(tmp_path / "out") == expected(bulk_model, texts)
    assert begun(watched) == sorted([*(path.name for path in texts), name])


@pytest.mark.parametrize(
    ("moment", "finished"),
    [(1, 1), (2, 1), (3, 2)],
    ids=["before the record", "between record and output", "after the output"],
)
def test_a_shard_counts_as_finished_from_one_moment_on(bulk_model, texts, tmp_path, watched, moment, finished):
    (watched / "commit-a.txt").write_text(str(moment))  # the second of the texts
    process = driver(bulk_model, texts, tmp_path / "out", watched)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / "out" / ".keraslm" / "a.txt.tsv.json").exists() == (moment > 1)
    assert (tmp_path / "out" / "a.txt.tsv").exists() == (moment > 2)
    result = score_files(bulk_model, texts, tmp_path / "out", ScoreOptions(), resume=True, write=obedient)
    assert result.finished == finished
    assert outputs(tmp_path / "out") == expected(bulk_model, texts)
    assert temporaries(tmp_path / "out") == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_driver_ends_its_workers_and_cleans_up(bulk_model, texts, tmp_path, watched, number, code):
    process, worker = held_at(bulk_model, texts, tmp_path / "out", watched, "e.txt", workers=2)
    process.send_signal(number)
    _, error = process.communicate()
    assert (process.returncode, error) == (code, "")
    assert not is_running(worker)
    assert temporaries(tmp_path / "out") == []
    assert outputs(tmp_path / "out").items() <= expected(bulk_model, texts).items()


def test_two_jobs_do_not_score_into_one_folder(bulk_model, texts, tmp_path, watched):
    process, _ = held_at(bulk_model, texts, tmp_path / "out", watched, "d.txt")
    second = driver(bulk_model, texts, tmp_path / "out", watched, resume=True)
    _, error = second.communicate()
    assert second.returncode == 2
    assert error == (
        f"{tmp_path / 'out'} is locked by another keraslm that scores into it. Wait for it, or choose another "
        "--output.\n"
    )
    (watched / "hold-d.txt").unlink()
    process.communicate()
    assert process.returncode == 0
    assert outputs(tmp_path / "out") == expected(bulk_model, texts)
