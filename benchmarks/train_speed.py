"""Training speed of keraslm, stock Keras and PyTorch on the same windows, each in a process of its own.

    python benchmarks/train_speed.py [--sizes small medium large] [--rounds 5] [--contestants NAME ...]
    python benchmarks/train_speed.py --growth [--contestants keraslm-torch]
    python benchmarks/train_speed.py --outside

Each round runs every contestant once, one after the other, so that a slow phase of the machine affects all of them.
Ratios are taken within a round; the Markdown table shows medians over the rounds. `--growth` prints the time per step
for several values of `num_steps` and of the batch size, `--outside` the share of time that `fit()` spends outside the
step, at size small. On a machine with a GPU all contestants run on it; CUDA_VISIBLE_DEVICES=-1 keeps them on the CPU.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from common import child, median, run_rounds, spread

PROGRAM = Path(__file__).with_name("contestants.py")
BACKENDS = ("jax", "tensorflow", "torch")
OURS = [f"keraslm-{backend}" for backend in BACKENDS] + ["keraslm-torch-bfloat16"]
PEERS = ["pytorch", "pytorch-bfloat16"] + [f"keras-{backend}" for backend in BACKENDS]
RATES = ["matrix", "matrix-bfloat16"]
UNITS = {"small": 200, "medium": 650, "large": 1500}
Results = dict[str, list[dict]]


def run_all(size: str, names: list[str], rounds: int, *options: object) -> Results:
    label = " ".join(map(str, (size, *options)))
    return run_rounds(label, names, rounds, lambda name: child(PROGRAM, name, size, *options))


def operations(size: str) -> int:
    """Floating-point operations per token of training: 6 per parameter outside the embedding."""
    units = UNITS[size]
    return 6 * (2 * 8 * units * units + units * 10_000)


def ratios(results: Results, name: str, to: str) -> list[float]:
    """Speed of one contestant relative to a second one, round by round."""
    return [other["seconds"] / own["seconds"] for own, other in zip(results[name], results[to], strict=True)]


def table(size: str, results: Results) -> str:
    medians = {name: median(found, "seconds") for name, found in results.items() if name not in RATES}
    lines = [
        f"| {size} | ms per step | tokens/s | relative to PyTorch float32 (lowest, highest) | share of matrix rate "
        "| peak MB |",
        "|---|---|---|---|---|---|",
    ]
    for name, seconds in medians.items():
        rates = results["matrix-bfloat16" if name.endswith("bfloat16") else "matrix"]
        share = statistics.median(
            operations(size) * own["tokens"] / own["seconds"] / rate["matrix_rate"]
            for own, rate in zip(results[name], rates, strict=True)
        )
        lines.append(
            f"| {name} | {1000 * seconds:.1f} | {results[name][0]['tokens'] / seconds:,.0f} "
            f"| {spread(ratios(results, name, 'pytorch'))} | {share:.0%} | {median(results[name], 'peak_mb'):.0f} |"
        )
    for backend in BACKENDS:
        if {f"keraslm-{backend}", f"keras-{backend}"} <= results.keys():
            ratio = statistics.median(ratios(results, f"keraslm-{backend}", f"keras-{backend}"))
            lines.append(f"\nkeraslm-{backend} relative to keras-{backend}: {ratio:.2f}")
    own = [name for name in medians if name.startswith("keraslm") and not name.endswith("bfloat16")]
    peers = [name for name in medians if not name.startswith("keraslm") and not name.endswith("bfloat16")]
    if own and peers:
        best, peer = min(own, key=medians.__getitem__), min(peers, key=medians.__getitem__)
        ratio = statistics.median(ratios(results, best, peer))
        lines.append(f"\nfloat32, best of keraslm relative to best peer: {best} relative to {peer}: {ratio:.2f}")
    for name in RATES:
        rate = median(results[name], "matrix_rate")
        lines.append(f"\n{name} product: {rate / 1e9:,.0f} billion operations per second")
    return "\n".join(lines)


def growth(names: list[str], size: str, rounds: int) -> str:
    """Time per step and per token for several values of one size; the other size is that of the preset."""
    points = [("--num-steps", n, ("--batch-size", 20)) for n in (5, 10, 20, 35, 70, 140)]
    points += [("--batch-size", n, ("--num-steps", 35)) for n in (5, 10, 20, 40, 80, 160)]
    lines = [f"| {size} | " + " | ".join(f"{name}: ms per step, µs per token" for name in names) + " |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for option, value, fixed in points:
        options = [option, value, *fixed, "--windows", 12]
        row = f"| {option[2:]} {value} |"
        for found in run_all(size, names, rounds, *options).values():
            seconds = median(found, "seconds")
            row += f" {1000 * seconds:.1f}, {1e6 * seconds / found[0]['tokens']:.0f} |"
        lines.append(row)
        print(lines[-1], file=sys.stderr)
    return "\n".join(lines)


def outside(names: list[str], rounds: int) -> str:
    lines = ["| small, under fit() | ms per step | outside the step |", "|---|---|---|"]
    for name, found in run_all("small", names, rounds, "--outside").items():
        lines.append(f"| {name} | {1000 * median(found, 'seconds'):.1f} | {median(found, 'outside'):.1%} |")
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
        results = run_all(size, names + RATES, arguments.rounds)
        print(table(size, results), end="\n\n", flush=True)
    versions = next(iter(results.values()))[0]["versions"]
    print(", ".join(f"{package} {version}" for package, version in versions.items()))


if __name__ == "__main__":
    main()
