"""A filter in several processes or on a Dask cluster: the bytes are the same, and processes may die."""

from __future__ import annotations

import importlib.util
import multiprocessing.spawn
import os
import signal

import pytest

from keraslm.errors import KeraslmError, ModelFileError
from keraslm.filtering.criteria import Criteria
from keraslm.filtering.driver import filter_documents
from tests.support import fake_model


@pytest.fixture
def filtered(bulk_model, corpus, tmp_path):
    def call(**arguments):
        filter_documents(bulk_model, [corpus], tmp_path / "out.jsonl", Criteria(keep=0.6, sample=30), **arguments)
        return (tmp_path / "out.jsonl").read_bytes()

    return call


def test_the_output_does_not_depend_on_the_number_of_processes(filtered):
    one = filtered()
    assert one.count(b"\n") > 60
    assert filtered(workers=2) == filtered(workers=3) == one


def test_a_killed_process_is_replaced(filtered):
    def kill(judged):
        if judged.document.record.where.endswith(":20"):
            for process in multiprocessing.active_children():
                os.kill(process.pid, signal.SIGKILL)

    assert filtered(workers=2, seen=kill) == filtered()
    assert multiprocessing.active_children() == []


def test_documents_that_kill_every_process_are_named(filtered, tmp_path, monkeypatch):
    multiprocessing.resource_tracker.ensure_running()
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", b"/bin/false")
    with pytest.raises(
        KeraslmError, match=r"docs\.jsonl:1: this document cannot be scored\. The process ended with code 1, 3 times"
    ) as caught:
        filtered(workers=2)
    assert caught.value.exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["docs.jsonl"]


def test_a_model_that_the_processes_cannot_open_is_named(corpus, tmp_path):
    model = fake_model.write(tmp_path / "model.onnx", info=fake_model.model_info(num_layers=2))
    for workers in (1, 2):
        with pytest.raises(ModelFileError, match="metadata say"):
            filter_documents(model, [corpus], tmp_path / "out", workers=workers)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="the package distributed is not installed")
def test_a_cluster_gives_the_same(filtered, tmp_path):
    import dask
    from distributed import LocalCluster

    settings = {"distributed.scheduler.allowed-failures": 1, "distributed.comm.timeouts.connect": "2s"}
    sizes = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
    with dask.config.set(settings), LocalCluster(**sizes, dashboard_address="127.0.0.1:0", silence_logs=50) as started:
        killed = []

        def kill(judged):
            if not killed:
                killed.extend(worker.process.pid for worker in [*started.workers.values()][:1])
                os.kill(killed[0], signal.SIGKILL)

        assert filtered(scheduler=started.scheduler_address, seen=kill) == filtered()
