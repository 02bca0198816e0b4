"""A training step against the size of the vocabulary: full, adaptive and sampled softmax, whole processes in turn.

    python benchmarks/softmax.py [--backends torch jax tensorflow] [--vocabularies 10000 200000] [--rounds 3]

Zaremba's small network, 2 x 200 units, windows of 20 x 20 ids drawn by Zipf's law. Each round runs every contestant of
a vocabulary once, one after the other; speeds are ratios to the full softmax within a round, printed are medians over
the rounds, as a table in Markdown. Peak memory is that of the whole process, VmHWM.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys

import numpy as np
from contestants import WARM_UP, on_keras

KINDS = ("full", "adaptive", "sampled")
BATCH_SIZE, NUM_STEPS, UNITS, WINDOWS = 20, 20, 200, 12


def contestant(kind: str, vocab_size: int) -> dict:
    """Train a few windows on the backend of this process."""
    from keraslm.config import Config
    from keraslm.config.clusters import choose_cutoffs
    from keraslm.network.compile import compiled_model
    from keraslm.training.machine import keep_freed_memory
    from keraslm.training.progress import UnreadLogs

    share = 1.0 / np.arange(2.7, vocab_size + 2.7)
    share /= share.sum()
    ids = np.random.default_rng(0).choice(vocab_size, (WINDOWS + WARM_UP, BATCH_SIZE, NUM_STEPS + 1), p=share)
    config = Config().replace(units=UNITS, batch_size=BATCH_SIZE, num_steps=NUM_STEPS, learning_rate=0.1, softmax=kind)
    ends: tuple[int, ...] = ()
    if kind == "adaptive":
        ends = choose_cutoffs((share * 1e9).astype(np.int64), UNITS)
        config = config.replace(cutoffs=(0, 0).join(map(str, ends)))
    keep_freed_memory()
    model = compiled_model(config, vocab_size)
    seconds, _ = on_keras(
        model,
        ids.astype(np.int32),
        True,
        lambda m, clock: UnreadLogs([clock], add_history=True, model=m, epochs=1, steps=len(ids)),
        False,
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return {"seconds": seconds, "peak_mb": peak, "cutoffs": list(ends)}


def run(backend: str, kind: str, vocab_size: int) -> dict | None:
    """What one process measured; None, and its last line of error on standard error, when it failed."""
    command = [sys.executable, __file__, "--child", kind, str(vocab_size)]
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        last = (done.stderr.strip() or f"ended with code {done.returncode}").splitlines()[-1]
        print(f"{backend} {kind} {vocab_size}: {last}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def rows(backend: str, vocab_size: int, rounds: int) -> list[str]:
    found: dict[str, list[dict]] = {kind: [] for kind in KINDS}
    for number in range(rounds):
        for kind in KINDS:
            print(f"{backend} {vocab_size:,}, round {number + 1} of {rounds}: {kind}", file=sys.stderr)
            result = run(backend, kind, vocab_size) if len(found[kind]) == number else None
            if result:
                found[kind].append(result)
    lines = []
    for kind in KINDS:
        if len(found[kind]) < rounds:
            lines.append(f"| {backend} | {vocab_size:,} | {kind} | failed | | | |")
            continue
        ratios = [full["seconds"] / own["seconds"] for own, full in zip(found[kind], found["full"], strict=False)]
        against = f"{statistics.median(ratios):.1f} ({min(ratios):.1f}, {max(ratios):.1f})" if ratios else ""
        seconds = statistics.median(r["seconds"] for r in found[kind])
        lines.append(
            f"| {backend} | {vocab_size:,} | {kind} | {1000 * seconds:.0f} "
            f"| {against} | {statistics.median(r['peak_mb'] for r in found[kind]):,.0f} "
            f"| {', '.join(f'{end:,}' for end in found[kind][0]['cutoffs'])} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", nargs="+", default=["torch", "jax", "tensorflow"])
    parser.add_argument("--vocabularies", nargs="+", type=int, default=[10_000, 50_000, 200_000, 800_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=2, metavar=("KIND", "V"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(contestant(arguments.child[0], int(arguments.child[1]))))
        return
    print("| backend | vocabulary | softmax | ms a step | against full (lowest, highest) | peak MB | clusters end at |")
    print("|---|---|---|---|---|---|---|")
    for backend in arguments.backends:
        for vocab_size in arguments.vocabularies:
            print("\n".join(rows(backend, vocab_size, arguments.rounds)), flush=True)


if __name__ == "__main__":
    main()
