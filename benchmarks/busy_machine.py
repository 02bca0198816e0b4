"""Scoring and training beside busy processes, with different ways to wait for other threads.

    python benchmarks/busy_machine.py model.onnx text.txt [--busy 0 1 2]

Prints the mean time of a scoring call of N x T tokens in onnxruntime, and tokens per second of a training on torch.
Run it on an otherwise idle machine.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnxruntime

SHAPES = ((1, 1), (1, 8), (1, 25), (4, 25), (16, 25), (64, 25))
SPIN = "session.intra_op.allow_spinning"
SCORING = {
    "one thread": (1, {SPIN: "0"}),
    "spinning, the default of onnxruntime": (0, {SPIN: "1"}),
    "no spinning": (0, {SPIN: "0"}),
    "spinning for 20 us": (0, {SPIN: "1", "session.intra_op.spin_duration_us": "20"}),
}
TRAINING = {
    "the default of libgomp": {"GOMP_SPINCOUNT": "300000"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
}


def call_times(path: Path, threads: int, entries: dict[str, str]) -> list[float]:
    """Mean milliseconds of a call of each shape."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    for name, value in entries.items():
        options.add_session_config_entry(name, value)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    layers, units, vocabulary = (int(metadata[name]) for name in ("num_layers", "hidden_size", "vocab_size"))
    rng, found = np.random.default_rng(0), []
    for rows, steps in SHAPES:
        ids, zero = rng.integers(0, vocabulary, (rows, steps)), np.zeros((layers, rows, units), np.float32)
        feed = {"input_ids": ids, "h0": zero, "c0": zero, "targets": ids}
        calls, start = -5, time.perf_counter()
        while calls <= 0 or time.perf_counter() - start < 0.6:
            if calls == 0:
                start = time.perf_counter()
            session.run(["target_log_probs"], feed)
            calls += 1
        found.append(1e3 * (time.perf_counter() - start) / calls)
    return found


def training_rate(text: Path, variables: dict[str, str]) -> float:
    """Tokens per second in the second epoch of preset `small` on torch."""
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, "-m", "keraslm", "train", "--preset", "small", "--train", str(text), "--epochs", "2"]
        environment = os.environ | {"KERAS_BACKEND": "torch"} | variables
        subprocess.run(
            [*line, "--run", f"{folder}/run", "--progress", "none"],
            env=environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        *_, last = Path(folder, "run", "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return float(json.loads(last)["tokens_per_second"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    for busy in arguments.busy:
        with ExitStack() as stack:
            for _ in range(busy):
                process = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
                stack.callback(process.kill)
            print(f"beside {busy} busy processes; ms per call of {', '.join(f'{n} x {t}' for n, t in SHAPES)}")
            for name, (threads, entries) in SCORING.items():
                print(f"  {name:<40} {'  '.join(f'{ms:.3f}' for ms in call_times(arguments.model, threads, entries))}")
            for name, variables in TRAINING.items():
                print(f"  training, {name:<30} {training_rate(arguments.text, variables):,.0f} tokens per second")


if __name__ == "__main__":
    main()
