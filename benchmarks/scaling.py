"""How the cost of a token grows: scoring with batch, length, vocabulary and workers, training with layers and units.

    python benchmarks/scaling.py score [--rounds 3]
    python benchmarks/scaling.py train [--rounds 3] [--backend torch]

Each table shows microseconds per token beside the operations of its products (2 per weight and token; 6 in training),
and the rate at which they ran, relative to the highest in the table. If the cost followed the count, the rates would be
equal. Models have random weights; the ids are drawn by Zipf's law. The points of a curve are measured in turn, round by
round; a table shows medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from common import child, random_run, zipf

UNITS, LAYERS, VOCAB = 200, 2, 10_000
BATCHES, LENGTHS = (1, 2, 4, 8, 16, 32, 64, 128), (1, 2, 5, 10, 25, 50, 100, 400)
VOCABULARIES = (100, 1_000, 10_000, 50_000, 200_000)
TRAIN_LAYERS, TRAIN_UNITS = (1, 2, 3, 4, 6), (50, 100, 200, 400, 800, 1600)
Point = tuple[str, float, Callable[[], float]]  # its name, operations per token, and a function: seconds per token


def operations(units: int, layers: int, vocab: int) -> float:
    """Two per weight of the products that a token takes part in."""
    return 2.0 * (layers * 8 * units * units + units * vocab)


def table(title: str, points: list[Point], rounds: int) -> list[str]:
    found: list[list[float]] = [[] for _ in points]
    for number in range(rounds):
        for (name, _, measure), values in zip(points, found, strict=True):
            print(f"{title} {name}, round {number + 1} of {rounds}", file=sys.stderr)
            values.append(measure())
    seconds = [statistics.median(values) for values in found]
    rates = [work / own for (_, work, _), own in zip(points, seconds, strict=True)]
    lines = [
        f"| {title} | µs per token | million operations per token | rate, relative to the highest |",
        "|---|---|---|---|",
    ]
    for (name, work, _), own, rate in zip(points, seconds, rates, strict=True):
        lines.append(f"| {name} | {1e6 * own:,.1f} | {work / 1e6:,.2f} | {rate / max(rates):.2f} |")
    return lines


def model(folder: Path, vocab: int) -> Path:
    """A model file of the given vocabulary with random weights."""
    import keraslm

    path = folder / f"{vocab}.onnx"
    if not path.exists():
        config = keraslm.Config().replace(units=UNITS, num_layers=LAYERS, vocab_size=vocab, min_count=1)
        words = " ".join(f"w{number}" for number in range(vocab - 2))
        keraslm.export(random_run(folder / f"run-{vocab}", config, [words]), path)
    return path


def call_time(path: Path, rows: int, steps: int) -> float:
    """Seconds per token of calls with `rows` x `steps` tokens: the median over at least half a second."""
    import keraslm

    session = keraslm.load(path).session
    size = session.info.vocab_size
    ids = np.random.default_rng(0).choice(size, (rows, steps), p=zipf(size))
    state, times, end = session.zero_state(rows), [], time.perf_counter() + 0.7
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        session.target_logprobs(ids, ids, state)
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:]) / (rows * steps)


def bulk_time(path: Path, folder: Path, workers: int) -> float:
    """Seconds per token of `keraslm score` on eight files, processes and start included."""
    import subprocess

    from common import KERASLM

    rng, shards = np.random.default_rng(1), []
    for number in range(8):
        shards.append(folder / f"shard-{number}.txt")
        if not shards[-1].exists():
            lines = rng.choice(VOCAB - 2, (1000, 24), p=zipf(VOCAB - 2))
            shards[-1].write_text("".join(" ".join(f"w{word}" for word in line) + "\n" for line in lines))
    command = [*KERASLM, "score", path, "--workers", workers, "--output", folder / "out", "--overwrite", *shards]
    start = time.perf_counter()
    subprocess.run([*map(str, command)], check=True, capture_output=True)
    return (time.perf_counter() - start) / (8 * 1000 * 25)


def scoring(rounds: int) -> Iterable[list[str]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path, work = model(folder, VOCAB), operations(UNITS, LAYERS, VOCAB)

        def points(sizes: Iterable[int], call: Callable[[int], float]) -> list[Point]:
            return [(str(size), work, lambda size=size: call(size)) for size in sizes]

        yield table("rows of 25 tokens", points(BATCHES, lambda n: call_time(path, n, 25)), rounds)
        yield table("tokens of one row", points(LENGTHS, lambda n: call_time(path, 1, n)), rounds)
        sizes = [
            (f"{size:,}", operations(UNITS, LAYERS, size), lambda size=size: call_time(model(folder, size), 16, 25))
            for size in VOCABULARIES
        ]
        yield table("words of the vocabulary (16 x 25 tokens)", sizes, rounds)
        yield table("workers, 200,000 tokens", points((1, 2), lambda n: bulk_time(path, folder, n)), rounds)


def train_time(backend: str, units: int, layers: int) -> float:
    return child(__file__, "--child", units, layers, KERAS_BACKEND=backend)["seconds"]


def one_training(units: int, layers: int) -> float:
    """Seconds per token of training steps of 20 x 35 tokens."""
    if os.environ["KERAS_BACKEND"] != "jax":
        sys.modules["jax"] = None  # type: ignore[assignment]
    from contestants import WARM_UP, keraslm_model, windows

    from keraslm.config.presets import preset

    config = preset("medium", units=units, num_layers=layers)
    count = WARM_UP + max(6, 4000 // units)
    return keraslm_model(config, windows(20, 35, count), False)[0] / (20 * 35)


def training(rounds: int, backend: str) -> Iterable[list[str]]:
    for title, sizes in (("layers of 400 units", TRAIN_LAYERS), ("units in 2 layers", TRAIN_UNITS)):
        points: list[Point] = []
        for size in sizes:
            units, layers = (400, size) if title.startswith("layers") else (size, 2)
            measure = lambda units=units, layers=layers: train_time(backend, units, layers)  # noqa: E731
            points.append((str(size), 3 * operations(units, layers, VOCAB), measure))
        yield table(f"{title}, {backend}", points, rounds)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        import json

        print(json.dumps({"seconds": one_training(*map(int, sys.argv[2:]))}))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("score", "train"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backend", choices=("jax", "tensorflow", "torch"), default="torch")
    arguments = parser.parse_args()
    tables = scoring(arguments.rounds) if arguments.what == "score" else training(arguments.rounds, arguments.backend)
    for lines in tables:
        print("\n".join(lines), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
