"""Bulk scoring with processes that are killed or interrupted, and with faulty texts and disks."""

from __future__ import annotations

import errno
import multiprocessing.spawn
import os
import resource
import signal

import pytest

from keraslm.bulk.driver import score_files
from keraslm.errors import KeraslmError, ModelFileError
from keraslm.report.options import ScoreOptions
from tests.support import fake_model
from tests.support.bulk import begun, driver, expected, is_running, obedient, outputs, temporaries, wait_until

fcntl = pytest.importorskip("fcntl", reason="Windows has no flock")


@pytest.mark.parametrize("workers", [1, 3])
def test_outputs_are_those_of_one_process(bulk_model, texts, tmp_path, workers):
    result = score_files(bulk_model, texts, tmp_path / "out", ScoreOptions(), workers=workers)
    wanted = expected(bulk_model, texts)
    assert outputs(tmp_path / "out") == wanted
    assert result.tokens == sum(data.count(b"\n") - 1 for data in wanted.values())
    assert (result.lines, result.finished, result.failed) == (136, 0, ())


def test_a_model_that_the_workers_cannot_open_ends_the_job(texts, tmp_path):
    model = tmp_path / "model.onnx"
    fake_model.write(model, info=fake_model.model_info(num_layers=2))  # the checksum is right, the metadata are not
    with pytest.raises(ModelFileError, match="metadata say"):
        score_files(model, texts, tmp_path / "out", ScoreOptions(), workers=2)
    assert outputs(tmp_path / "out") == {}


def test_a_killed_worker_is_replaced_and_only_its_shard_is_repeated(bulk_model, texts, tmp_path, watched):
    for name in ("d.txt", "e.txt"):
        (watched / f"die-{name}").touch()
    result = score_files(bulk_model, texts, tmp_path / "out", ScoreOptions(), workers=2, write=obedient)
    assert result.failed == ()
    assert begun(watched) == sorted([*(path.name for path in texts), "d.txt", "e.txt"])
    assert outputs(tmp_path / "out") == expected(bulk_model, texts)
    assert temporaries(tmp_path / "out") == []


def test_a_shard_that_kills_every_worker_fails_with_its_name(bulk_model, texts, tmp_path, watched):
    (watched / "poison-a.txt").touch()
    lines = []
    result = score_files(bulk_model, texts, tmp_path / "out", ScoreOptions(), write=obedient, log=lines.append)
    assert begun(watched).count("a.txt") == 3
    assert f"{texts[0]}: The process was killed by SIGKILL, 3 times. Is there memory left?" in lines
    assert outputs(tmp_path / "out") == expected(bulk_model, texts[1:])
    assert temporaries(tmp_path / "out") == []
    with pytest.raises(KeraslmError, match="1 of 6 shards failed") as caught:
        result.check()
    assert caught.value.exit_code == 1


def test_the_group_of_a_shard_that_kills_every_worker_is_scored_without_it(bulk_model, tmp_path, watched):
    texts = [tmp_path / f"{number}.txt" for number in range(10, 27)]
    for text in texts:
        text.write_text("the cat sat\n" * 4)
    (watched / "poison-13.txt").touch()
    result = score_files(bulk_model, texts, tmp_path / "out", ScoreOptions(), write=obedient)
    assert begun(watched).count("13.txt") == 6  # three times in a group of two, three times alone
    assert begun(watched).count("12.txt") == 4
    assert [outcome.shard.text.name for outcome in result.failed] == ["13.txt"]
    assert outputs(tmp_path / "out") == expected(bulk_model, [text for text in texts if text.name != "13.txt"])
    assert temporaries(tmp_path / "out") == []


def test_processes_that_die_for_every_shard_end_the_job(bulk_model, texts, tmp_path, monkeypatch):
    multiprocessing.resource_tracker.ensure_running()
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", b"/bin/false")
    with pytest.raises(KeraslmError, match=r"2 shards in a row cannot be scored\. The process ended with code 1"):
        score_files(bulk_model, texts, tmp_path / "out", ScoreOptions())


def test_a_file_system_without_locks_is_reported_and_used(bulk_model, texts, tmp_path, monkeypatch):
    def no_locks(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    lines = []
    score_files(bulk_model, texts, tmp_path / "out", ScoreOptions(), log=lines.append)
    assert "this file system has no locks" in lines[0]
    assert outputs(tmp_path / "out") == expected(bulk_model, texts)


def test_a_faulty_text_does_not_stop_the_others(bulk_model, texts, tmp_path):
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


@pytest.mark.parametrize(("name", "reason"), [("file/out", "Not a directory"), ("out", "Is a directory")])
def test_outputs_that_cannot_be_written_end_the_job(bulk_model, texts, tmp_path, name, reason):
    (tmp_path / "file").touch()
    for folder in ("a.txt.tsv", ".keraslm/a.txt.tsv.json"):
        (tmp_path / "out" / folder).mkdir(parents=True)
    with pytest.raises(KeraslmError, match=rf"{name} cannot be written \({reason}\)") as caught:
        score_files(bulk_model, texts[:1], tmp_path / name, ScoreOptions(), overwrite=True)
    assert caught.value.exit_code == 1 and temporaries(tmp_path / "out") == []


def test_a_full_disk_ends_the_job_and_leaves_complete_files_only(bulk_model, texts, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    complete = expected(bulk_model, texts)
    room = len(complete["a.txt.tsv"]) - 1  # too little for a.txt and d.txt
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(KeraslmError, match=r"cannot be written \(File too large\)\. .*`resume=True`") as caught:
            score_files(bulk_model, texts, tmp_path / "out", ScoreOptions())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.exit_code == 1
    assert outputs(tmp_path / "out").items() <= complete.items()
    assert temporaries(tmp_path / "out") == []
    score_files(bulk_model, texts, tmp_path / "out", ScoreOptions(), resume=True)
    assert outputs(tmp_path / "out") == complete


def held_at(model, texts, folder, watched, name, **arguments):
    """A driver whose worker waits in the middle of a text, and the number of that worker."""
    (watched / f"hold-{name}").touch()
    process = driver(model, texts, folder, watched, **arguments)
    wait_until((watched / f"held-{name}").exists)
    return process, int((watched / f"held-{name}").read_text())


# Largest first: d, a, e, b, f, c.
@pytest.mark.parametrize(("name", "finished"), [("d.txt", 0), ("e.txt", 2), ("f.txt.gz", 4)])
def test_a_killed_driver_leaves_finished_files_and_resume_does_the_rest(
    bulk_model, texts, tmp_path, watched, name, finished
):
    process, worker = held_at(bulk_model, texts, tmp_path / "out", watched, name, workers=1)
    process.kill()
    process.communicate()
    wait_until(lambda: not is_running(worker))
    assert sum(not name.startswith(".") for name in outputs(tmp_path / "out")) == finished
    assert len(temporaries(tmp_path / "out")) == 1
    (watched / f"hold-{name}").unlink()
    result = score_files(bulk_model, texts, tmp_path / "out", ScoreOptions(), workers=2, resume=True, write=obedient)
    assert result.finished == finished
    assert outputs(tmp_path / "out") == expected(bulk_model, texts)
    assert begun(watched) == sorted([*(path.name for path in texts), name])


@pytest.mark.parametrize(
    ("moment", "finished"),
    [(1, 1), (2, 1), (3, 2)],
    ids=["before the record", "between record and output", "after the output"],
)
def test_a_shard_is_finished_once_its_output_is_in_place(bulk_model, texts, tmp_path, watched, moment, finished):
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


def test_ctrl_c_in_a_terminal_reaches_the_workers_too_and_changes_nothing(bulk_model, texts, tmp_path, watched):
    process, worker = held_at(bulk_model, texts, tmp_path / "out", watched, "d.txt")
    os.kill(worker, signal.SIGINT)
    (watched / "hold-d.txt").unlink()
    assert process.communicate() == (None, "")
    assert outputs(tmp_path / "out") == expected(bulk_model, texts)


def test_two_jobs_do_not_score_into_one_folder(bulk_model, texts, tmp_path, watched):
    process, _ = held_at(bulk_model, texts, tmp_path / "out", watched, "d.txt")
    second = driver(bulk_model, texts, tmp_path / "out", watched, resume=True)
    _, error = second.communicate()
    assert second.returncode == 2
    assert error.startswith(f"{tmp_path / 'out'} is locked by process {process.pid} on host ")
    assert error.endswith("Wait for it, or choose a different `output`.\n")
    (watched / "hold-d.txt").unlink()
    process.communicate()
    assert process.returncode == 0
    assert outputs(tmp_path / "out") == expected(bulk_model, texts)
