"""Damage model files by the thousand and open them. Every file must be refused with a sentence.

    python tests/torture/model_files.py --count 10000 --seed 0

Model files of each kind (full, adaptive and mixture softmax, each in float32 and with 8-bit weights; GRU layers) are
changed at random, one change per file: bits flipped, pieces cut off, replaced, moved, removed, and bytes appended.
A file that opens, or that fails with anything other than a `ModelFileError`, is reported.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "export")]

from keraslm.errors import ModelFileError  # noqa: E402
from keraslm.scoring.session import ModelSession  # noqa: E402

Rng = np.random.Generator


def flipped_bits(rng: Rng, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.integers(1, 9)):
        changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def truncated(rng: Rng, data: bytes) -> bytes:
    return data[: rng.integers(len(data))]


def replaced(rng: Rng, data: bytes) -> bytes:
    start = int(rng.integers(len(data)))
    noise = rng.bytes(int(rng.integers(1, 65)))
    return data[:start] + noise + data[start + len(noise) :]


def moved(rng: Rng, data: bytes) -> bytes:
    """A piece of the file at a different place, replacing what was there or inserted."""
    length = int(rng.integers(1, min(len(data), 2000)))
    source, place = rng.integers(len(data) - length, size=2)
    return data[:place] + data[source : source + length] + data[place + length * int(rng.integers(2)) :]


def removed(rng: Rng, data: bytes) -> bytes:
    start = int(rng.integers(len(data)))
    return data[:start] + data[start + int(rng.integers(1, 200)) :]


def appended(rng: Rng, data: bytes) -> bytes:
    return data + (data, b"\x08\x08", rng.bytes(20), b"\n")[rng.integers(4)]


KINDS = (flipped_bits, truncated, replaced, moved, removed, appended)


def damage(data: bytes, seed: int, number: int) -> tuple[str, bytes]:
    """The kind of the change, and the changed bytes."""
    rng = np.random.default_rng([seed, number])
    kind = KINDS[rng.integers(len(KINDS))]
    while (changed := kind(rng, data)) == data:
        pass
    return kind.__name__, changed


def make_models(folder: Path) -> list[bytes]:
    """Exports of random runs, in float32 and with 8-bit weights."""
    import keraslm
    from tests.support.made_run import make_run

    text, paths = folder / "text.txt", []
    text.write_text("the cat sat\n", encoding="utf-8")
    kinds = {
        "full": {},
        "adaptive": {"softmax": "adaptive", "cutoffs": (4, 7)},
        "mixture": {"softmax": "mixture", "num_experts": 2, "tie_weights": True, "layer_units": (5, 8)},
        "gru": {"cell": "gru", "layer_units": (8, 5)},
    }
    for name, fields in kinds.items():
        (folder / name).mkdir()
        run = make_run(folder / name, **{"num_layers": 2, "units": 8, "embedding_dim": 6} | fields)
        for int8 in (False, True)[: 1 + (run.config.model.cell == "lstm")]:
            paths.append(folder / f"{name}-{int8}.onnx")
            keraslm.export(run, paths[-1], **({"int8": True, "text": text, "tolerance": 1.0} if int8 else {}))
    return [path.read_bytes() for path in paths]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--count", type=int, default=10000, help="number of files")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        models, path = make_models(Path(folder)), Path(folder) / "damaged.onnx"
        for number in range(options.count):
            kind, data = damage(models[number % len(models)], options.seed, number)
            path.write_bytes(data)
            try:
                ModelSession(path, "cpu", threads=1)
                found = "OPENED"
            except ModelFileError:
                found = "refused"
            except BaseException as error:
                found = type(error).__name__
            counts[kind, found] += 1
            if found != "refused":
                print(f"seed {options.seed} number {number}, {kind}: {found}", flush=True)
    for (kind, found), count in sorted(counts.items()):
        print(f"{kind:<14} {found:<10} {count:>7,}")
    print(f"{'all':<14} {'refused':<10} {sum(n for (_, found), n in counts.items() if found == 'refused'):>7,}")
    return int(any(found != "refused" for _, found in counts))


if __name__ == "__main__":
    sys.exit(main())
