"""Resident memory of `keraslm score -` over a stream of gigabytes, sampled twice a second.

    python benchmarks/score_memory.py [--gigabytes 2] [--level sentence]

The stream is made as it is read: lines of 20 words of about 16 letters, drawn from half a million, so that most tokens
are unknown to the model, one layer of 8 units and a vocabulary of 1,000 words with random weights: the network is as
small as it can be, because the way of the text is measured here, not the network.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from corpus import resident


def make_model(folder: Path) -> Path:
    import keraslm
    from keraslm.config import Config
    from keraslm.config.shapes import weight_shapes
    from keraslm.runs.create import create_run
    from keraslm.runs.run import Run
    from keraslm.runs.weights import write_weights
    from keraslm.text.vocabulary import train_tokenizer

    config = Config().replace(units=8, num_layers=1)
    tokenizer = train_tokenizer([" ".join(words()[:1000])], config.data)
    run = Run(folder / "run", config, tokenizer)
    create_run(run, "torch", overwrite=False)
    rng = np.random.default_rng(0)
    shapes = weight_shapes(config.model, tokenizer.vocab_size)
    write_weights(run.weights_path, {name: rng.uniform(-0.1, 0.1, s).astype(np.float32) for name, s in shapes.items()})
    keraslm.export(run, folder / "model.onnx")
    return folder / "model.onnx"


def words() -> np.ndarray:
    rng = np.random.default_rng(1)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    return np.array(["".join(rng.choice(letters, n)) for n in rng.integers(10, 22, 500_000)])


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
        line = [sys.executable, "-c", "from keraslm.cli import main; main()", "score", model, "-", "--level"]
        start = time.perf_counter()
        process = subprocess.Popen(
            [*map(str, line), arguments.level], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1 << 20
        )
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
    print(f"resident memory, MB: {early:,.0f} in the second tenth, {late:,.0f} in the last, {peak:,.0f} peak")


if __name__ == "__main__":
    main()
