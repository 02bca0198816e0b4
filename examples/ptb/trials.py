"""Run many training runs, each in a process of its own, and record each result once.

A trial is a name, a seed and the flags of `keraslm train`. The record holds one JSON object per line. A trial whose
name, seed and flags are recorded does not run again, so that a stopped program can be resumed.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

from keraslm import load_run
from keraslm.runs.metrics import append_row, read_rows
from keraslm.text.files import TextFile

PROGRAM = [sys.executable, "-c", "from keraslm.cli import main; main()"]
_lock = Lock()


@dataclass(frozen=True)
class Trial:
    """One training run.

    Attributes:
        name: of the change that it tries.
        seed: of weights, dropout and windows.
        flags: of `keraslm train`, by field name.
        after: the trial whose best weights it starts from, if any.
    """

    name: str
    seed: int
    flags: dict[str, Any] = field(default_factory=dict)
    after: Trial | None = None

    @property
    def folder(self) -> str:
        """Name of the run folder. It depends on the flags, so that a run is only resumed with the same flags."""
        digest = hashlib.sha256(json.dumps(self.flags, sort_keys=True).encode()).hexdigest()
        return f"{self.name.replace(' ', '-')}-{self.seed}-{digest[:8]}"

    @property
    def arguments(self) -> list[str]:
        """The flags as command-line arguments."""
        arguments = []
        for name, value in {**self.flags, "seed": self.seed}.items():
            flag = name.replace("_", "-")
            if isinstance(value, bool):
                arguments.append(f"--{flag}" if value else f"--no-{flag}")
            else:
                arguments += [f"--{flag}", str(value)]
        return arguments

    def is_in(self, row: dict[str, Any]) -> bool:
        return (row["name"], row["seed"], row["flags"]) == (self.name, self.seed, self.flags)


def first_lines(text: Path, count: int, target: Path) -> Path:
    """Write the first lines of a text, which may be compressed, to a file."""
    target.write_text("".join(f"{line}\n" for line in islice(TextFile(text), count)), encoding="utf-8")
    return target


def keraslm(*arguments: str, threads: int = 0) -> str:
    """The standard output of a command.

    Raises:
        SystemExit: the command failed; with its output.
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    if threads:
        environment |= {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(
            f"keraslm {' '.join(arguments)} failed with exit code {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return done.stdout


def train(trial: Trial, common: list[str], work: Path, threads: int = 0) -> dict[str, Any]:
    """Run or resume a trial, after the one that it starts from; its perplexities by epoch and its time.

    A finished run is not trained again.
    """
    run, start = work / trial.folder, []
    if trial.after:
        train(trial.after, common, work, threads)
        start = ["--init-from", str(work / trial.after.folder), "--init-weights", "best"]
    keraslm("train", *common, *trial.arguments, *start, "--run", str(run), "--progress", "none", threads=threads)
    epochs = load_run(run).epochs()
    return {
        "name": trial.name,
        "seed": trial.seed,
        "flags": trial.flags,
        "valid": [round(row["val_perplexity"], 3) for row in epochs],
        "train": [round(row["perplexity"], 3) for row in epochs],
        "seconds": round(sum(row["seconds"] for row in epochs), 1),
        "run": trial.folder,
    }


def run_all(trials: Iterable[Trial], common: list[str], record: Path, work: Path, jobs: int) -> None:
    """Run the trials that are not recorded, several at a time, each with its share of the cores.

    Args:
        trials: in the order in which they start.
        common: arguments of `keraslm train` shared by all trials, such as texts and backend.
        record: file with one row per trial.
        work: folder of the run folders; stopped runs are resumed.
        jobs: number of trials at a time.
    """
    known = read_rows(record)
    missing = [trial for trial in trials if not any(trial.is_in(row) for row in known)]
    threads = max(1, (os.cpu_count() or 1) // jobs)

    def one(trial: Trial) -> None:
        row = train(trial, common, work, threads)
        with _lock:
            append_row(record, row)
        print(f"{trial.name:<40} seed {trial.seed}  valid {row['valid'][-1]:8.2f}  {row['seconds']:7.0f} s", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, missing))
