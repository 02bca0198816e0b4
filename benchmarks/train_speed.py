"""Training speed: keraslm, stock Keras and PyTorch in turn, whole processes on the same windows.

    python benchmarks/train_speed.py [--sizes small medium large] [--rounds 5] [--contestants NAME ...]
    python benchmarks/train_speed.py --growth [--contestants keraslm-torch]
    python benchmarks/train_speed.py --outside

Each round runs every contestant once, one after the other, so that a machine that slows down slows all of them. Ratios
are taken within a round; printed are medians over the rounds, as a table in Markdown. `--growth` prints the time of a
step against `num_steps` and against the batch size, `--outside` the share of time that `fit()` spends outside the step
at small. On a machine with a GPU all contestants run on it; CUDA_VISIBLE_DEVICES=-1 keeps them on the processor.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("contestants.py")
BACKENDS = ("jax", "tensorflow", "torch")
OURS = [f"keraslm-{backend}" for backend in BACKENDS] + ["keraslm-torch-bfloat16"]
PEERS = ["pytorch", "pytorch-bfloat16"] + [f"keras-{backend}" for backend in BACKENDS]
RATES = ["matrix", "matrix-bfloat16"]
UNITS = {"small": 200, "medium": 650, "large": 1500}
Results = dict[str, list[dict]]


def run(name: str, size: str, *options: str) -> dict | None:
    """What one process measured; None, and its last line of error on standard error, when it failed."""
    command = [sys.executable, str(PROGRAM), name, size, *options]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        print(f"{name} {size}: {(done.stderr.strip() or 'failed').splitlines()[-1]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def operations(size: str) -> int:
    """Floating-point operations of training one token: 6 for each parameter outside the embedding."""
    units = UNITS[size]
    return 6 * (2 * 8 * units * units + units * 10_000)


def measure(size: str, names: list[str], rounds: int) -> Results:
    results: Results = {name: [] for name in names + RATES}
    for number in range(rounds):
        for name in list(results):
            print(f"{size}, round {number + 1} of {rounds}: {name}", file=sys.stderr)
            result = run(name, size) if len(results[name]) == number else None
            if result:
                results[name].append(result)
    return {name: found for name, found in results.items() if len(found) == rounds}


def ratios(results: Results, name: str, to: str) -> list[float]:
    """Speed of one contestant in those of another, round by round."""
    return [other["seconds"] / own["seconds"] for own, other in zip(results[name], results[to], strict=True)]


def table(size: str, results: Results) -> str:
    median = {
        name: statistics.median(r["seconds"] for r in found) for name, found in results.items() if name not in RATES
    }
    lines = [
        f"| {size} | ms a step | tokens/s | against PyTorch float32 (lowest, highest) | of the matrix rate | peak MB |",
        "|---|---|---|---|---|---|",
    ]
    for name, seconds in median.items():
        against = ratios(results, name, "pytorch")
        rates = results["matrix-bfloat16" if name.endswith("bfloat16") else "matrix"]
        share = statistics.median(
            operations(size) * own["tokens"] / own["seconds"] / rate["matrix_rate"]
            for own, rate in zip(results[name], rates, strict=True)
        )
        lines.append(
            f"| {name} | {1000 * seconds:.1f} | {results[name][0]['tokens'] / seconds:,.0f} "
            f"| {statistics.median(against):.2f} ({min(against):.2f}, {max(against):.2f}) | {share:.0%} "
            f"| {statistics.median(r['peak_mb'] for r in results[name]):.0f} |"
        )
    for backend in BACKENDS:
        if {f"keraslm-{backend}", f"keras-{backend}"} <= results.keys():
            ratio = statistics.median(ratios(results, f"keraslm-{backend}", f"keras-{backend}"))
            lines.append(f"\nkeraslm-{backend} against keras-{backend}: {ratio:.2f}")
    own = [name for name in median if name.startswith("keraslm") and not name.endswith("bfloat16")]
    peers = [name for name in median if not name.startswith("keraslm") and not name.endswith("bfloat16")]
    if own and peers:
        best, peer = min(own, key=median.__getitem__), min(peers, key=median.__getitem__)
        ratio = statistics.median(ratios(results, best, peer))
        lines.append(f"\nfloat32, best of ours against best peer: {best} against {peer}: {ratio:.2f}")
    for name in RATES:
        rate = statistics.median(r["matrix_rate"] for r in results[name])
        lines.append(f"\n{name} product: {rate / 1e9:,.0f} billion operations a second")
    return "\n".join(lines)


def growth(names: list[str], size: str, rounds: int) -> str:
    """Time of a step against one size, the other as in the preset; microseconds a token beside it."""
    points = [("--num-steps", n, ("--batch-size", 20)) for n in (5, 10, 20, 35, 70, 140)]
    points += [("--batch-size", n, ("--num-steps", 35)) for n in (5, 10, 20, 40, 80, 160)]
    lines = [f"| {size} | " + " | ".join(f"{name}: ms a step, µs a token" for name in names) + " |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for option, value, fixed in points:
        cells = []
        for name in names:
            options = [option, str(value), *map(str, fixed), "--windows", "12"]
            found = [result for _ in range(rounds) if (result := run(name, size, *options))]
            seconds = statistics.median(r["seconds"] for r in found)
            cells.append(f"{1000 * seconds:.1f}, {1e6 * seconds / found[0]['tokens']:.0f}")
        lines.append(f"| {option[2:]} {value} | " + " | ".join(cells) + " |")
        print(lines[-1], file=sys.stderr)
    return "\n".join(lines)


def outside(names: list[str], rounds: int) -> str:
    lines = ["| small, under fit() | ms a step | outside the step |", "|---|---|---|"]
    for name in names:
        found = [result for _ in range(rounds) if (result := run(name, "small", "--outside"))]
        seconds = statistics.median(r["seconds"] for r in found)
        share = statistics.median(r["outside"] for r in found)
        lines.append(f"| {name} | {1000 * seconds:.1f} | {share:.1%} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--sizes", nargs="+", choices=list(UNITS), default=list(UNITS))
    parser.add_argument("--contestants", nargs="+", choices=OURS + PEERS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--outside", action="store_true")
    arguments = parser.parse_args()
    if arguments.growth:
        print(growth(arguments.contestants or ["keraslm-torch"], "medium", arguments.rounds))
        return
    if arguments.outside:
        print(outside(arguments.contestants or [name for name in OURS if "bfloat16" not in name], arguments.rounds))
        return
    names = arguments.contestants or OURS + PEERS
    names = names if "pytorch" in names else ["pytorch", *names]
    for size in arguments.sizes:
        results = measure(size, names, arguments.rounds)
        print(table(size, results), end="\n\n", flush=True)
    versions = next(iter(results.values()))[0]["versions"]
    print(", ".join(f"{package} {version}" for package, version in versions.items()))


if __name__ == "__main__":
    main()
