"""Flip a bit in thousands of checkpoints, or cut a file, and check that each damage is found.

    python tests/torture/damaged_checkpoints.py --count 2000 --seed 0

A store holds two checkpoints. Each trial damages a random file of the newer one. The damage is found if the reader
takes the older checkpoint and names the newer one and the file. The exit code is 1 if any damage was not found.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[2])]

from keraslm.runs.checkpoint import Checkpoint, CheckpointStore  # noqa: E402

STATE = {"config": {}, "texts": {}, "surroundings": {}, "log": {"seconds": 1.0, "seen": 0, "sum": 0.0}}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    variables = {f"model/lstm_{n}/kernel": rng.normal(size=(40, 160)).astype(np.float32) for n in range(4)}
    older = Checkpoint(1, 0, variables, STATE, '{"epoch": 1, "loss": 5.0}\n')
    tried: Counter[str] = Counter()
    missed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        store = CheckpointStore(Path(folder))
        store.save(older)
        newer = store.save(replace(older, epoch=2))
        files = sorted(newer.iterdir())
        for _ in range(options.count):
            path, cut = files[rng.integers(len(files))], bool(rng.integers(2))
            original = path.read_bytes()
            changed, place = bytearray(original), int(rng.integers(len(original)))
            changed[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(original[:place] if cut else changed)
            found, reasons = store.newest()
            what = f"{path.name} {'cut' if cut else 'with a flipped bit'}"
            tried[what] += 1
            if found is None or found.name != older.name or path.name not in reasons.get(newer.name, ""):
                missed.append(what)
            path.write_bytes(original)
    for what, count in sorted(tried.items()):
        print(f"{what:<42} {count:>6,} tried, {count - missed.count(what):>6,} found")
    print(f"{'all':<42} {options.count:>6,} tried, {options.count - len(missed):>6,} found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
