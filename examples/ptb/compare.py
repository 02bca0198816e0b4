"""Compare the window losses of runs: python compare.py RUN OTHER_RUN ..."""

import json
import sys
from itertools import takewhile
from pathlib import Path


def rows(run: str) -> tuple[list[float], list[dict]]:
    """The loss of each window over all epochs, and the epoch rows."""
    parsed = [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]
    return [r["loss"] for r in parsed if "window" in r], [r for r in parsed if "window" not in r]


def main(first: str, *others: str) -> None:
    expected, epochs = rows(first)
    print(f"{Path(first).name}: {len(expected)} windows")
    for other in others:
        losses, other_epochs = rows(other)
        off = [abs(a - b) / abs(a) for a, b in zip(expected, losses, strict=False)]  # up to the end of the shorter run
        print(f"{Path(other).name}: {len(losses)} windows; largest relative difference of a window's loss")
        for count in sorted({n for n in (1, 50, 100, 200, 500, 1000) if n < len(off)} | {len(off)}):
            print(f"  windows 1 to {count:<5} {max(off[:count]):.2e}")
        equal = sum(1 for _ in takewhile(lambda x: x < 1e-3, off))
        print(f"  below 1e-3 for the first {equal} windows")
        for a, b in zip(epochs, other_epochs, strict=False):
            print(f"  epoch {a['epoch']}: perplexity {a['perplexity']:.4f} / {b['perplexity']:.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
