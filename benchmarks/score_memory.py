"""Resident memory of `keraslm score -` over a stream of gigabytes, sampled twice per second.

    python benchmarks/score_memory.py [--gigabytes 2] [--level sentence]

The stream is generated while it is read: lines of 20 words of about 16 letters, drawn from half a million. The model
has one layer of 8 units, random weights and a vocabulary of 1,000 words, so that most tokens are unknown. It is this
small because the benchmark measures the processing of the text, not the network.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from common import KERASLM, random_run, random_words
from corpus import resident


def make_model(folder: Path) -> Path:
    import keraslm

    run = random_run(folder / "run", keraslm.Config().replace(units=8, num_layers=1), [" ".join(words()[:1000])])
    keraslm.export(run, folder / "model.onnx")
    return folder / "model.onnx"


def words() -> np.ndarray:
    return random_words(np.random.default_rng(1), 500_000, 10, 21)


def feed(stream, size: int) -> None:
    drawn, rng, written = words(), np.random.default_rng(2), 0
    while written < size:
        block = "\n".join(map(" ".join, rng.choice(drawn, (5_000, 20)))).encode() + b"\n"
        stream.write(block)
        written += len(block)
    stream.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--level", default="sentence")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(Path(folder))
        command = [*KERASLM, "score", str(model), "-", "--level", arguments.level]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1 << 20)
        threading.Thread(target=feed, args=(process.stdin, int(arguments.gigabytes * 1e9)), daemon=True).start()
        rows = [0]

        def count() -> None:
            for data in iter(lambda: process.stdout.read(1 << 20), b""):
                rows[0] += data.count(b"\n")

        reader = threading.Thread(target=count)
        reader.start()
        samples = []
        while process.poll() is None:
            samples.append(resident(process.pid))
            time.sleep(0.5)
        reader.join()
        seconds = time.perf_counter() - start
    tenth = max(1, len(samples) // 10)
    parts = (samples[tenth : 2 * tenth], samples[-tenth:], samples)
    early, late, peak = (max(part) / 1e6 for part in parts)
    print(f"{arguments.gigabytes:g} GB, --level {arguments.level}: {rows[0] - 1:,} rows in {seconds:.0f} s")
    print(
        f"resident memory, MB: {early:,.0f} in the second tenth of the time, {late:,.0f} in the last, {peak:,.0f} peak"
    )


if __name__ == "__main__":
    main()
