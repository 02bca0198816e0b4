"""Time of a training step for several sizes of the vocabulary: full, adaptive and sampled softmax.

    python benchmarks/softmax.py [--backends torch jax tensorflow] [--vocabularies 10000 200000] [--rounds 3]

Zaremba's small network, 2 x 200 units, windows of 20 x 20 ids drawn by Zipf's law. In each round every contestant runs
once, in a process of its own. Speed is relative to the full softmax in the same round; the Markdown table shows
medians over the rounds. Peak memory is the largest resident size of the process.
"""

from __future__ import annotations

import argparse
import json
import resource

import numpy as np
from common import child, median, run_rounds, spread, zipf
from contestants import WARM_UP, keraslm_model

KINDS = ("full", "adaptive", "sampled")
BATCH_SIZE, NUM_STEPS, UNITS, WINDOWS = 20, 20, 200, 12


def measure(kind: str, vocab_size: int) -> dict:
    """Train a few windows on the backend of this process."""
    from keraslm.config import Config
    from keraslm.config.clusters import choose_cutoffs

    share = zipf(vocab_size)
    ids = np.random.default_rng(0).choice(vocab_size, (WINDOWS + WARM_UP, BATCH_SIZE, NUM_STEPS + 1), p=share)
    config = Config().replace(units=UNITS, batch_size=BATCH_SIZE, num_steps=NUM_STEPS, learning_rate=0.1, softmax=kind)
    ends: tuple[int, ...] = ()
    if kind == "adaptive":
        ends = tuple(map(int, choose_cutoffs((share * 1e9).astype(np.int64), UNITS)))
        config = config.replace(cutoffs=ends)
    seconds, _ = keraslm_model(config, ids.astype(np.int32), False, vocab_size)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return {"seconds": seconds, "peak_mb": peak, "cutoffs": ends}


def rows(backend: str, vocab_size: int, rounds: int) -> list[str]:
    def run(kind: str) -> dict:
        return child(__file__, "--child", kind, vocab_size, KERAS_BACKEND=backend)

    found = run_rounds(f"{backend} {vocab_size:,}", KINDS, rounds, run)
    lines = []
    for kind in KINDS:
        row = f"| {backend} | {vocab_size:,} | {kind} "
        if kind not in found:
            lines.append(f"{row}| failed | | | |")
            continue
        full = found.get("full", [])
        ratios = [other["seconds"] / own["seconds"] for own, other in zip(found[kind], full, strict=False)]
        ends = ", ".join(f"{end:,}" for end in found[kind][0]["cutoffs"])
        row += f"| {1000 * median(found[kind], 'seconds'):.0f} | {spread(ratios, 1) if ratios else ''} "
        lines.append(f"{row}| {median(found[kind], 'peak_mb'):,.0f} | {ends} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", nargs="+", default=["torch", "jax", "tensorflow"])
    parser.add_argument("--vocabularies", nargs="+", type=int, default=[10_000, 50_000, 200_000, 800_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=2, metavar=("KIND", "V"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.child[0], int(arguments.child[1]))))
        return
    print("| backend | vocabulary | softmax | ms per step | relative speed (range) | peak MB | clusters end at |")
    print("|---|---|---|---|---|---|---|")
    for backend in arguments.backends:
        for vocab_size in arguments.vocabularies:
            print("\n".join(rows(backend, vocab_size, arguments.rounds)), flush=True)


if __name__ == "__main__":
    main()
