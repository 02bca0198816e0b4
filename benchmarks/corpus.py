"""Encoding of a text of gigabytes: speed, and the resident memory of all processes together.

    python benchmarks/corpus.py [--gigabytes 2] [--tokenizers word char bpe] [--folder DIR]

Writes a text of words drawn by Zipf's law from half a million. A child process trains a tokenizer on it and encodes it,
as `keraslm train` does before its first window. The resident memory of that process and its workers is sampled twice
per second (proportional set size, so that shared pages count once). Every second row is a second start, from the cache.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import random_words, zipf

CHILD = """
import json, sys, time
from keraslm.config import DataConfig
from keraslm.text.encoding import Encoder
from keraslm.text.files import TextFiles
path, cache, kind = sys.argv[1:]
text, encoder = TextFiles([path]), Encoder(cache)
start = time.perf_counter()
tokenizer = encoder.tokenizer(text, DataConfig(tokenizer=kind, vocab_size=50000))
trained = time.perf_counter()
encoded = encoder.encode(text, tokenizer)
end = time.perf_counter()
print(json.dumps({"train": trained - start, "encode": end - trained, **vars(encoded.counts)}))
"""


def write_text(path: Path, size: int) -> None:
    """Write lines of 20 words of 2 to 9 letters until the file has `size` bytes."""
    rng = np.random.default_rng(0)
    words = random_words(rng, 500_000, 2, 9)
    edges = np.cumsum(zipf(len(words)))
    with path.open("w", buffering=1 << 20) as file:
        while file.tell() < size:
            drawn = words[np.minimum(np.searchsorted(edges, rng.random(400_000)), len(words) - 1)].reshape(-1, 20)
            file.write("\n".join(map(" ".join, drawn)) + "\n")


def resident(process: int) -> int:
    """Proportional set size of a process and its children, in bytes."""
    total = 0
    for number in (process, *children(process)):
        try:
            lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # the process has just ended
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def children(process: int) -> list[int]:
    found = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            found += [int(number) for number in path.read_text().split()]
        except OSError:
            continue
    return found


def measure(path: Path, cache: Path, kind: str) -> tuple[dict, int]:
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), str(cache), kind], stdout=subprocess.PIPE, text=True
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, resident(process.pid))
        time.sleep(0.5)
    assert process.stdout is not None
    return json.loads(process.stdout.read()), peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--tokenizers", nargs="+", default=["word", "char", "bpe"])
    parser.add_argument(
        "--folder", default=None, help="folder for the text and the cache, which are removed at the end"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "text.txt"
        write_text(path, int(arguments.gigabytes * 1e9))
        print(
            "| tokenizer | text, MB | million tokens | vocabulary, s | encoding, s | tokens/s, both | encoding | MB |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for kind in arguments.tokenizers:
            for start in ("", ", from the cache"):
                found, peak = measure(path, Path(folder) / "cache", kind)
                millions, both = found["tokens"] / 1e6, found["train"] + found["encode"]
                print(
                    f"| {kind}{start} | {found['bytes'] / 1e6:,.0f} | {millions:,.1f} | {found['train']:.1f} "
                    f"| {found['encode']:.1f} | {millions / both:,.2f} M | {millions / found['encode']:,.2f} M "
                    f"| {peak / 1e6:,.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
