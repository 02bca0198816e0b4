"""Bulk scoring on a Dask cluster of this machine."""

from __future__ import annotations

import importlib.util
from functools import partial

import pytest

from keraslm.bulk.cluster import map_on_cluster
from keraslm.bulk.driver import score_files
from keraslm.errors import KeraslmError, MissingPackageError, ModelFileError, UsageError
from keraslm.report.options import ScoreOptions
from keraslm.system.processes import ProcessDiedError
from tests.support import fake_model
from tests.support.bulk import alone, begun, expected, obedient, outputs, temporaries
from tests.support.dying import square_or_die

needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="the package distributed is not installed"
)


@pytest.fixture
def cluster(watched):
    """Address of a scheduler with two processes that know the folder of `obedient`."""
    import dask
    from distributed import LocalCluster

    settings = {"distributed.scheduler.allowed-failures": 1}
    sizes = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
    with dask.config.set(settings), LocalCluster(**sizes, dashboard_address="127.0.0.1:0", silence_logs=50) as started:
        yield started.scheduler_address


@needs_dask
def test_a_cluster_writes_the_same_files_even_if_workers_are_killed(bulk_model, texts, tmp_path, watched, cluster):
    texts[4].write_bytes(b"the\xff\n")
    for name in ("die-d.txt", "poison-b.txt"):
        (watched / name).touch()
    lines = []
    arguments = {"scheduler": cluster, "write": obedient}
    result = score_files(bulk_model, texts, tmp_path / "out", ScoreOptions(), log=lines.append, **arguments)
    assert outputs(tmp_path / "out") == expected(bulk_model, [texts[0], *texts[2:4], texts[5]])
    assert begun(watched).count("d.txt") >= 2
    assert {outcome.failure for outcome in result.failed} == {*lines[:-1]}
    faulty, killing = sorted(lines[:-1], key=lambda line: "Dask" in line)
    assert faulty.startswith(f"{texts[4]}:1:4: byte 0xff is not valid UTF-8")
    assert killing == f"{texts[1]}: the Dask workers that scored it were lost, each time. Is there memory left?"
    assert temporaries(tmp_path / "out") == []

    texts[4].write_bytes(b"the cat\n")
    (watched / "poison-b.txt").unlink()
    before = begun(watched)
    result = score_files(bulk_model, texts, tmp_path / "out", ScoreOptions(), resume=True, **arguments)
    assert (result.finished, result.failed) == (4, ())
    assert begun(watched) == sorted([*before, "b.txt", "e.txt"])
    assert outputs(tmp_path / "out")["e.txt.tsv"] == alone(bulk_model, texts[4])

    other = fake_model.write(tmp_path / "other.onnx")
    score_files([bulk_model, other], texts[:1], tmp_path / "both", ScoreOptions(), scheduler=cluster)
    assert outputs(tmp_path / "both") == {f"{texts[0].name}.tsv": alone([bulk_model, other], texts[0])}

    damaged = fake_model.write(tmp_path / "model.onnx", info=fake_model.model_info(num_layers=2))
    with pytest.raises(ModelFileError, match="metadata say"):
        score_files(damaged, texts, tmp_path / "more", ScoreOptions(), **arguments)


@needs_dask
def test_answers_come_in_order_even_if_workers_are_killed(tmp_path, watched, cluster):
    (watched / "die-3").touch()
    work = partial(square_or_die, watched)
    assert [*map_on_cluster(work, range(30), cluster)] == [number**2 for number in range(30)]
    (watched / "poison-3").touch()
    found = map_on_cluster(work, range(30), cluster)
    with pytest.raises(ProcessDiedError, match="The Dask workers were lost, each time"):
        while True:
            next(found)


@needs_dask
def test_a_scheduler_that_does_not_answer_is_named(bulk_model, texts, tmp_path, monkeypatch):
    from keraslm.bulk import cluster

    monkeypatch.setattr(cluster, "_PATIENCE", 1)
    with pytest.raises(
        KeraslmError, match=r"tcp://127\.0\.0\.1:9: no Dask scheduler answers\. Start one with"
    ) as caught:
        score_files(bulk_model, texts, tmp_path / "out", ScoreOptions(), scheduler="tcp://127.0.0.1:9")
    assert caught.value.exit_code == 1
    with pytest.raises(UsageError, match="'nonsense://x' is no address of a Dask scheduler"):
        score_files(bulk_model, texts, tmp_path / "out", ScoreOptions(), scheduler="nonsense://x")
    with pytest.raises(UsageError, match="'host' is no address of a Dask scheduler"):
        score_files(bulk_model, texts, tmp_path / "out", ScoreOptions(), scheduler="host")


def test_a_missing_package_is_answered_with_the_pip_line(bulk_model, texts, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        MissingPackageError, match=r'`scheduler` needs .* distributed, .* pip install "keraslm\[cluster\]"'
    ):
        score_files(bulk_model, texts, tmp_path / "out", ScoreOptions(), scheduler="tcp://127.0.0.1:9")
