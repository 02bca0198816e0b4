"""Cold start of `keraslm score`, compared with the imports that it cannot avoid.

    python benchmarks/cold_start.py model.onnx [--runs 15]

Each round starts three processes, one after the other: Python without a program; Python that imports NumPy and
onnxruntime and opens the model; `keraslm score` on one line. The output is the median, lowest and highest wall time of
each, and the ratio of the last two within a round.
"""

import argparse
import statistics
import subprocess
import sys
import time

SCORE = "import sys; from keraslm.cli import run; sys.exit(run(['score', sys.argv[1], '--level', 'summary']))"
FLOOR = "import sys, numpy, onnxruntime; onnxruntime.InferenceSession(sys.argv[1])"


def seconds(program: str, model: str) -> float:
    """Wall time of one process, in seconds."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program, model], input=b"a line\n", check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--runs", type=int, default=15)
    arguments = parser.parse_args()
    programs = {"empty Python": "pass", "imports and model": FLOOR, "keraslm score": SCORE}
    for program in programs.values():
        seconds(program, arguments.model)
    rounds = [[seconds(p, arguments.model) for p in programs.values()] for _ in range(arguments.runs)]
    for name, column in zip(programs, zip(*rounds, strict=True), strict=True):
        print(f"{name:<20} {statistics.median(column):.3f} s   ({min(column):.3f} to {max(column):.3f})")
    ratios = [score / floor for _, floor, score in rounds]
    print(f"score / imports      {statistics.median(ratios):.2f}     ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
