"""Trainings on several devices, each in a process of its own or, on torch, in one process per device.

    python -m tests.support.parallel DEVICES JOBS

JOBS is a JSON file with a list of jobs: `run`, a folder, `devices`, `config`, and perhaps `stop`, the epoch and the
window, from 0, after which SIGTERM stops it. JAX and TensorFlow divide the CPU into DEVICES devices, of which each job
uses some.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext, suppress
from itertools import groupby
from pathlib import Path
from typing import Any

from keraslm.system.ranks import local_environments

ROOT = Path(__file__).resolve().parents[2]


def main(devices: str, jobs: str) -> None:
    import keraslm
    from keraslm.config import Config
    from keraslm.errors import Interrupted
    from keraslm.system.backend import select_backend

    backend = os.environ["KERAS_BACKEND"]
    if backend != "torch":
        select_backend(backend, int(devices))
    from tests.support.resuming import signal_at  # imports Keras

    for job in json.loads(Path(jobs).read_text()):
        config = Config.from_dict(job["config"])
        stop = signal_at(*job["stop"], None) if job.get("stop") else nullcontext()
        with stop, suppress(Interrupted):
            keraslm.train(config, run=job["run"], devices=job["devices"], verbose=0, log=lambda _: None)


def run_jobs(jobs: list[dict[str, Any]], folder: Path, backend: str) -> None:
    """Run jobs in order: all of them in one process on JAX, elsewhere those in turn that have the same devices."""
    groups = groupby(jobs, key=lambda job: 0 if backend == "jax" else job["devices"])
    for number, group in enumerate(list(group) for _, group in groups):
        path = folder / f"jobs-{number}.json"
        path.write_text(json.dumps(group))
        count = max(job["devices"] for job in group)
        command = ["-m", "tests.support.parallel", str(count), str(path)]
        cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        finish(start(command, count if backend == "torch" else 1, **cache))


def start(arguments: list[str], processes: int = 1, **variables: str) -> list[subprocess.Popen[str]]:
    """Start Python in several processes, with the variables of torchrun if there is more than one."""
    started = []
    for place in local_environments(processes):
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | variables | place
        options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen([sys.executable, *arguments], env=environment, **options))
    return started


def finish(started: list[subprocess.Popen[str]]) -> list[str]:
    """Wait for processes that must succeed; their outputs."""
    try:
        outputs = [process.communicate(timeout=300)[0] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    for process, output in zip(started, outputs, strict=True):
        assert process.returncode == 0, output
    return outputs


if __name__ == "__main__":
    main(*sys.argv[1:])
