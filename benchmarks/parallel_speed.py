"""Training speed of two processes with a core each, beside one process with one core and one with two.

    python benchmarks/parallel_speed.py [--backends torch jax] [--presets small medium] [--rounds 5]

`keraslm train` reads random text of Zipf's law with 10,000 words. Rounds alternate between the contestants, whose
processes are pinned to cores 0 and 1; ratios are taken within a round, and the table shows their medians. Tokens per
second are those that the training itself reports, without its first window.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from common import KERASLM, zipf

from keraslm.system.ranks import local_environments

WINDOWS = {"small": 150, "medium": 40, "large": 12}
STEPS = {"small": 20, "medium": 35, "large": 35}
CONTESTANTS = {"1 process, 1 core": [{0}], "1 process, 2 cores": [{0, 1}], "2 processes, 1 core each": [{0}, {1}]}
BATCHES = (20, 40)


def tokens_per_second(backend: str, preset: str, batch: int, folder: Path, cores: list[set[int]]) -> float:
    text = folder / f"{preset}-{batch}.txt"
    if not text.exists():
        count = batch * (STEPS[preset] * WINDOWS[preset] + 1)
        ids = np.random.default_rng(0).choice(10_000, count - 10_000, p=zipf(10_000))
        words = [f"w{number}" for number in (*range(9_998), *ids)]  # every word once
        text.write_text("\n".join(" ".join(words[i : i + 100]) for i in range(0, len(words), 100)) + "\n")
    run = folder / "run"
    flags = {"preset": preset, "backend": backend, "train": text, "batch-size": batch, "epochs": 1, "run": run}
    flags |= {"checkpoint-minutes": 0, "progress": "none"}
    command = [*KERASLM, "train", "--overwrite", *(f"--{name}={value}" for name, value in flags.items())]
    processes = []
    for own, place in zip(cores, local_environments(len(cores), backend), strict=True):
        environment = os.environ | place | {"OMP_NUM_THREADS": str(len(own))}
        options = {"stdout": subprocess.DEVNULL, "env": environment}
        processes.append(subprocess.Popen(command, preexec_fn=lambda own=own: os.sched_setaffinity(0, own), **options))
    codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit(f"{backend} {preset}: a training failed")
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["tokens_per_second"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backends", nargs="+", default=["torch", "jax"])
    parser.add_argument("--presets", nargs="+", default=["small", "medium"], choices=[*WINDOWS])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print("| | rows | " + " | ".join(CONTESTANTS) + " | 2 processes to 1 core | efficiency | to 2 cores |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for backend in arguments.backends:
            for preset in arguments.presets:
                for batch in BATCHES:
                    place = backend, preset, batch, Path(folder)
                    rates = [
                        [tokens_per_second(*place, cores) for cores in CONTESTANTS.values()]
                        for _ in range(arguments.rounds)
                    ]
                    print(row(f"{backend}, {preset}", batch, rates), flush=True)


def row(name: str, batch: int, rates: list[list[float]]) -> str:
    one, two, processes = (statistics.median(values) for values in zip(*rates, strict=True))
    gain = statistics.median(own[2] / own[0] for own in rates)
    beside = statistics.median(own[2] / own[1] for own in rates)
    speeds = f"{one:,.0f} | {two:,.0f} | {processes:,.0f}"
    return f"| {name} | {batch} | {speeds} | {gain:.2f} | {gain / 2:.0%} | {beside:.2f} |"


if __name__ == "__main__":
    main()
